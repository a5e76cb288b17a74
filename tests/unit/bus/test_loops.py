"""Loops on a clock that stands still: what waits, waits, and says so."""

import asyncio
from collections.abc import Sequence

import pytest

from lepton.bus.care import Care
from lepton.bus.consumer import Consumer, Message, Subscription, message_of
from lepton.bus.deadletter import DeadLetters
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Place, Record, TopicPlan, TransactionalWriter, Writer
from lepton.bus.stage import BatchStage
from lepton.bus.table import StateReader, Table
from lepton.clock import FakeClock
from lepton.contracts.pb import outcomes_pb2
from lepton.contracts.topics import Topic, name
from lepton.errors import Busy, Invalid, Missing, Unavailable
from lepton.runtime.health import Health
from tests.harness.bus import Summing, read_all, running
from tests.harness.wait import apoll_until


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def broker(clock: FakeClock) -> MemoryBroker:
    made = MemoryBroker(clock)
    await made.create_topics([TopicPlan(topic, 2, {}) for topic in ("in", "out", "state")])
    await made.writer("test").send_all([Outgoing("in", b"%d" % number, partition=number % 2) for number in range(6)])
    return made


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


async def test_a_writer_that_cannot_open_is_tried_again(clock: FakeClock) -> None:
    class Reluctant(MemoryBroker):
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

    broker = Reluctant(clock)
    await broker.create_topics([TopicPlan(topic, 2, {}) for topic in ("in", "out", "state")])
    await broker.writer("test").send_all([Outgoing("in", b"1", partition=0), Outgoing("in", b"2", partition=1)])
    async with running(stage_of(broker, Summing("out", "state"), Care(clock)).run):
        async def done() -> bool:
            await clock.advance(0.2)
            return await offsets(broker, 2)

        await apoll_until(done, "both partitions")


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


async def test_a_message_waits_its_time_before_it_is_tried_again(broker: MemoryBroker, clock: FakeClock) -> None:
    health = Health(clock)
    seen: list[bytes | None] = []

    async def handle(message: Message) -> None:
        seen.append(message.record.value)
        if seen.count(b"0") < 3 and message.record.value == b"0":
            raise Unavailable("away")

    consumer = Consumer(broker, Subscription(["in"], "group", "one"), handle, Care(clock, health.check("loop", 5.0)),
                        dead_letters=DeadLetters("test", clock, limit=lambda _: 10))
    async with running(consumer.run):
        await apoll_until(lambda: offsets(broker, 3), "the other partition to be done")
        for pause_s, tries in ((0.1, 2), (0.2, 3)):
            await clock.advance(pause_s - 0.01)
            await broker.writer("test").send(Outgoing("in", b"more", partition=1))
            assert seen.count(b"0") == tries - 1
            await clock.advance(0.02)

            async def tried(tries: int = tries) -> bool:
                return seen.count(b"0") == tries

            await apoll_until(tried, f"attempt {tries}")
        await apoll_until(lambda: offsets(broker, 8), "everything committed")
    assert [value for value in seen if value in (b"0", b"2", b"4")] == [b"0", b"0", b"0", b"2", b"4"]


async def test_a_table_keeps_what_it_knows_while_the_bus_is_away(clock: FakeClock) -> None:
    broker = MemoryBroker(clock)
    await broker.create_topics([TopicPlan("table", 1, {})])
    await broker.writer("test").send_all([Outgoing("table", b"1", b"a"), Outgoing("table", b"no key")])
    health = Health(clock)
    refused: list[Record] = []
    table = Table(broker, "table", lambda record: record.value, client_id="test",
                  care=Care(clock, health.check("table", 5.0)), on_invalid=lambda record, _: refused.append(record))
    await table.start()
    assert [record.value for record in refused] == [b"no key"]
    away = True
    real = table._reader.poll

    async def poll(*, max_records: int, timeout_s: float) -> object:
        if away:
            raise Unavailable("no broker")
        return await real(max_records=max_records, timeout_s=timeout_s)

    table._reader.poll = poll  # type: ignore[method-assign,assignment]
    stop = asyncio.Event()
    task = asyncio.ensure_future(table.run(stop))
    for _ in range(6):
        await clock.advance(1)
    assert table.values == {"a": b"1"}
    assert "no progress" in str(health.failing())
    away = False
    await broker.writer("test").send(Outgoing("table", b"2", b"a"))
    await clock.advance(1)

    async def followed() -> bool:
        return table.values == {"a": b"2"}

    await apoll_until(followed, "the table to follow")
    assert not health.failing()
    stop.set()
    await task
    await table.stop()


