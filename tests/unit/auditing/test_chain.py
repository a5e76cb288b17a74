"""A chain of the audit log holds as it was written, and every change of it is found at its place."""

from collections.abc import Callable

import pytest

from lepton.contracts.auditing.chain import LOOK_BACK, Chains, Head, digest
from lepton.contracts.pb.incidents_pb2 import AuditRecord

Kept = tuple[int, str, bytes]


def written(writer: str, count: int, first_offset: int = 0, head: Head | None = None) -> list[Kept]:
    """Records of one writer at every second offset, so that those of another fit between them."""
    head, found = head or Head(), []
    for number in range(count):
        record = AuditRecord(writer=writer, sequence=head.sequence + 1, previous_hash=head.hash, actor="anna",
                             action="key.create", object=f"key-{number}")
        value = record.SerializeToString(deterministic=True)
        found.append((first_offset + 2 * number, writer, value))
        head = Head(record.sequence, digest(value))
    return found


def two_writers() -> list[Kept]:
    return sorted(written("gateway-0", 5) + written("watchdog-0", 5, 1))


def head_of(kept: Kept) -> Head:
    return Head(AuditRecord.FromString(kept[2]).sequence, digest(kept[2]), kept[0])


def checked(log: list[Kept], *, whole: bool = True, wanted: dict[str, Head] | None = None) -> Chains:
    chains = Chains(log[0][0] if log else 0, whole, wanted or {})
    for one in log:
        chains.take(*one)
    return chains


def altered(log: list[Kept]) -> list[Kept]:
    offset, key, value = log[4]
    record = AuditRecord.FromString(value)
    record.actor = "bert"
    return [*log[:4], (offset, key, record.SerializeToString(deterministic=True)), *log[5:]]


def swapped(log: list[Kept]) -> list[Kept]:
    return [*log[:4], (4, *log[6][1:]), log[5], (6, *log[4][1:]), *log[7:]]


def unreadable(log: list[Kept]) -> list[Kept]:
    return [*log[:4], (4, "gateway-0", b"\xff\xff"), *log[5:]]


def test_chains_that_are_as_they_were_written_hold() -> None:
    chains = checked(two_writers())
    assert chains.end() == []
    assert {(one.writer, one.records, one.first, one.head.sequence) for one in chains.found.values()} == {
        ("gateway-0", 5, 1, 5), ("watchdog-0", 5, 1, 5)}
    assert chains.found["gateway-0"].head == head_of(two_writers()[8])


@pytest.mark.parametrize(("change", "sequence", "offset", "why"), [
    (altered, 3, 4, "one of the two was altered"),
    (lambda log: [*log[:4], *log[5:]], 3, 6, "missing up to sequence 3: dropped"),
    (lambda log: log[2:], 1, 2, "missing up to sequence 1: dropped"),
    (swapped, 3, 4, "out of order: it comes only at offset 6"),
    (unreadable, 3, 4, "is no audit record"),
    (lambda log: [*log, (10, *log[2][1:])], 2, 10, "out of order: sequence 5 stands before it"),
    (lambda log: [*log, (10, *log[0][1:])], 1, 10, "begins anew after sequence 5"),
    (lambda log: [*log[:4], (4, "watchdog-0", log[4][2]), *log[5:]], 3, 4, "key names watchdog-0"),
], ids=["altered", "dropped", "first dropped", "swapped", "unreadable", "repeated", "begun anew", "another's key"])
def test_a_change_is_found_at_its_place_and_the_other_chain_holds(
        change: Callable[[list[Kept]], list[Kept]], sequence: int, offset: int, why: str) -> None:
    (broken,) = [one for one in checked(change(two_writers())).end() if one.writer == "gateway-0"]
    assert (broken.sequence, broken.offset) == (sequence, offset)
    assert why in broken.why


def test_a_chain_whose_beginning_is_past_retention_may_begin_in_the_middle() -> None:
    assert checked(two_writers()[4:], whole=False).end() == []
    assert [str(one) for one in checked(altered(two_writers())[4:], whole=False).end()]


def test_a_head_that_was_kept_shows_that_the_end_was_cut_off_or_altered() -> None:
    log = two_writers()
    last = head_of(log[8])
    assert checked(log, wanted={"gateway-0": last}).end() == []
    assert checked(log, wanted={"gateway-0": Head(0, last.hash)}).end() == []
    assert checked(log[:7], wanted={"gateway-0": head_of(log[6])}).end() == []
    for wanted in (last, Head(0, last.hash)):
        (cut,) = checked(log[:8], wanted={"gateway-0": wanted}).end()
        assert (cut.writer, cut.sequence) == ("gateway-0", 5) and "cut off" in cut.why
    (gone,) = checked([one for one in log if one[1] != "gateway-0"], wanted={"gateway-0": last}).end()
    assert "nor is any record of it" in gone.why
    offset, key, value = log[8]
    other = AuditRecord.FromString(value)
    other.actor = "bert"
    (changed,) = checked([*log[:8], (offset, key, other.SerializeToString(deterministic=True)), log[9]],
                         wanted={"gateway-0": last}).end()
    assert (changed.sequence, changed.offset) == (5, 8) and "not that of the kept head" in changed.why


def test_a_tail_that_was_cut_off_and_written_anew_shows_too() -> None:
    log = written("gateway-0", 5)
    anew = log[:3] + written("gateway-0", 4, 20, head_of(log[2]))
    assert checked(anew).end() == []
    assert [one.why for one in checked(anew, wanted={"gateway-0": head_of(log[4])}).end()]


def test_a_kept_head_that_is_past_retention_is_said_not_to_be_checked() -> None:
    log = two_writers()
    chains = checked(log[4:], whole=False, wanted={"gateway-0": head_of(log[0]), "watchdog-0": head_of(log[3])})
    assert chains.end() == []
    assert chains.unchecked() == ["gateway-0"], "of the other, the first record that is kept names the head"


def test_a_writer_that_was_long_away_may_begin_anew() -> None:
    log = written("gateway-0", 2) + written("gateway-0", 2, LOOK_BACK + 10)
    assert checked(log).end() == []
