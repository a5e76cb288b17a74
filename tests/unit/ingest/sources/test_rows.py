"""What values of foreign sources become, and which rows cannot be events."""

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from lepton.contracts.source_blocks import SqlSource
from lepton.errors import Invalid
from services.ingest.core.pulling.rows import Row, Rows, plain
from tests.unit.ingest.sources.shop import pulling, sql


def rows(**changes: Any) -> Rows:
    spec = pulling(sql(**changes))
    source = spec.sources.pull[0]
    assert isinstance(source, SqlSource)
    return Rows(spec, source)


@pytest.mark.parametrize(("value", "expected"), [
    (datetime(2026, 6, 1, 12, 0, 0, 5000), "2026-06-01T12:00:00.005000Z"),
    (datetime(2026, 6, 1, 12, tzinfo=timezone(timedelta(hours=2))), "2026-06-01T12:00:00+02:00"),
    (datetime(2026, 6, 1, tzinfo=UTC), "2026-06-01T00:00:00Z"), (date(2026, 6, 1), "2026-06-01T00:00:00Z"),
    (time(8, 30), "08:30:00"), (timedelta(minutes=1.5), 90.0), (Decimal("12.50"), 12.5), (Decimal("12.00"), 12),
    (Decimal("1E+3"), 1000), (UUID(int=1), "00000000-0000-0000-0000-000000000001"), (True, True), (None, None),
    ({"a": [Decimal(1), {"b": date(2026, 1, 2)}]}, {"a": [1, {"b": "2026-01-02T00:00:00Z"}]})])
def test_values_become_json(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("value", [
    b"x", bytearray(b"x"), memoryview(b"x"), float("nan"), float("inf"), Decimal("NaN"), Decimal("Infinity"), object(),
    {"a": [b"x"]}, 1j])
def test_what_json_has_no_form_for_is_invalid(value: Any) -> None:
    with pytest.raises(Invalid):
        plain(value)


def test_nesting_is_bounded() -> None:
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(Invalid, match="deeper"):
        plain(deep)


@pytest.mark.parametrize(("values", "field", "message"), [
    ({}, "customer", "is missing"), ({"customer": ""}, "customer", "not empty"),
    ({"customer": 1.5}, "customer", "text"),
    ({"customer": "a\nb"}, "customer", "control"), ({"customer": "c", "order": True}, "order", "text"),
    ({"customer": "x" * 257}, "customer", "longer"), ({"customer": "c", "note": b"x"}, "note", "bytes"),
    ({"customer": "c", "note": "\ud800"}, None, "cannot be JSON"),
    ({"customer": "c", "note": "x" * (1 << 20)}, None, "larger")])
def test_a_row_that_can_be_no_event_is_invalid_with_its_member(
        values: dict[str, Any], field: str | None, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        rows().event(Row(values, "1"))
    assert caught.value.field == field


def test_a_made_id_is_stable_short_and_printable() -> None:
    made = rows().event(Row({"customer": "c"}, "17/abc"))
    assert (made.event_id, made.entity) == ("orders/17/abc", "c")
    assert "order" not in json.loads(made.value)
    long = rows().event(Row({"customer": "c"}, "x" * 1000)).event_id
    assert len(long) < 256
    assert long == rows().event(Row({"customer": "c"}, "x" * 1000)).event_id
    assert rows().event(Row({"customer": "c"}, "a\x00b")).event_id.isprintable()


def test_an_id_of_the_row_wins_over_one_beside_it_and_that_over_a_made_one() -> None:
    assert rows().event(Row({"customer": 7, "order": 5}, "1", event_id="e")).event_id == "5"
    assert rows().event(Row({"customer": 7}, "1", event_id="e")).event_id == "e"
    assert rows(rename={"who": "customer"}).event(Row({"who": 7}, "1")).entity == "7"