def test_a_record_is_read_by_its_topics_contract() -> None:
    topic = name(Topic.OUTCOMES, "phishing")
    outcome = outcomes_pb2.Outcome(event_id="e1", entity="x")
    with pytest.raises(Invalid):
        message_of(Record(topic, 0, 0, b"e1", outcome.SerializeToString()))
    with pytest.raises(Invalid, match="no value"):
        message_of(Record(topic, 0, 0, b"e1", None))
    with pytest.raises(Invalid, match="not UTF-8"):
        message_of(Record("other", 0, 0, b"k", b"v", (("ce_id", b"\xff"),)))
    assert message_of(Record(Topic.MODELS, 0, 0, b"m", None)).payload is None
    events = message_of(Record(name(Topic.EVENTS, "p"), 0, 0, b"k", b"{}", (("ce_source", b"sensor"),)))
    assert (events.payload, events.envelope.source) == (b"{}", "sensor")


async def test_memory_refuses_what_kafka_would(clock: FakeClock) -> None:
    broker = MemoryBroker(clock)
    await broker.create_topics([TopicPlan("in", 1, {})])
    with pytest.raises(Missing):
        await broker.reader(["absent"], group="g", client_id="one").start()
    alone = broker.reader(["in"], group=None, client_id="one")
    await alone.start()
    with pytest.raises(Invalid, match="without a group"):
        await alone.commit({Place("in", 0): 1})
    with pytest.raises(Invalid, match="without a group"):
        await alone.committed([Place("in", 0)])
    await alone.rejoin()
    assert alone.assignment() == {Place("in", 0)}
    await alone.stop()
    assert await broker.group_offsets("never heard of") == {}
    await broker.ping()
    await broker.close()


class _Stubborn(MemoryBroker):
    """Its writers cannot be reached for a while."""

    refusals = 0

    def writer(self, client_id: str) -> Writer:
        return _StubbornWriter(self, super().writer(client_id))


class _StubbornWriter:
    def __init__(self, broker: _Stubborn, inner: Writer) -> None:
        self._broker = broker
        self.start, self.stop, self.flush, self.send_all = inner.start, inner.stop, inner.flush, inner.send_all
        self._send = inner.send

    async def send(self, record: Outgoing) -> Record:
        if self._broker.refusals:
            self._broker.refusals -= 1
            raise Unavailable("no broker")
        return await self._send(record)


async def test_without_its_dead_letter_a_refused_message_is_not_passed_over(clock: FakeClock) -> None:
    broker = _Stubborn(clock)
    await broker.create_topics([TopicPlan("in", 1, {}), TopicPlan("in-dead-letters", 1, {})])
    await broker.writer("test").send_all([Outgoing("in", b"bad"), Outgoing("in", b"good")])
    broker.refusals = 2
    seen: list[bytes | None] = []

    async def handle(message: Message) -> None:
        seen.append(message.record.value)
        if message.record.value == b"bad":
            raise Invalid("bad")

    consumer = Consumer(broker, Subscription(["in"], "group", "one"), handle, Care(clock),
                        dead_letters=DeadLetters("test", clock, limit=lambda _: 10))
    async with running(consumer.run):
        async def done() -> bool:
            await clock.advance(0.5)
            return await offsets(broker, 2)

        await apoll_until(done, "both messages")
    assert seen == [b"bad", b"bad", b"bad", b"good"]
    letters = await read_all(broker, "in-dead-letters")
    assert [record.value for record in letters] == [b"bad"]
    assert dict(letters[0].headers)["lepton-dead-attempts"] == b"3"


async def test_a_commit_that_comes_too_late_leaves_the_message_to_the_next_owner(
        broker: MemoryBroker, clock: FakeClock) -> None:
    seen: list[tuple[str, bytes | None]] = []
    thief = broker.reader(["in"], group="group", client_id="one")

    async def slow(message: Message) -> None:
        seen.append(("slow", message.record.value))
        if len(seen) == 1:
            # Another process of the same name comes up while this one is at work.
            await thief.start()

    consumer = Consumer(broker, Subscription(["in"], "group", "one"), slow, Care(clock),
                        dead_letters=DeadLetters("test", clock, limit=lambda _: 10))
    async with running(consumer.run):
        async def begun() -> bool:
            return len(thief.assignment()) == 2

        await apoll_until(begun, "the other process")
        found = await thief.poll(max_records=100, timeout_s=1)
        assert sum(len(records) for records in found.values()) == 6
    assert await broker.group_offsets("group") == {}
    await thief.stop()


async def test_a_rebalance_ends_the_wait_of_a_partition_that_went_away(broker: MemoryBroker, clock: FakeClock) -> None:
    tried: list[bytes | None] = []

    async def away(message: Message) -> None:
        tried.append(message.record.value)
        raise Unavailable("away")

    consumer = Consumer(broker, Subscription(["in"], "group", "b"), away, Care(clock),
                        dead_letters=DeadLetters("test", clock, limit=lambda _: 10))
    async with running(consumer.run):
        async def both() -> bool:
            return len(tried) == 2

        await apoll_until(both, "a first try of both partitions")
        other = broker.reader(["in"], group="group", client_id="a")
        await other.start()
        assert other.assignment() == {Place("in", 0)}

        async def again() -> bool:
            return len(tried) == 3

        await apoll_until(again, "the partition kept to begin anew")
        assert tried[2] == b"1"
        await other.stop()
