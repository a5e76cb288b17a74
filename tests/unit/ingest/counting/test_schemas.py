"""What is told of members that are not as declared: by source, never a value, and no more than fits a summary."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from lepton.bus.records import Headers, Record
from lepton.contracts.arrow import stream
from lepton.contracts.pb.quality_pb2 import MemberCount, SchemaQuality
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.clean.past import Past
from services.ingest.core.counting.schemas import MAX_BYTES, MAX_CHARS, MAX_MEMBERS, PER_BATCH, PER_INTERVAL
from services.ingest.core.counting.summary import Tally
from tests.unit.ingest.samples import AT, order, pipeline, record, records

AT_ALL = datetime(2026, 6, 1, tzinfo=UTC)
FROM_TILL: Headers = (("ce_specversion", b"1.0"), ("ce_source", b"till"), ("ce_id", b"1"), ("ce_type", b"sale"))
ARROW: Headers = (("content-type", stream.CONTENT_TYPE.encode()),)


def told(*batches: Sequence[Record]) -> dict[str, SchemaQuality]:
    """What the summary of an interval with these batches says of each source."""
    acceptance, past, interval = Acceptance(pipeline(), 1), Past.of(pipeline()), Tally()
    for batch in batches:
        interval.add(acceptance.judge(batch, past, {}, frozenset()).tally)
    return {one.source: one for one in interval.message("shop", 1, "ingest", AT_ALL, AT_ALL).schemas}


def counts(of: Sequence[MemberCount]) -> dict[str, int]:
    return {one.member: one.count for one in of}


def renamed(number: int, **members: Any) -> dict[str, Any]:
    """An event in which `price`, which rows need, goes under another name."""
    event = order(number, **members)
    event["price_eur"] = event.pop("price")
    return event


def test_a_renamed_member_is_told_of_with_the_one_that_is_gone_though_its_events_are_refused() -> None:
    found = told(records(*(renamed(number) for number in range(4)), *(order(number) for number in range(4, 10))))
    (one,) = found.values()
    assert (one.source, one.sampled) == ("unknown", 10)
    assert counts(one.undeclared) == {"price_eur": 4}
    assert counts(one.absent)["price"] == 4
    assert {("price_eur", "number"), ("price", "number")} <= {
        (kind.member, kind.kind) for kind in (*one.undeclared, *one.absent)}
    assert "order" not in counts(one.absent)
    assert not one.mistyped


def test_kinds_that_a_member_cannot_have_are_told_and_no_value_is() -> None:
    found = told(records(*(order(number, price="secret", weight=True, note=7, country=None) for number in range(3))))
    (one,) = found.values()
    assert [(kind.member, kind.kind, kind.count) for kind in one.mistyped] == [
        ("note", "number", 3), ("price", "text", 3), ("weight", "bool", 3)]
    assert counts(one.absent)["country"] == 3
    assert "secret" not in str(one)


def test_of_a_new_member_the_kind_of_most_of_its_values_is_told_and_a_null_is_none() -> None:
    values = [1, 2, 3, "x", None, None]
    (one,) = told(records(*(order(number, new=value) for number, value in enumerate(values)))).values()
    assert [(kind.member, kind.kind, kind.count) for kind in one.undeclared] == [("new", "number", 4)]


@pytest.mark.parametrize("headers", [FROM_TILL, (("content-type", b"application/cloudevents+json"),)])
def test_each_source_is_told_of_by_itself(headers: Headers) -> None:
    def wrapped(event: dict[str, Any]) -> dict[str, Any]:
        return event if headers is FROM_TILL else {
            "specversion": "1.0", "id": "1", "source": "till", "type": "sale", "data": event}

    found = told(records(*(order(number) for number in range(3))),
                 records(*(wrapped(renamed(number)) for number in range(3, 6)), headers=headers))
    assert counts(found["till"].undeclared) == {"price_eur": 3}
    assert not found["unknown"].undeclared


def test_rows_of_an_arrow_record_count_by_its_columns() -> None:
    table = pa.table({"order": ["o-1", "o-2"], "customer": ["c", "c"], "at": [1_780_000_000, 1_780_000_001],
                      "cost": [1.0, 2.0], "member": ["yes", "no"]})
    (one,) = told([record(stream.write_table(table), headers=ARROW)]).values()
    assert (one.sampled, counts(one.undeclared), counts(one.absent)["price"]) == (2, {"cost": 2}, 2)
    assert [(kind.member, kind.kind) for kind in one.mistyped] == [("member", "text")]


def test_what_is_told_is_bounded() -> None:
    many = {f"{'x' * 2 * MAX_CHARS}{number}": 1 for number in range(3)} | {f"m{number}": 1 for number in range(40)}
    (one,) = told(records(*(order(number, **many) for number in range(PER_BATCH)))).values()
    assert len(one.undeclared) == MAX_MEMBERS
    assert max(len(kind.member) for kind in one.undeclared) == MAX_CHARS
    # A producer that names members after what they hold.
    (one,) = told(records(*(order(number, **{f"user-{number}": 1}) for number in range(PER_BATCH)))).values()
    assert not one.undeclared
    batches = [records(*(order(number) for number in range(start, start + 1000))) for start in range(0, 20_000, 1000)]
    (one,) = told(*batches).values()
    assert one.sampled == PER_INTERVAL


def test_what_is_no_object_or_too_large_is_passed_over() -> None:
    assert told(records(b"", b"[1]", b"{", None, order(1, note="x" * MAX_BYTES))) == {}
    assert list(told(records(*(order(number, at=AT) for number in range(2)), None))) == ["unknown"]
