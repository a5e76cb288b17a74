"""Letters are found by what is known of them, go back once, and stay where they lie when they are laid aside."""

import re

import pytest

from lepton.bus.letters import finding
from lepton.bus.letters.finding import find_letters, letter_at
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.letters.settling import discard, replay
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Record, TopicPlan
from lepton.clock import FakeClock
from lepton.errors import Invalid


async def with_letters(count: int = 6) -> MemoryBroker:
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan("in", 4, {}), TopicPlan("in-dead-letters", 1, {})])
    dead = DeadLetters("ingest", FakeClock(), limit=lambda _: 1000)
    await broker.writer("test").send_all([
        dead.letter(Record("in", offset % 4, offset, b"k", b"value-%d" % offset, (("ce_source", b"till"),)),
                    Invalid(f"{'wrong_type' if offset % 2 else 'missing'}: number {offset}", field=f"f{offset}"))
        for offset in range(count)])
    return broker


def origins(letters: list[object]) -> list[str]:
    return [letter.origin for letter in letters]  # type: ignore[attr-defined]


async def test_the_newest_or_the_first_that_are_wanted_are_found_whatever_lies_between() -> None:
    broker = await with_letters()
    for newest, expected in ((True, ["in/3@3", "in/1@5"]), (False, ["in/1@1", "in/3@3"])):
        found = await find_letters(broker, "in", lambda letter: letter.code == "wrong_type", limit=2, newest=newest)
        assert origins(list(found)) == expected
    (found_one,) = await find_letters(broker, "in", lambda letter: bool(re.search("number 4", letter.reason)), limit=9,
                                      newest=True, keep_bytes=3)
    assert (found_one.record.value, found_one.source, found_one.origin_partition) == (b"val", "till", 0)


async def test_letters_that_were_dealt_with_are_shown_on_request_only_and_with_what_became_of_them() -> None:
    broker = await with_letters(3)
    assert len(await replay(broker, "in", lambda letter: letter.field == "f0")) == 1
    assert len(await discard(broker, "in", lambda letter: letter.field == "f1")) == 1
    left = await find_letters(broker, "in", lambda _: True, limit=9, newest=True)
    assert origins(list(left)) == ["in/2@2"]
    every = await find_letters(broker, "in", lambda _: True, limit=9, newest=True, settled=True)
    assert [(letter.replayed, letter.discarded) for letter in every] == [(True, False), (False, True), (False, False)]
    one = await letter_at(broker, "in", 0, 1)
    assert one is not None and one.discarded and one.record.value == b"value-1"
    assert await letter_at(broker, "in", 0, 3) is None, "a mark is no letter"


async def test_of_more_than_can_be_held_the_oldest_that_wait_go_first_until_none_is_left(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MAX_FOUND", 4)
    broker = await with_letters(15)
    newest = await find_letters(broker, "in", lambda _: True, limit=2, newest=True)
    assert [letter.field for letter in newest] == ["f13", "f14"]
    sent = [await replay(broker, "in", lambda _: True, limit=3) for _ in range(6)]
    assert [[letter.field for letter in batch] for batch in sent] == [
        *([f"f{number}" for number in range(start, start + 3)] for start in range(0, 15, 3)), []]
    every = await find_letters(broker, "in", lambda _: True, limit=2, newest=False, settled=True)
    assert [(letter.field, letter.replayed) for letter in every] == [("f0", True), ("f1", True)]


async def test_a_dry_run_changes_nothing_and_says_what_would_go() -> None:
    broker = await with_letters(3)
    assert len(await replay(broker, "in", lambda _: True, dry_run=True)) == 3
    assert len(await discard(broker, "in", lambda _: True, dry_run=True)) == 3
    assert len(await find_letters(broker, "in", lambda _: True, limit=9, newest=True)) == 3
    assert all(not log.records for log in broker.topic("in").logs)


async def test_what_was_dealt_with_goes_back_only_when_asked_for_again() -> None:
    broker = await with_letters(2)
    await discard(broker, "in", lambda _: True)
    assert await replay(broker, "in", lambda _: True) == []
    assert len(await replay(broker, "in", lambda _: True, again=True, limit=1)) == 1
    sent = [record for log in broker.topic("in").logs for record in log.records]
    assert [record.value for record in sent] == [b"value-0"]


async def test_an_edited_letter_goes_back_with_its_new_value_to_its_old_partition() -> None:
    broker = await with_letters(3)
    await replay(broker, "in", lambda letter: letter.field == "f2", edits={"in-dead-letters/0@2": b"mended"})
    (record,) = broker.topic("in").logs[2].records
    assert (record.value, record.key, dict(record.headers)["lepton-attempt"]) == (b"mended", b"k", b"2")


async def test_after_a_lift_refusals_do_not_count_for_one_window() -> None:
    clock = FakeClock()
    dead = DeadLetters("ingest", clock, limit=lambda _: 2)
    dead.lift("in")
    for offset in range(50):
        dead.letter(Record("in", 0, offset, None, b"v"), Invalid("bad"))
    await clock.advance(61)
    for offset in range(50, 52):
        dead.letter(Record("in", 0, offset, None, b"v"), Invalid("bad"))


def test_a_row_of_a_file_has_no_partition_to_go_back_to_whatever_its_name() -> None:
    dead = DeadLetters("gateway", FakeClock(), limit=lambda _: 1)
    letter = dead.letter(Record("in", -1, -1, None, b"a,b"), Invalid("malformed"), at="in-3@1.csv:17", counted=False)
    assert dict(letter.headers)["lepton-dead-place"] == b"in-3@1.csv:17"
