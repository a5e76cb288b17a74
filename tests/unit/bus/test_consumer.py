"""The consumer on a clock that stands still: when it tries again, and what it never passes over."""


import pytest

from lepton.bus.care import Care
from lepton.bus.consumer import Consumer, Message, Subscription, message_of
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Place, Record, TopicPlan, Writer
from lepton.clock import FakeClock
from lepton.contracts.pb import outcomes_pb2
from lepton.contracts.topics import Topic, name
from lepton.errors import Invalid, Unavailable
from lepton.runtime.health import Health
from tests.harness.bus import read_all, running
from tests.harness.wait import apoll_until


async def offsets(broker: MemoryBroker, count: int) -> bool:
    return sum((await broker.group_offsets("group")).values()) == count


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
