"""Rows of a file as events: text becomes what the pipeline's types say, and nothing is guessed beyond that."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts.files.naming import plain_name
from lepton.contracts.files.rows import Rows, column_names, file_id, split, typed
from lepton.contracts.pipeline import parse
from lepton.errors import Invalid

PIPELINE = parse("""\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events:
  id: order
  entity: customer
  time: at
  fields:
    price: {type: float}
    items: {type: int}
    member: {type: bool}
    note: {type: text}
    where: {type: vector, dims: 2}
""")
ROWS = Rows(PIPELINE, "f")
COLUMNS = ["order", "customer", "at", "price", "items", "member", "note", "where"]


def value(line: str) -> dict[str, Any]:
    return dict(json.loads(ROWS.from_csv(line.encode(), COLUMNS, 1).value))


@pytest.mark.parametrize(("kind", "text", "expected"), [
    ("int", "12", 12), ("int", "12.5", 12.5), ("int", "-3", -3), ("int", "1e3", 1000), ("int", "12.0", 12),
    ("float", "12.0", 12.0), ("int", "twelve", "twelve"),
    ("int", "9" * 30, 1e30), ("float", " 2.50 ", 2.5), ("float", "NaN", None), ("float", "inf", "inf"),
    ("float", "1e999", "1e999"), ("float", ".5", 0.5), ("float", "1_000", "1_000"), ("float", "", None),
    ("float", '{"value": 1, "unit": "m"}', {"value": 1, "unit": "m"}), ("float", "{", "{"),
    ("bool", "TRUE", True), ("bool", "0", False), ("bool", "yes", "yes"), ("bool", "NA", None),
    ("text", " x ", " x "), ("text", "NA", "NA"), ("text", "", None), ("category", "null", "null"),
    ("vector", "[1, 2]", [1, 2]), ("vector", "[1,", "[1,"), ("time", "1767225600", 1767225600),
    ("time", "2026-01-01 10:00:00", "2026-01-01T10:00:00+00:00"), ("time", "2026-01-01T10:00:00+02:00",
                                                                   "2026-01-01T10:00:00+02:00"),
    ("timestamp", "2026-01-01", "2026-01-01T00:00:00+00:00"), ("timestamp", "soon", "soon"),
])
def test_a_text_becomes_what_its_type_says_or_stays_for_ingest_to_judge(kind: str, text: str, expected: Any) -> None:
    assert typed(kind, text) == expected


def test_missing_values_are_left_out_and_an_absent_id_is_made_from_file_and_row() -> None:
    event = ROWS.from_csv(b",c-1,,,,,,", COLUMNS, 17)
    assert (event.event_id, event.key, json.loads(event.value)) == ("f-17", "c-1", {"customer": "c-1"})
    assert value('o-1,c,,1,2,true,"a, b","[1,2]"') == {
        "order": "o-1", "customer": "c", "price": 1, "items": 2, "member": True, "note": "a, b", "where": [1, 2]}


@pytest.mark.parametrize(("line", "field", "why"), [
    (b"a,b", None, "2 values for 8 columns"), (b"o,,,,,,,", "customer", "is missing"),
    (b"\xff,c,,,,,,", None, "not UTF-8"), (b"o" * 300 + b",c,,,,,,", "order", "longer than 256"),
    (b"o,\x01,,,,,,", "customer", "control characters")])
def test_a_record_that_can_be_no_event_says_why(line: bytes, field: str | None, why: str) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        ROWS.from_csv(line, COLUMNS, 1)
    assert caught.value.field == field


def test_columns_are_found_by_name_or_by_spelling() -> None:
    assert ROWS.columns(["Order", "customer", "AT", "Price ", "junk"]) == ["order", "customer", "at", "price", None]
    assert ROWS.columns(["price", "Price", "customer"]) == ["price", None, "customer"]
    for names, why in ((["price"], "no column is the entity"), (["customer", "customer", "price"], "two columns"),
                       (["customer", "junk"], "no column is a field")):
        with pytest.raises(Invalid, match=why):
            ROWS.columns(names)
    with pytest.raises(Invalid, match="does not name every column"):
        column_names(b"a,,b")


def test_json_lines_keep_their_text_unless_a_member_is_spelt_otherwise() -> None:
    text = b'{"customer": "c",  "price": 1.50, "other": [1]}'
    assert ROWS.from_json(text, 3) .value == text
    assert ROWS.from_json(text, 3).event_id == "f-3"
    assert json.loads(ROWS.from_json(b'{"Customer": 7, "Price": 1, "other": 2}', 3).value) == {
        "customer": 7, "price": 1, "other": 2}
    assert ROWS.from_json(b'{"Customer": 7}', 3).key == "7"
    for line in (b"[1]", b"{", b"\xff", b'{"customer": true}', b'{"customer": ""}', b"[" * 100_000):
        with pytest.raises(Invalid):
            ROWS.from_json(line, 1)


def test_values_of_other_programs_become_json() -> None:
    row = {"customer": 5, "at": datetime(2026, 1, 1, 10), "note": b"\x00\x01", "price": Decimal("2.50"),
           "items": Decimal(3), "where": (1.5, float("nan")), "member": None, "order": date(2026, 1, 2)}
    assert json.loads(ROWS.from_row({**row, "order": "o"}, 1).value) == {
        "customer": 5, "at": "2026-01-01T10:00:00+00:00", "note": "AAE=", "price": 2.5, "items": 3,
        "where": [1.5, None], "order": "o"}
    assert ROWS.from_row({"customer": "c", "at": datetime(2026, 1, 1, tzinfo=UTC)}, 2).event_id == "f-2"
    # As pandas keeps ints of which some are missing.
    assert ROWS.from_row({"customer": "c", "items": 3.0, "price": 3.0}, 3).value == (
        b'{"customer":"c","items":3,"price":3.0}')
    assert ROWS.from_row({"customer": "c", "items": 3.5}, 3).value == b'{"customer":"c","items":3.5}'


@given(st.text(max_size=80))
def test_any_column_gets_a_name_a_field_may_have(column: str) -> None:
    name = plain_name(column)
    assert name[0].isalpha() and len(name) <= 63 and name != "default"
    assert name == name.lower() and all(letter.isascii() and (letter.isalnum() or letter == "_") for letter in name)
    assert plain_name(name) == name


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_invalid(record: bytes) -> None:
    for read in (lambda: ROWS.from_csv(record, COLUMNS, 1), lambda: ROWS.from_json(record, 1), lambda: split(record)):
        try:
            read()
        except Invalid:
            continue


def test_a_file_has_one_id_in_a_pipeline_generation() -> None:
    ids = {file_id("shop", 1, "ab"), file_id("shop", 2, "ab"), file_id("other", 1, "ab"), file_id("shop", 1, "cd")}
    assert len(ids) == 4 and file_id("shop", 1, "ab") in ids
