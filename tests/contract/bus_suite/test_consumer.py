"""The consumer of single messages: each outcome, and what becomes of the offset."""

import asyncio

import pytest

from lepton.bus.care import Care
from lepton.bus.consumer import Consumer, Message, Subscription
from lepton.bus.letters.finding import read_letters
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.letters.settling import replay
from lepton.bus.records import Broker, Outgoing, Place
from lepton.bus.retry import RetryPolicy
from lepton.clock import SystemClock
from lepton.contracts.topics import dead_letter_name
from lepton.errors import Busy, Invalid, Missing, Refused, Unavailable
from lepton.runtime.health import Health
from tests.contract.bus_suite.conftest import MakeTopic
from tests.harness.bus import read_all, running
from tests.harness.wait import apoll_until


class Bench:
    """A topic of two partitions with dead letters, and what a handler saw of it."""

    def __init__(self, broker: Broker, group: str, topic: str) -> None:
        self.broker = broker
        self.group = group
        self.topic = topic
        self.seen: list[str] = []
        self.progress = Health(SystemClock()).check("consumer", 10.0)
        self.failures: dict[str, list[Exception]] = {}

    async def handle(self, message: Message) -> None:
        value = (message.record.value or b"").decode()
        self.seen.append(value)
        if self.failures.get(value):
            raise self.failures[value].pop(0)

    def consumer(self, *, limit: int | None = 100, retry: RetryPolicy | None = None) -> Consumer:
        return Consumer(self.broker, Subscription([self.topic], self.group, "one"), self.handle,
                        Care(SystemClock(), self.progress),
                        dead_letters=DeadLetters("suite", SystemClock(), limit=lambda _: limit), retry=retry)

    async def write(self, *values: str, partition: int = 0) -> None:
        writer = self.broker.writer("suite")
        await writer.start()
        await writer.send_all([Outgoing(self.topic, value.encode(), b"key", (("h", b"1"),), partition)
                               for value in values])
        await writer.stop()

    async def committed(self, partition: int, offset: int) -> None:
        async def there() -> bool:
            return (await self.broker.group_offsets(self.group)).get(Place(self.topic, partition)) == offset

        await apoll_until(there, f"offset {offset} of partition {partition}")


@pytest.fixture
async def bench(broker: Broker, make_topic: MakeTopic, group: str) -> Bench:
    topic = await make_topic("in", 2)
    await make_topic(name=dead_letter_name(topic))
    return Bench(broker, group, topic)


async def test_what_was_handled_is_committed_and_not_given_again(bench: Bench) -> None:
    await bench.write("a", "b", "c")
    async with running(bench.consumer().run):
        await bench.committed(0, 3)
    await bench.write("d")
    async with running(bench.consumer().run):
        await bench.committed(0, 4)
    assert bench.seen == ["a", "b", "c", "d"]


async def test_a_message_tried_again_keeps_its_place_while_other_partitions_go_on(bench: Bench) -> None:
    bench.failures["b"] = [Unavailable("away"), Busy("full", retry_after_s=0.2), Unavailable("away")]
    await bench.write("a", "b", "c")
    async with running(bench.consumer().run):
        await bench.write("x", "y", partition=1)
        await bench.committed(1, 2)
        await bench.committed(0, 3)
    mine = [value for value in bench.seen if value in "abc"]
    assert mine == ["a", "b", "b", "b", "b", "c"]
    assert [value for value in bench.seen if value in "xy"] == ["x", "y"]


@pytest.mark.parametrize("error", [Invalid("not a number", field="age"), Missing("no such model"),
                                   Refused("not signed")])
async def test_a_refused_message_becomes_a_dead_letter_with_its_bytes_and_the_reason(
        bench: Bench, error: Exception) -> None:
    bench.failures["\x00bad"] = [error]
    await bench.write("a", "\x00bad", "c")
    async with running(bench.consumer().run):
        await bench.committed(0, 3)
    assert bench.seen == ["a", "\x00bad", "c"]
    letter, = await read_letters(bench.broker, bench.topic)
    assert (letter.record.value, letter.record.key) == (b"\x00bad", b"key")
    assert ("h", b"1") in letter.record.headers
    assert letter.origin == f"{bench.topic}/0@1"
    assert letter.reason == str(error).partition(";")[0]
    assert letter.field == ("age" if isinstance(error, Invalid) else None)
    assert (letter.attempts, letter.service, letter.replayed) == (1, "suite", False)
    assert letter.at is not None


