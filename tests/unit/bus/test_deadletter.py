import asyncio

import pytest

from lepton.bus.letters.aside import Aside
from lepton.bus.letters.finding import read_letters
from lepton.bus.letters.refusing import DeadLetters, LineStopped, Refusal, limit_of
from lepton.bus.letters.settling import replay
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Record, TopicPlan
from lepton.clock import FakeClock
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from lepton.errors import Invalid


def record(offset: int, **changes: object) -> Record:
    given: dict[str, object] = {"topic": "in", "partition": 3, "offset": offset, "key": b"k", "value": b"\x00v"}
    return Record(**{**given, **changes})  # type: ignore[arg-type]


def dead_letters(clock: FakeClock, limit: int | None = 3) -> DeadLetters:
    return DeadLetters("ingest", clock, limit=lambda _: limit)


def test_a_letter_keeps_the_bytes_and_says_what_is_known() -> None:
    error = Invalid("not a number", field="age", remedy="send a number")
    letter = dead_letters(FakeClock()).letter(record(7, headers=(("ce_id", b"e1"),)), error, attempts=2)
    assert (letter.topic, letter.value, letter.key) == ("in-dead-letters", b"\x00v", b"k")
    assert dict(letter.headers) == {
        "ce_id": b"e1", "lepton-dead-reason": b"not a number", "lepton-dead-field": b"age",
        "lepton-dead-place": b"in/3@7", "lepton-dead-attempts": b"2", "lepton-dead-service": b"ingest",
        "lepton-dead-at": b"2026-01-01T00:00:00+00:00"}


def test_headers_of_an_earlier_refusal_are_replaced() -> None:
    letter = dead_letters(FakeClock()).letter(record(0, headers=(("lepton-dead-reason", b"old"),)), Invalid("new"))
    assert [value for name, value in letter.headers if name == "lepton-dead-reason"] == [b"new"]


def test_an_endless_reason_is_cut() -> None:
    letter = dead_letters(FakeClock()).letter(record(0), Invalid("x" * 100_000))
    assert len(dict(letter.headers)["lepton-dead-reason"]) == 4096


def test_letters_of_many_say_what_each_alone_would() -> None:
    dead, alone = dead_letters(FakeClock(), 9), dead_letters(FakeClock(), 9)
    old, own = (("lepton-dead-at", b"then"), ("ce_id", b"e1")), (("content-type", b"application/json"),)
    whole, empty = record(1, headers=old), record(2, key=None, value=None)
    found = dead.letters([Refusal(whole, "malformed: no", None), Refusal(whole, "late: by far", "at", 4, b"{}", own),
                          Refusal(whole, "late: by far", "at", 5, b"[]", own), Refusal(empty, "missing: all")])
    assert found == [
        alone.letter(whole, Invalid("malformed: no")),
        alone.letter(record(1, value=b"{}", headers=own), Invalid("late: by far", field="at"), row=4),
        alone.letter(record(1, value=b"[]", headers=own), Invalid("late: by far", field="at"), row=5),
        alone.letter(empty, Invalid("missing: all"))]
    assert dict(found[2].headers)["lepton-dead-place"] == b"in/3@1#5"


def test_many_at_once_stop_the_line_at_the_one_too_many_and_those_asked_for_never_do() -> None:
    dead = dead_letters(FakeClock())
    dead.letters([Refusal(record(0), "quarantined", None, row, b"{}", counted=False) for row in range(9)])
    with pytest.raises(LineStopped) as caught:
        dead.letters([Refusal(record(offset), "bad") for offset in (1, 1, 2, 3, 4, 5)])
    assert caught.value.place == "in/3@4"


async def test_past_the_limit_within_the_window_the_line_stops() -> None:
    clock = FakeClock()
    dead = dead_letters(clock)
    for offset in range(3):
        dead.letter(record(offset), Invalid("bad"))
        await clock.advance(10)
    with pytest.raises(LineStopped, match="more than 3 records of in") as caught:
        dead.letter(record(3), Invalid("bad"))
    assert caught.value.place == "in/3@3"


async def test_letters_older_than_the_window_no_longer_count() -> None:
    clock = FakeClock()
    dead = dead_letters(clock)
    for offset in range(20):
        dead.letter(record(offset), Invalid("bad"))
        await clock.advance(21)


