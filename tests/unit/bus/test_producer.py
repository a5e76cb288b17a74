import asyncio
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import TracerProvider

from lepton.bus.memory import MemoryBroker
from lepton.bus.producer import Producer, outgoing
from lepton.bus.records import Outgoing, Record, TopicPlan, Writer
from lepton.clock import FakeClock
from lepton.contracts import codec, topics
from lepton.contracts.envelope import Envelope
from lepton.contracts.pb import telemetry_pb2
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Missing
from lepton.runtime import tracing
from tests.harness.bus import read_all
from tests.unit.bus.test_care import FIRST, telemetry


async def broker_with(*names: str) -> MemoryBroker:
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan(name, 2, {}) for name in names])
    return broker


def instance() -> telemetry_pb2.Instance:
    message = telemetry_pb2.Instance(instance="ingest", service="ingest", boot_id="b",
                                     state=telemetry_pb2.INSTANCE_STATE_READY)
    message.at.FromMilliseconds(1_767_225_600_000)
    return message


async def test_a_message_is_encoded_by_its_topics_contract() -> None:
    broker = await broker_with(Topic.INSTANCES)
    producer = Producer(broker, "test")
    await producer.start()
    await producer.send(Topic.INSTANCES, instance(), key="ingest")
    await producer.send(Topic.INSTANCES, None, key="ingest")
    await producer.flush()
    await producer.stop()
    full, tombstone = await read_all(broker, Topic.INSTANCES)
    assert codec.decode(Topic.INSTANCES, full.value or b"") == instance()
    assert (full.key, tombstone.key, tombstone.value) == (b"ingest", b"ingest", None)


async def test_a_message_its_contract_refuses_is_never_written() -> None:
    broker = await broker_with(Topic.INSTANCES)
    with pytest.raises(Invalid):
        await Producer(broker, "test").send(Topic.INSTANCES, telemetry_pb2.Instance(), key="x")
    assert await read_all(broker, Topic.INSTANCES) == []


async def test_an_absent_topic_is_missing() -> None:
    with pytest.raises(Missing):
        await Producer(MemoryBroker(), "test").send(Topic.EVENTS, b"{}", key=b"k", pipeline="absent")


def test_pipeline_and_generation_choose_the_topic() -> None:
    record = outgoing(Topic.EVENTS, b"{}", key=b"\xff", pipeline="phishing", generation=2, partition=1)
    assert (record.topic, record.key, record.partition) == ("lepton-events-phishing-g2", b"\xff", 1)
    assert record.topic == topics.name(Topic.EVENTS, "phishing", 2)


def test_a_record_continues_the_current_trace_unless_its_envelope_names_one() -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("work"):
        current = tracing.traceparent()
        implicit = outgoing(Topic.EVENTS, b"{}", key="k", pipeline="p")
        named = outgoing(Topic.EVENTS, b"{}", key="k", pipeline="p", envelope=Envelope(traceparent=FIRST))
    assert current is not None
    assert dict(implicit.headers)["traceparent"] == current.encode()
    assert dict(named.headers)["traceparent"] == FIRST.encode()
    assert "traceparent" not in dict(outgoing(Topic.EVENTS, b"{}", key="k", pipeline="p").headers)


async def test_the_span_of_a_send_lies_between_the_sender_and_the_reader() -> None:
    observed, exporter = telemetry(FakeClock())
    broker = await broker_with("lepton-events-p")
    producer = Producer(broker, "test", observed)
    await producer.send(Topic.EVENTS, b"{}", key="k", pipeline="p", envelope=Envelope(traceparent=FIRST))
    span, = exporter.get_finished_spans()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == FIRST.split("-")[2]
    record, = await read_all(broker, "lepton-events-p")
    sent = dict(record.headers)["traceparent"].decode().split("-")
    assert sent[1:3] == [FIRST.split("-")[1], f"{span.context.span_id:016x}"]


async def test_many_records_go_together_in_order() -> None:
    broker = await broker_with("lepton-events-p")
    producer = Producer(broker, "test")
    placed = await producer.send_all([outgoing(Topic.EVENTS, b"%d" % number, key="same", pipeline="p")
                                      for number in range(10)])
    assert [record.offset for record in placed] == list(range(10))


class _Slow:
    """A writer that finishes when told, and knows how many sends it holds."""

    def __init__(self) -> None:
        self.held = 0
        self.most = 0
        self.go = asyncio.Event()

    async def start(self) -> None:
        self.held = 0

    async def stop(self) -> None:
        self.go.set()

    async def flush(self) -> None:
        self.go.set()

    async def send(self, record: Outgoing) -> Record:
        self.held += 1
        self.most = max(self.most, self.held)
        await self.go.wait()
        self.held -= 1
        return Record(record.topic, 0, 0, record.key, record.value)

    async def send_all(self, records: Sequence[Outgoing]) -> list[Record]:
        return [await self.send(record) for record in records]


async def test_no_more_than_the_bound_is_in_flight() -> None:
    slow = _Slow()

    class Broker(MemoryBroker):
        def writer(self, client_id: str) -> Writer:
            return slow

    producer = Producer(Broker(), "test", max_in_flight=3)
    sends = [asyncio.ensure_future(producer.send(Topic.EVENTS, b"{}", key="k", pipeline="p")) for _ in range(10)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert slow.held == 3
    slow.go.set()
    await asyncio.gather(*sends)
    assert slow.most == 3
