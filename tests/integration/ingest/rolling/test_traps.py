"""What is known to go wrong with Faust, one by one, and that the stage does not fall for it."""

import asyncio
from typing import Any

import faust
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lepton.bus.records import Outgoing, Record
from lepton.clock import SystemClock
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Unavailable
from lepton.runtime.health import Health
from lepton.runtime.settings import LeptonSettings
from lepton.runtime.telemetry import Telemetry
from services.ingest.edge.rolling import stage as stage_module
from services.ingest.edge.rolling.worker import Worker
from tests.harness.bus import read_all
from tests.harness.wait import apoll_until
from tests.integration.ingest.rolling.yard import Yard

pytestmark = pytest.mark.kafka


async def refuse_nothing(_: Record, error: Invalid) -> None:
    raise AssertionError(f"refused: {error}")


async def test_what_was_written_but_not_committed_is_read_again_and_counted_once(yard: Yard) -> None:
    """`exactly_once` is not: 48 of 20,000 were doubled. At least once, with the offset inside, is."""
    await yard.pipeline(yard.name)
    await yard.send(yard.name, 20)
    async with yard.rolling():
        await yard.until_counted(yard.name, 200)
        await yard.until_committed(yard.name, 20)
    await yard.rewind(yard.name)
    await yard.send(yard.name, 5)
    async with yard.rolling():
        await yard.until_committed(yard.name, 25)
        await yard.until_counted(yard.name, 250)