def test_the_same_record_refused_again_counts_once() -> None:
    dead = dead_letters(FakeClock())
    for _ in range(50):
        for offset in range(3):
            dead.letter(record(offset), Invalid("bad"))


def test_topics_have_windows_of_their_own() -> None:
    dead = dead_letters(FakeClock(), limit=1)
    dead.letter(record(0, topic="a"), Invalid("bad"))
    dead.letter(record(0, topic="b"), Invalid("bad"))
    with pytest.raises(LineStopped):
        dead.letter(record(1, topic="b"), Invalid("bad"))


def test_the_limit_is_the_one_the_topic_file_gives() -> None:
    events = topics.name(Topic.EVENTS, "phishing")
    dead_letter = topics.spec(Topic.EVENTS).dead_letter
    assert dead_letter is not None
    assert limit_of(events) == dead_letter.limit
    assert limit_of(topics.name(Topic.EVENTS, "phishing", 3)) == dead_letter.limit
    with pytest.raises(Invalid, match="no topic of the platform"):
        limit_of("somebody-elses")


def test_a_topic_without_dead_letters_takes_none() -> None:
    dead = dead_letters(FakeClock(), limit=None)
    assert not dead.accepts("in")
    with pytest.raises(Invalid, match="no dead-letter topic"):
        dead.letter(record(0), Invalid("bad"))


async def test_the_newest_letters_can_be_read_alone() -> None:
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan("in-dead-letters", 1, {})])
    dead = dead_letters(FakeClock(), limit=100)
    writer = broker.writer("test")
    await writer.send_all([dead.letter(record(offset), Invalid("bad")) for offset in range(10)])
    assert [letter.origin for letter in await read_letters(broker, "in", newest=2)] == ["in/3@8", "in/3@9"]
    assert len(await read_letters(broker, "in")) == 10


async def test_a_letter_somebody_else_wrote_is_read_as_far_as_it_goes() -> None:
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan("in", 2, {}), TopicPlan("in-dead-letters", 1, {})])
    headers = (("lepton-dead-attempts", b"many"), ("lepton-dead-at", b"yesterday"), ("lepton-dead-place", b"?"))
    await broker.writer("test").send(Outgoing("in-dead-letters", b"v", b"k", headers))
    letter, = await read_letters(broker, "in")
    assert (letter.attempts, letter.at, letter.origin_partition, letter.reason) == (1, None, None, "")
    assert len(await replay(broker, "in", lambda _: True)) == 1
    assert await replay(broker, "in", lambda _: True) == []


async def test_more_letters_than_fit_one_transaction_all_go_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton.bus.letters.settling.REPLAY_BATCH", 4)
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan("in", 4, {}), TopicPlan("in-dead-letters", 1, {})])
    dead = dead_letters(FakeClock(), limit=100)
    await broker.writer("test").send_all([dead.letter(record(offset), Invalid("bad")) for offset in range(10)])
    assert len(await replay(broker, "in", lambda _: True)) == 10
    assert len(await replay(broker, "in", lambda _: True)) == 0
    reader = broker.reader(["in"], group=None, client_id="test")
    await reader.start()
    found = await reader.poll(max_records=100, timeout_s=1)
    assert sum(len(records) for records in found.values()) == 10


async def test_what_a_table_refuses_is_put_aside_once_however_often_it_is_read() -> None:
    clock, broker = FakeClock(), MemoryBroker()
    await broker.create_topics([TopicPlan("in-dead-letters", 1, {})])

    async def life(*refused: Record) -> None:
        aside = Aside(broker, "gateway", dead_letters(clock), clock)
        await aside.start()
        for one in refused:
            aside.refuse(one, Invalid("no name", field="name"))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(aside.run(stop))
            await clock.advance(1)
            stop.set()
            await clock.advance(1)
        await aside.stop()

    await life(record(1), record(2))
    await life(record(1), record(2), record(3))
    letters = await read_letters(broker, "in")
    assert [letter.origin for letter in letters] == ["in/3@1", "in/3@2", "in/3@3"]
    assert {letter.reason for letter in letters} == {"no name"}
    with pytest.raises(ExceptionGroup) as stopped:
        await life(*[record(offset) for offset in range(10, 15)])
    assert stopped.group_contains(LineStopped)