async def test_after_its_last_attempt_a_message_becomes_a_dead_letter(bench: Bench) -> None:
    bench.failures["a"] = [Unavailable("away")] * 9
    await bench.write("a", "b")
    async with running(bench.consumer(retry=RetryPolicy(attempts=3, first_s=0.01)).run):
        await bench.committed(0, 2)
    assert bench.seen == ["a", "a", "a", "b"]
    letter, = await read_letters(bench.broker, bench.topic)
    assert letter.attempts == 3


async def test_a_policy_may_discard_instead(bench: Bench) -> None:
    bench.failures["a"] = [Unavailable("away")] * 9
    await bench.write("a", "b")
    async with running(bench.consumer(retry=RetryPolicy(attempts=2, first_s=0.01, then="discard")).run):
        await bench.committed(0, 2)
    assert await read_letters(bench.broker, bench.topic) == []


async def test_a_topic_without_dead_letters_reports_and_passes_over(bench: Bench) -> None:
    bench.failures["a"] = [Invalid("bad")]
    await bench.write("a", "b")
    async with running(bench.consumer(limit=None).run):
        await bench.committed(0, 2)
    assert bench.seen == ["a", "b"]


async def test_past_the_limit_the_line_stops_and_the_message_stays(bench: Bench) -> None:
    values = [f"bad{number}" for number in range(6)]
    bench.failures = {value: [Invalid("bad")] for value in values}
    async with running(bench.consumer(limit=4).run):
        await bench.write(*values)

        async def stopped() -> bool:
            return bench.progress.failure() is not None

        await apoll_until(stopped, "the line to stop")
        await bench.committed(0, 4)
        await bench.write("after", partition=1)
    assert "more than 4 records" in str(bench.progress.failure())
    assert len(await read_letters(bench.broker, bench.topic)) == 4
    assert bench.seen == values[:5]
    assert Place(bench.topic, 1) not in await bench.broker.group_offsets(bench.group)


async def test_a_bug_in_the_handler_leaves_the_loop_and_commits_nothing_of_it(bench: Bench) -> None:
    bench.failures["a"] = [KeyError("bug")]
    await bench.write("a")
    with pytest.raises(KeyError):
        await bench.consumer().run(asyncio.Event())
    assert await bench.broker.group_offsets(bench.group) == {}


async def test_letters_go_back_once_where_they_came_from(bench: Bench) -> None:
    for value in ("p", "q", "r"):
        bench.failures[value] = [Invalid("bad")]
    await bench.write("p", "q", "r", partition=1)
    async with running(bench.consumer().run):
        await bench.committed(1, 3)
        would = await replay(bench.broker, bench.topic, lambda letter: letter.record.value != b"q", dry_run=True)
        assert [letter.record.value for letter in would] == [b"p", b"r"]
        assert len(bench.seen) == 3
        gone = await replay(bench.broker, bench.topic, lambda letter: letter.record.value != b"q")
        assert [letter.record.value for letter in gone] == [b"p", b"r"]
        assert await replay(bench.broker, bench.topic, lambda letter: letter.record.value != b"q") == []

        async def back() -> bool:
            return bench.seen[3:] == ["p", "r"]

        await apoll_until(back, "the letters to be handled")
    records = await read_all(bench.broker, bench.topic)
    assert [record.partition for record in records] == [1] * 5
    assert dict(records[-1].headers)["lepton-attempt"] == b"2"
    assert not any(name.startswith("lepton-dead") for name, _ in records[-1].headers)
    letters = await read_letters(bench.broker, bench.topic)
    assert [(letter.record.value, letter.replayed) for letter in letters] == [(b"p", True), (b"q", False), (b"r", True)]