async def test_a_new_pipeline_is_read_without_a_pattern_and_without_losing_the_others(
        yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics by pattern receive nothing, in silence."""
    monkeypatch.setattr(stage_module, "TOPICS_EVERY_S", 1.0)
    first, second = yard.name, f"{yard.name}-b"
    await yard.pipeline(first)
    await yard.send(first, 4)
    async with yard.rolling():
        await yard.until_counted(first, 40)
        await yard.pipeline(second)
        await yard.send(second, 3)
        await yard.send(first, 1)
        await yard.until_counted(second, 30)
        await yard.until_counted(first, 50)


def test_a_table_of_faust_alone_cannot_be_written_outside_an_event() -> None:
    """Why the stage's table says its partition by itself; inside `take` there is no event either."""
    app = faust.App("trap", env={}, broker="kafka://127.0.0.1:1", store="memory://", web_enabled=False)
    table = app.Table("t", partitions=1)
    with pytest.raises(TypeError, match="outside of stream"):
        table["k"] = 1


async def test_a_summary_nobody_can_read_becomes_a_dead_letter_first(yard: Yard) -> None:
    """An agent that raises acknowledges its event, which is then gone."""
    topic = await yard.pipeline(yard.name)
    await yard.send(yard.name, 1)
    await yard.put(yard.name, b"\xff\x00", None)
    await yard.send(yard.name, 1)
    async with yard.rolling():
        await yard.until_counted(yard.name, 20)
        await yard.until_committed(yard.name, 4)
    letters = await read_all(yard.broker, topics.dead_letter_name(topic))
    assert [letter.value for letter in letters] == [b"\xff\x00", None]
    assert dict(letters[0].headers)["lepton-dead-place"] == f"{topic}/0@1".encode()


async def test_a_summary_of_another_pipeline_is_refused(yard: Yard) -> None:
    """Its roll-ups would have two owners, which overwrite each other."""
    topic = await yard.pipeline(yard.name)
    other = f"o{yard.name}"
    await yard.pipeline(other)
    async with yard.rolling():
        sent = yard.sent
        await yard.send(other, 1)
        stray = (await read_all(yard.broker, topics.name(Topic.QUALITY, other)))[-1].value
        await yard.put(yard.name, stray)
        await yard.send(yard.name, 1)
        await yard.until_counted(yard.name, 10)
    assert yard.sent == sent + 2
    (letter,) = await read_all(yard.broker, topics.dead_letter_name(topic))
    assert f"a summary of {other}".encode() in dict(letter.headers)["lepton-dead-reason"]


async def test_what_anybody_wrote_among_the_rollups_does_not_stop_the_next_worker(yard: Yard) -> None:
    """The table of a worker that begins is all of its topic."""
    await yard.pipeline(yard.name)
    await yard.send(yard.name, 1)
    async with yard.rolling():
        await yard.until_counted(yard.name, 10)
    writer = yard.broker.writer("stranger")
    await writer.start()
    keys = [b"no key", f"{yard.name}/1m/x".encode()]
    await writer.send_all([Outgoing(yard.table, b"\xff\x00\x01", key) for key in keys])
    await writer.stop()
    await yard.send(yard.name, 1)

    async def gone() -> bool:
        latest = {record.key: record.value for record in await read_all(yard.broker, yard.table)}
        return all(latest[key] is None for key in keys)

    async with yard.rolling():
        await apoll_until(gone, "what is no roll-up to be deleted", 60)
        await yard.until_counted(yard.name, 20)


async def test_a_bug_in_the_agent_ends_the_process_and_its_event_comes_again(yard: Yard) -> None:
    """Faust's worker lives on without its agent, with exit code 0, and the event counts as done."""
    topic = await yard.pipeline(yard.name)
    await yard.send(yard.name, 2)
    await yard.put(yard.name, b"\xff")

    def with_a_bug(connection: Any, names: Any, _: Any, care: Any) -> Worker:
        async def broken(__: Record, ___: Invalid) -> None:
            raise ZeroDivisionError("a bug")
        return Worker(connection, names, broken, care)

    with pytest.raises(ZeroDivisionError, match="a bug"):
        async with yard.rolling(yard.stage(worker=with_a_bug)) as running:
            await asyncio.wait({running}, timeout=60)
            assert running.done()
    async with yard.rolling():
        await yard.until_counted(yard.name, 20)
        await yard.until_committed(yard.name, 3)
    assert len(await read_all(yard.broker, topics.dead_letter_name(topic))) == 1


async def test_a_consumer_that_went_quiet_is_replaced(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rebalance Faust's consumer may read nothing for ever, and all looks well."""
    monkeypatch.setattr(stage_module, "QUIET_S", 2.0)
    monkeypatch.setattr(stage_module, "TOPICS_EVERY_S", 1.0)
    await yard.pipeline(yard.name)
    lives: list[Worker] = []

    class Quiet(Worker):
        """The first one gets partitions, and never a record."""

        async def start(self) -> None:
            lives.append(self)
            await super().start()

        async def _take(self, stream: Any, event: Any) -> None:
            if len(lives) == 1:
                await asyncio.Event().wait()
            await super()._take(stream, event)

        async def write(self) -> None:
            if len(lives) > 1:
                await super().write()

    health = Health(SystemClock())
    care = yard.care(progress=health.check("roll up", 600))
    await yard.send(yard.name, 3)
    async with yard.rolling(yard.stage(care, Quiet)):
        await yard.until_counted(yard.name, 30)
    assert len(lives) > 1


async def test_the_span_of_a_summary_continues_its_trace(yard: Yard) -> None:
    """Faust's consumer has a thread of its own, in which the trace is lost."""
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    clock = SystemClock()
    telemetry = Telemetry("ingest", "ingest", LeptonSettings(), clock, Health(clock))
    telemetry.tracer = provider.get_tracer("test")
    topic = await yard.pipeline(yard.name)
    trace = "0af7651916cd43dd8448eb211c80319c"
    await yard.send(yard.name, 1, headers=(("traceparent", f"00-{trace}-b7ad6b7169203331-01".encode()),))
    async with yard.rolling(yard.stage(yard.care(telemetry=telemetry))):
        await yard.until_counted(yard.name, 10)
    (span,) = [one for one in spans.get_finished_spans() if one.name == f"process {topic}"]
    assert span.context is not None and f"{span.context.trace_id:032x}" == trace
    assert span.parent is not None and f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert b'outcome="merged"' in telemetry.exposition()


class Jumping(SystemClock):
    """A clock that a frozen process wakes to."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


async def test_a_process_that_stood_still_writes_nothing_over_its_successor(yard: Yard) -> None:
    topic = await yard.pipeline(yard.name)
    await yard.send(yard.name, 1)
    clock = Jumping()
    worker = Worker(yard.connection, [topic], refuse_nothing, type(yard.care())(clock))
    await worker.start()

    async def taken() -> bool:
        worker.look()
        return bool(worker.held()) and worker.waiting > 0

    await apoll_until(taken, "a summary merged", 60)
    clock.ahead_s = 11.0
    with pytest.raises(Unavailable, match="stood still"):
        await worker.write()
    with pytest.raises(Unavailable, match="stood still"):
        worker.look()
    await worker.stop()
    assert await yard.rollups() == {}


async def test_two_members_count_every_summary_once_while_one_comes_and_goes(yard: Yard) -> None:
    await yard.pipeline(yard.name)
    await yard.send(yard.name, 5)
    async with yard.rolling():
        await yard.until_counted(yard.name, 50)
        async with yard.rolling():
            for total in (100, 150, 200):
                await yard.send(yard.name, 5)
                await yard.until_counted(yard.name, total)
        await yard.send(yard.name, 5)
        await yard.until_counted(yard.name, 250)

    async def settled() -> bool:
        held = await yard.broker.group_offsets(yard.connection.group)
        return list(held.values()) == [25]

    # Rows are written before their offsets are.
    await apoll_until(settled, "the offset behind every summary")
