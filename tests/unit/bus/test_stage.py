"""The batch stage on a clock that stands still: what waits, waits, and says so."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lepton.bus.care import Care
from lepton.bus.consumer import Subscription
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Place, Reader, Record, TopicPlan, TransactionalWriter
from lepton.bus.stage import BatchStage
from lepton.bus.table import StateReader
from lepton.clock import FakeClock
from lepton.errors import Busy, Unavailable
from lepton.runtime.health import Health
from tests.harness.bus import Summing, running
from tests.harness.wait import apoll_until


async def offsets(broker: MemoryBroker, count: int) -> bool:
    return sum((await broker.group_offsets("group")).values()) == count


class _Once(Summing):
    """Fails with what it is given, once."""

    def __init__(self, error: Exception, at: str) -> None:
        super().__init__("out", "state")
        self.error: Exception | None = error
        self.at = at

    def _fail(self, at: str) -> None:
        error, self.error = (self.error, None) if at == self.at else (None, self.error)
        if error is not None:
            raise error

    async def restore(self, place: Place, state: StateReader) -> None:
        await super().restore(place, state)
        self._fail("restore")

    async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
        results = await super().handle(place, records)
        self._fail("handle")
        return results


def stage_of(broker: MemoryBroker, handler: Summing, care: Care) -> BatchStage:
    return BatchStage(broker, Subscription(["in"], "group", "one"), handler, care, writer_prefix="stage")


@pytest.mark.parametrize("at", ["handle", "restore"])
@pytest.mark.parametrize("error", [Unavailable("away"), Busy("full", retry_after_s=0.1)])
async def test_a_partition_that_cannot_go_on_waits_alone_and_shows_it(
        broker: MemoryBroker, clock: FakeClock, at: str, error: Exception) -> None:
    health = Health(clock)
    handler = _Once(error, at)
    stage = stage_of(broker, handler, Care(clock, health.check("stage", 5.0)))
    async with running(stage.run):
        await apoll_until(lambda: offsets(broker, 3), "the other partition to be done")
        await clock.advance(0.09)
        await broker.writer("test").send_all([Outgoing("in", b"0", partition=partition) for partition in (0, 1)])
        await apoll_until(lambda: offsets(broker, 4), "the other partition to go on")
        assert stage.stopped_by is None
        await clock.advance(0.02)
        await apoll_until(lambda: offsets(broker, 8), "the waiting partition to go on")
        assert not health.failing()


async def test_a_partition_that_keeps_failing_is_not_hidden_by_the_others(
        broker: MemoryBroker, clock: FakeClock) -> None:
    health = Health(clock)

    class Half(Summing):
        async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
            if place.partition == 0:
                raise Unavailable("away")
            return await super().handle(place, records)

    async with running(stage_of(broker, Half("out", "state"), Care(clock, health.check("stage", 5.0))).run):
        await apoll_until(lambda: offsets(broker, 3), "the other partition to be done")
        await clock.advance(5.5)
        assert "no progress" in str(health.failing())


async def test_an_absent_result_topic_is_waited_for(broker: MemoryBroker, clock: FakeClock) -> None:
    async with running(stage_of(broker, Summing("later", "state"), Care(clock)).run):
        async def some() -> bool:
            await clock.advance(1)
            return clock.monotonic() > 5

        await apoll_until(some, "some attempts")
        assert await broker.group_offsets("group") == {}
        await broker.create_topics([TopicPlan("later", 2, {})])

        async def done() -> bool:
            await clock.advance(10)
            return await offsets(broker, 6)

        await apoll_until(done, "the batches to count")


class Reluctant(MemoryBroker):
    """Its first transactional writers do not open."""

    refusals = 2

    def transactional_writer(self, transactional_id: str) -> TransactionalWriter:
        if self.refusals:
            self.refusals -= 1
            return _Shut()
        return super().transactional_writer(transactional_id)


class _Shut:
    async def start(self) -> None:
        raise Unavailable("no coordinator")

    async def stop(self) -> None:
        raise AssertionError("was never open")

    async def commit(self, *_: object) -> list[Record]:
        raise AssertionError("was never open")


async def test_a_writer_that_cannot_open_is_tried_again(clock: FakeClock) -> None:
    broker = Reluctant(clock)
    await broker.create_topics([TopicPlan(topic, 2, {}) for topic in ("in", "out", "state")])
    await broker.writer("test").send_all([Outgoing("in", b"1", partition=0), Outgoing("in", b"2", partition=1)])
    async with running(stage_of(broker, Summing("out", "state"), Care(clock)).run):
        async def done() -> bool:
            await clock.advance(0.2)
            return await offsets(broker, 2)

        await apoll_until(done, "both partitions")


async def test_a_setback_of_partitions_for_which_nothing_waits_is_overcome_once_they_are_open(clock: FakeClock) -> None:
    broker, health = Reluctant(clock), Health(clock)
    await broker.create_topics([TopicPlan(topic, 2, {}) for topic in ("in", "out", "state")])
    stage = stage_of(broker, Summing("out", "state"), Care(clock, health.check("stage", 5.0)))
    async with running(stage.run):
        async def open_and_alive() -> bool:
            await clock.advance(2.0)
            return clock.monotonic() > 20 and len(stage.places) == 2 and not health.failing()

        await apoll_until(open_and_alive, "progress without a record")


async def test_a_stage_may_begin_at_the_end(broker: MemoryBroker, clock: FakeClock) -> None:
    stage = BatchStage(broker, Subscription(["in"], "group", "one", "latest"), Summing("out", "state"), Care(clock),
                       writer_prefix="stage")
    async with running(stage.run):
        async def ready() -> bool:
            return len(stage.places) == 2

        await apoll_until(ready, "both partitions")
        await broker.writer("test").send(Outgoing("in", b"9", partition=0))

        async def done() -> bool:
            return await broker.group_offsets("group") == {Place("in", 0): 4}

        await apoll_until(done, "the new record")


async def test_a_stage_over_two_topics_has_a_writer_for_each_partition_of_each(clock: FakeClock) -> None:
    broker = MemoryBroker(clock)
    await broker.create_topics([TopicPlan(topic, 2, {}) for topic in ("in", "more", "out", "state")])
    for topic in ("in", "more"):
        await broker.writer("test").send_all([Outgoing(topic, b"1", partition=partition) for partition in (0, 1)])
    stage = BatchStage(broker, Subscription(["in", "more"], "group", "one"), Summing("out", "state"), Care(clock),
                       writer_prefix="stage")
    async with running(stage.run):
        await apoll_until(lambda: offsets(broker, 4), "all four partitions")
        assert all(broker.fence(f"stage.{number}{suffix}") == 2 for number in (0, 1) for suffix in ("", ".more"))


class _Held(MemoryBroker):
    """Its transactions end when told, and its readers count how often they are asked."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.may_end = asyncio.Event()
        self.waiting = self.polls = 0

    def transactional_writer(self, transactional_id: str) -> TransactionalWriter:
        writer = super().transactional_writer(transactional_id)
        commit = writer.commit

        async def held(records: Sequence[Outgoing], offsets: Mapping[Place, int], group: str) -> list[Record]:
            self.waiting += 1
            await self.may_end.wait()
            return await commit(records, offsets, group)

        writer.commit = held  # type: ignore[method-assign]
        return writer

    def reader(self, *told: Any, **options: Any) -> Reader:
        reader = super().reader(*told, **options)
        poll = reader.poll

        async def counted(**asked: Any) -> Mapping[Place, Sequence[Record]]:
            self.polls += 1
            return await poll(**asked)

        reader.poll = counted  # type: ignore[method-assign]
        return reader


