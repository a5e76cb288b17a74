import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lepton.bus.memory import MemoryBroker
from lepton.bus.presence import Connection, announce
from lepton.bus.producer import Producer
from lepton.bus.records import TopicPlan
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from lepton.errors import Missing
from lepton.runtime.service import Service, Stage
from lepton.runtime.settings import LeptonSettings
from tests.harness.bus import read_all
from tests.harness.wait import apoll_until


async def test_heartbeats_and_announcements_open_no_spans_though_the_producer_does() -> None:
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
    service = Service("kiln", LeptonSettings(instance="kiln-0", heartbeat_interval_s=0.05))
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    service.telemetry.tracer = provider.get_tracer("kiln")
    producer = Producer(broker, "kiln-0", service.telemetry)
    service.add(Stage.STORE, "broker", Connection(broker))
    service.add(Stage.BUS, "producer", producer)
    announce(service, producer)

    running = asyncio.ensure_future(service.run())

    async def told() -> bool:
        beats = await read_all(broker, topics.name(Topic.TELEMETRY))
        return len(beats) >= 3 and bool(await read_all(broker, topics.name(Topic.INSTANCES)))

    await apoll_until(told, "heartbeats and an announcement")
    assert spans.get_finished_spans() == ()
    await producer.send(Topic.AUDIT, b"", key="kiln-0")
    assert len(spans.get_finished_spans()) == 1, "all else this producer sends has a span"
    service.request_stop()
    assert await running == 0
    assert (await read_all(broker, topics.name(Topic.INSTANCES)))[-1].value is None


@pytest.mark.parametrize("expected", [None, [Topic.AUDIT, Topic.INCIDENTS]])
async def test_a_process_does_not_start_without_its_topics(expected: list[Topic] | None) -> None:
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans() if plan[0] != topics.name(Topic.AUDIT)])
    with pytest.raises(Missing, match=topics.name(Topic.AUDIT)):
        await Connection(broker, expected).start()


async def test_topics_that_are_not_expected_may_be_absent() -> None:
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan(topics.name(Topic.AUDIT), 1, {})])
    await Connection(broker, [Topic.AUDIT]).start()
