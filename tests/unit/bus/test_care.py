import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lepton.bus.care import Care, LagWatch, Turn, traceparent_of
from lepton.bus.inside.group import MemoryReader
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Place, Record, TopicPlan
from lepton.clock import FakeClock
from lepton.errors import Unavailable
from lepton.runtime.health import Health
from lepton.runtime.settings import LeptonSettings
from lepton.runtime.telemetry import Telemetry
from tests.harness.wait import apoll_until

FIRST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECOND = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"


class TestSettings(LeptonSettings):
    __test__ = False
    service: ClassVar[str] = "test"


def record(offset: int, traceparent: str | None = None) -> Record:
    headers = () if traceparent is None else (("traceparent", traceparent.encode()),)
    return Record("in", 0, offset, None, b"v", headers)


def telemetry(clock: FakeClock) -> tuple[Telemetry, InMemorySpanExporter]:
    made = Telemetry("test", "test", TestSettings(), clock, Health(clock))
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    made.tracer = provider.get_tracer("test")
    return made, exporter


def test_a_batch_of_one_trace_continues_it() -> None:
    observed, exporter = telemetry(FakeClock())
    with Care(FakeClock(), telemetry=observed).span("process in", [record(0, FIRST), record(1, FIRST), record(2)]):
        pass
    span, = exporter.get_finished_spans()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == FIRST.split("-")[2]
    assert f"{span.context.trace_id:032x}" == FIRST.split("-")[1]
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 3
    assert span.attributes["messaging.destination.partition.id"] == "0"


def test_a_batch_of_several_traces_begins_its_own() -> None:
    observed, exporter = telemetry(FakeClock())
    with Care(FakeClock(), telemetry=observed).span("process in", [record(0, FIRST), record(1, SECOND)]):
        pass
    span, = exporter.get_finished_spans()
    assert span.parent is None


def test_without_telemetry_or_records_there_is_no_span() -> None:
    observed, exporter = telemetry(FakeClock())
    with Care(FakeClock()).span("process in", [record(0, FIRST)]):
        pass
    with Care(FakeClock(), telemetry=observed).span("process in", []):
        pass
    assert exporter.get_finished_spans() == ()
    assert traceparent_of(record(0)) is None


def test_a_failure_is_told_to_the_check_and_to_telemetry(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    observed, _ = telemetry(clock)
    health = Health(clock)
    care = Care(clock, health.check("loop", 5.0), observed)
    care.fail("line_stopped", "all is bad", "in/0@1")
    assert "all is bad" in str(health.failing())
    assert b'lepton_errors_total{kind="line_stopped"' in observed.exposition()
    Care(clock).fail("line_stopped", "said in the log")
    assert "said in the log" in caplog.text


async def test_a_hand_over_waits_for_the_batch_in_hand() -> None:
    turn = Turn()
    order: list[str] = []

    async def work() -> None:
        async with turn:
            order.append("begun")
            await apoll_until(wanted, "the rebalance to ask", every_s=0.0)
            order.append("done")

    async def wanted() -> bool:
        return turn.wanted

    async def rebalance() -> None:
        await turn.hand_over()
        order.append("handed over")

    await asyncio.gather(work(), rebalance())
    assert order == ["begun", "done", "handed over"]
    assert not turn.wanted


async def test_a_hand_over_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton.bus.care.HANDOVER_S", 0.01)
    turn = Turn()
    async with turn:
        await turn.hand_over()
    assert not turn.wanted


class _Unreachable(MemoryReader):
    async def end_offsets(self, places: Sequence[Place]) -> Mapping[Place, int]:
        raise Unavailable("no broker")


async def watched(reader_class: type[MemoryReader] = MemoryReader) -> tuple[FakeClock, LagWatch, MemoryReader, Health]:
    clock = FakeClock()
    broker = MemoryBroker(clock)
    await broker.create_topics([TopicPlan("in", 1, {})])
    await broker.writer("test").send(Outgoing("in", b"waits"))
    reader = reader_class(broker, ("in",), None, "test", "earliest", (None, None))
    await reader.start()
    health = Health(clock)
    return clock, LagWatch(reader, Care(clock, health.check("loop", 5.0))), reader, health


async def test_silence_with_records_waiting_is_no_progress() -> None:
    clock, watch, reader, health = await watched()
    for _ in range(6):
        await clock.advance(1)
        await watch.idle()
    assert "no progress" in str(health.failing())
    await reader.poll(max_records=10, timeout_s=0)
    await clock.advance(1)
    await watch.idle()
    assert not health.failing()


async def test_a_moved_offset_is_progress() -> None:
    clock, watch, _, health = await watched()
    await clock.advance(6)
    watch.moved()
    assert not health.failing()


async def test_a_bus_that_cannot_be_asked_is_no_progress() -> None:
    clock, watch, _, health = await watched(_Unreachable)
    await clock.advance(6)
    await watch.idle()
    assert "no progress" in str(health.failing())


async def test_the_broker_is_asked_once_a_second_at_most() -> None:
    clock, watch, reader, health = await watched()
    await clock.advance(4)
    await watch.idle()
    await reader.poll(max_records=10, timeout_s=0)
    await clock.advance(0.5)
    await watch.idle()
    await clock.advance(0.6)
    assert "no progress" in str(health.failing())
    await watch.idle()
    assert not health.failing()


async def test_what_waits_is_told_by_topic_once_a_second() -> None:
    clock, _, reader, health = await watched()
    telemetry = Telemetry("kiln", "kiln-0", LeptonSettings(instance="kiln-0"), clock, health)
    watch = LagWatch(reader, Care(clock, telemetry=telemetry))
    watch.moved()
    assert lags(telemetry) == [(1, {"topic": "in"})]
    watch.moved()
    assert lags(telemetry) == []
    await reader.poll(max_records=10, timeout_s=0)
    await clock.advance(1)
    await watch.idle()
    assert lags(telemetry) == [(0, {"topic": "in"})]


def lags(telemetry: Telemetry) -> list[tuple[float, dict[str, str]]]:
    """What the next heartbeat says of records that wait."""
    return [(one.value, dict(one.attributes)) for one in telemetry.pulse._next().measurements
            if one.name == "lepton_consumer_lag"]