async def test_nobody_is_asked_for_records_while_every_partition_waits_for_its_commit(clock: FakeClock) -> None:
    broker = _Held(clock)
    await broker.create_topics([TopicPlan(topic, 2, {}) for topic in ("in", "out", "state")])
    await broker.writer("test").send_all([Outgoing("in", b"1", partition=0), Outgoing("in", b"2", partition=1)])
    async with running(stage_of(broker, Summing("out", "state"), Care(clock)).run):
        async def both_wait() -> bool:
            return broker.waiting == 2

        await apoll_until(both_wait, "both partitions to wait")
        polls, since = broker.polls, time.monotonic()
        await broker.writer("test").send_all([Outgoing("in", b"3", partition=0), Outgoing("in", b"4", partition=1)])

        async def later() -> bool:
            return time.monotonic() > since + 0.1

        await apoll_until(later, "time for many polls")
        assert broker.polls <= polls + 1
        broker.may_end.set()
        await apoll_until(lambda: offsets(broker, 4), "all four records")


async def test_a_partition_whose_batch_ends_is_read_at_once_not_when_the_poll_under_way_is_over(
        clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    # No poll ends by itself.
    monkeypatch.setattr("lepton.bus.stage.POLL_S", 3600.0)
    broker = _Held(clock)
    await broker.create_topics([TopicPlan(topic, 2, {}) for topic in ("in", "out", "state")])
    write = broker.writer("test")
    stage = stage_of(broker, Summing("out", "state"), Care(clock))
    async with running(stage.run) as stop:
        async def owned() -> bool:
            return len(stage.places) == 2

        await write.send(Outgoing("in", b"1", partition=0))

        async def waits() -> bool:
            return broker.waiting == 1

        await apoll_until(waits, "the batch of one partition to wait for its commit")
        await apoll_until(owned, "both partitions")
        await write.send(Outgoing("in", b"2", partition=0))
        broker.may_end.set()
        await apoll_until(lambda: offsets(broker, 2), "what came behind that batch", 20)
        stop.set()
        # To end the last poll.
        await write.send(Outgoing("in", b"3", partition=1))


class _BehindOpen(MemoryBroker):
    """Somebody's transaction, begun when all had been written, stays open in partition 0 of the state."""

    open = True

    def reader(self, topics: Sequence[str], **how: Any) -> Reader:
        reader = super().reader(topics, **how)
        ask = reader.high_watermarks

        async def asked(places: Sequence[Place]) -> Mapping[Place, int]:
            return {place: end + (self.open and place == Place("state", 0))
                    for place, end in (await ask(places)).items()}

        reader.high_watermarks = asked  # type: ignore[method-assign]
        return reader


async def test_a_partition_whose_state_is_hidden_waits_alone_and_shows_it(clock: FakeClock) -> None:
    broker, health = _BehindOpen(clock), Health(clock)
    await broker.create_topics([TopicPlan(topic, 2, {}) for topic in ("in", "out", "state")])
    await broker.writer("test").send_all([Outgoing("in", b"%d" % number, partition=number % 2) for number in range(6)])
    stage = stage_of(broker, Summing("out", "state"), Care(clock, health.check("stage", 5.0)))
    async with running(stage.run):
        async def shown() -> bool:
            await clock.advance(0.1)
            return await offsets(broker, 3) and bool(health.failing())

        await apoll_until(shown, "the other partition to be done, and no sign of progress")
        assert stage.places == {Place("in", 1)}
        assert "no progress" in str(health.failing())
        broker.open = False

        async def done() -> bool:
            await clock.advance(1.0)
            return await offsets(broker, 6) and not health.failing()

        await apoll_until(done, "all partitions")
