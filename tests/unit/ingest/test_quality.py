"""An event is accepted as typed values or refused with one reason, field and place; nothing is coerced."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lepton.bus.records import Record
from lepton.contracts.topics import Topic
from services.ingest.core.quality import Validator
from services.ingest.core.reading.intake import Intake, source_of
from tests.harness import examples
from tests.unit.ingest.arrow.streams import judged
from tests.unit.ingest.samples import AT, order, pipeline, record, records

CLOUD = (("content-type", b"application/cloudevents+json; charset=utf-8"),)


@pytest.fixture
def validator() -> Validator:
    return Validator(pipeline())


def wrapped(**members: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "o-9", "source": "till", "type": "sold",
            "data": {"customer": "c", "price": 1}} | members


def refused(validator: Validator, value: Any, headers: tuple[tuple[str, bytes], ...] = ()) -> tuple[str, str | None]:
    intake = validator.read([record(value, 0, headers)])
    assert intake.rows == []
    assert len(intake.rejections) == 1
    assert intake.rejections[0].message
    return intake.rejections[0].code, intake.rejections[0].field


def test_an_event_becomes_typed_values(validator: Validator) -> None:
    intake = validator.read([record(order(1, items=3, member=True, country="de", note="ä", unknown=[1, {}]))])
    row = intake.rows[0]
    wanted = {"price": 1.0, "weight": None, "items": 3, "member": True, "country": "de", "note": "ä"}
    assert {name: validator.column(name)(row) for name in wanted} == wanted
    assert (intake.ids, intake.entities, intake.times) == (["o-1"], ["c-1"], [datetime(2026, 6, 1, 12, tzinfo=UTC)])
    assert intake.source(0) == "unknown"
    assert isinstance(validator.column("price")(validator.read([record(order(1, price=3))]).rows[0]), float)


@pytest.mark.parametrize(("members", "code", "field"), [
    ({"price": "1"}, "wrong_type", "price"),
    ({"price": True}, "wrong_type", "price"),
    ({"price": [1]}, "wrong_type", "price"),
    ({"price": None}, "missing", "price"),
    ({"price": -0.001}, "out_of_range", "price"),
    ({"price": 1000.1}, "out_of_range", "price"),
    ({"items": 1.5}, "wrong_type", "items"),
    ({"items": 1.0}, "wrong_type", "items"),
    ({"items": "1"}, "wrong_type", "items"),
    ({"items": True}, "wrong_type", "items"),
    ({"items": 2**63}, "out_of_range", "items"),
    ({"items": -(2**63) - 1}, "out_of_range", "items"),
    ({"member": 1}, "wrong_type", "member"),
    ({"member": "true"}, "wrong_type", "member"),
    ({"country": "fr"}, "unknown_category", "country"),
    ({"country": 1}, "wrong_type", "country"),
    ({"note": 1}, "wrong_type", "note"),
    ({"at": "yesterday"}, "wrong_type", "at"),
    ({"at": "2026-06-01T12:00:00"}, "wrong_type", "at"),
    ({"at": "2026-06-01"}, "wrong_type", "at"),
    ({"at": True}, "wrong_type", "at"),
    ({"at": 1e300}, "out_of_range", "at"),
    ({"at": "0001-01-01T00:00:00+14:00"}, "out_of_range", "at"),
    ({"at": "9999-12-31T23:59:59-12:00"}, "out_of_range", "at"),
    ({"at": -1e14}, "out_of_range", "at"),
    ({"order": ""}, "out_of_range", "order"),
    ({"order": "x" * 257}, "out_of_range", "order"),
    ({"order": "a\nb"}, "malformed", "order"),
    ({"order": "a\x00b"}, "malformed", "order"),
    ({"order": None}, "missing", "order"),
    ({"order": 1.5}, "wrong_type", "order"),
    ({"customer": None}, "missing", "customer"),
    ({"customer": "a\x7f"}, "malformed", "customer"),
    ({"customer": {}}, "wrong_type", "customer"),
])
def test_a_wrong_value_is_refused_with_its_field(
        validator: Validator, members: dict[str, Any], code: str, field: str) -> None:
    assert refused(validator, order(1, **members)) == (code, field)


@pytest.mark.parametrize("body", [
    None, b"", b" ", b"{", b"[]", b"3", b"null", b'"x"',
    b'{"order":"1","customer":"c","price":1} 2', b"{'a': 1}", b'{"price": NaN}',
    b'{"price": Infinity}', b'{"price": -Infinity}', b'{"note": "\xff"}', b'{"other": "\xff\xfe"}',
    b'{"note": "\xed\xa0\x80"}', b'{"note": "\\ud800"}', b"\xef\xbb\xbf{}", b'{"x": ' + b"[" * 100_000 + b"}",
    b'{"x":' + b'{"x":' * 5000 + b"1" + b"}" * 5001, b"\x00\x01\x02",
])
def test_what_is_no_json_object_is_refused(validator: Validator, body: bytes | None) -> None:
    code, _ = refused(validator, body)
    assert code in ("malformed", "wrong_type")


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 400, "1" + "0" * 5000])
def test_a_number_no_double_holds_is_refused(validator: Validator, number: str) -> None:
    body = f'{{"order": "1", "customer": "c", "price": 1, "weight": {number}}}'.encode()
    assert refused(validator, body) == ("out_of_range", "weight")


def test_a_missing_required_member_is_named(validator: Validator) -> None:
    assert refused(validator, {"order": "1", "customer": "c"}) == ("missing", "price")


def test_whole_numbers_at_the_edge_of_the_type_are_accepted(validator: Validator) -> None:
    intake = validator.read(records(order(1, items=2**63 - 1), order(2, items=-(2**63))))
    assert [validator.column("items")(row) for row in intake.rows] == [2**63 - 1, -(2**63)]


def test_a_fractional_range_of_a_whole_number_means_the_whole_numbers_inside() -> None:
    validator = Validator(pipeline(("items: {type: int}", "items: {type: int, range: [0.5, 1.0e+30]}")))
    assert refused(validator, order(1, items=0)) == ("out_of_range", "items")
    assert validator.read([record(order(1, items=1))]).rejections == []


def test_numbers_as_ids_are_their_text(validator: Validator) -> None:
    intake = validator.read(records(order(1, order=7, customer=-3), order(2)))
    assert (intake.ids, intake.entities) == (["7", "o-2"], ["-3", "c-2"])


def test_letters_beyond_ascii_are_no_control_characters(validator: Validator) -> None:
    ids = ["ж" * 256, "a b", "\u00a0", "\U0001f600", "\u200b"]
    assert validator.read(records(*(order(1, order=name) for name in ids))).ids == ids


def test_an_entity_may_be_a_field_and_the_id_may_be_the_entity() -> None:
    by_field = Validator(pipeline(("entity: customer", "entity: items")))
    assert by_field.read([record({"order": "1", "price": 1, "items": 5})]).entities == ["5"]
    assert refused(by_field, {"order": "1", "price": 1}) == ("missing", "items")
    by_text = Validator(pipeline(("entity: customer", "entity: note")))
    assert refused(by_text, {"order": "1", "price": 1, "note": ""}) == ("out_of_range", "note")
    by_id = Validator(pipeline(("  entity: customer\n", "")))
    assert by_id.read(records({"order": 1, "price": 1}, {"order": "2", "price": 1})).entities == ["1", "2"]


def test_one_bad_event_leaves_its_neighbours_where_they_are(validator: Validator) -> None:
    intake = validator.read(records(order(0), b"x", order(2, order=None), order(3, at=1e300), order(4, order=4),
                                    order(5, customer=None)))
    assert intake.ids == ["o-0", "4"]
    assert intake.entities == ["c-0", "c-4"]
    assert intake.positions == [0, 4]
    assert len(intake.times) == len(intake.rows) == len(intake.envelopes) == 2
    assert sorted(rejection.position for rejection in intake.rejections) == [1, 2, 3, 5]


def test_times_are_read_in_every_form(validator: Validator) -> None:
    at = datetime(2026, 6, 1, 12, tzinfo=UTC)
    seconds = at.timestamp()
    intake = validator.read(records(order(1), order(2, at=seconds), order(3, at=int(seconds * 1000)),
                                    order(4, at=seconds + 0.25), order(5, at="2026-06-01T14:00:00+02:00"),
                                    order(6, at=None)))
    us = int(seconds * 1_000_000)
    assert intake.times == [at, us, us, us + 250_000, at, 1_780_000_000_000_000]


def test_a_binary_cloudevent_says_what_its_object_does_not(validator: Validator) -> None:
    headers = (("ce_specversion", b"1.0"), ("ce_id", b"o-7"), ("ce_source", b"till"), ("ce_time", AT.encode()),
               ("ce_type", b"sold"), ("content-type", b"application/json"), ("traceparent", b"00-a"))
    intake = validator.read([record({"customer": "c", "price": 1}, 0, headers), record(order(1), 1, headers)])
    assert intake.ids == ["o-7", "o-1"]
    assert intake.times == [datetime(2026, 6, 1, 12, tzinfo=UTC)] * 2
    assert intake.source(0) == "till"
    assert intake.envelopes[0] is not None
    assert intake.envelopes[0].traceparent == "00-a"


def test_a_structured_cloudevent_is_unwrapped(validator: Validator) -> None:
    event = wrapped(time=AT, traceparent="00-b", datacontenttype="application/json")
    intake = validator.read([record(event, 0, CLOUD)])
    assert (intake.ids, intake.source(0)) == (["o-9"], "till")
    assert intake.times == [datetime(2026, 6, 1, 12, tzinfo=UTC)]
    assert intake.envelopes[0] is not None
    assert intake.envelopes[0].traceparent == "00-b"
    over = validator.read([record(wrapped(traceparent="00-b"), 0, (*CLOUD, ("traceparent", b"00-c")))])
    assert over.envelopes[0] is not None
    assert over.envelopes[0].traceparent == "00-c"


@pytest.mark.parametrize(("members", "code"), [
    ({"specversion": "0.3"}, "malformed"), ({"id": ""}, "malformed"), ({"source": ""}, "malformed"),
    ({"datacontenttype": "text/plain"}, "malformed"), ({"time": "noon"}, "wrong_type"),
    ({"time": "2026-06-01T12:00:00"}, "wrong_type"), ({"data": 3}, "wrong_type"), ({"data": {"price": 1}}, "missing"),
    ({"source": 3}, "wrong_type"), ({"type": None}, "missing"),
])
def test_a_structured_cloudevent_that_is_none_is_refused(
        validator: Validator, members: dict[str, Any], code: str) -> None:
    assert refused(validator, wrapped(**members), CLOUD)[0] == code


@pytest.mark.parametrize(("headers", "code", "field"), [
    ([("content-type", b"text/plain")], "content_type", "content-type"),
    ([("content-type", b"application/cloudevents-batch+json")], "content_type", "content-type"),
    ([("content-type", b"\xff")], "content_type", "content-type"),
    ([("ce_specversion", b"2.0")], "malformed", None),
    ([("ce_id", b"\xff")], "malformed", None),
    ([("ce_id", b"")], "missing", "order"),
    ([("ce_id", b"x" * 257)], "out_of_range", "order"),
    ([("ce_id", b"1"), ("ce_time", b"noon")], "wrong_type", "ce_time"),
])
def test_headers_that_cannot_be_read_refuse_the_event(
        validator: Validator, headers: list[tuple[str, bytes]], code: str, field: str | None) -> None:
    assert refused(validator, {"customer": "c", "price": 1}, tuple(headers)) == (code, field)


def test_a_structured_event_without_value_or_text_is_refused(validator: Validator) -> None:
    assert refused(validator, None, CLOUD)[0] == "malformed"
    assert refused(validator, b'{"specversion": "1.0", "id": "\xff"}', CLOUD)[0] == "malformed"


@pytest.mark.parametrize("content_type", [b"", b"application/json", b"Application/JSON; charset=utf-8",
                                          b"text/json", b"application/vnd.shop+json"])
def test_every_json_content_type_is_read(validator: Validator, content_type: bytes) -> None:
    assert validator.read([record(order(1), 0, (("content-type", content_type),))]).ids == ["o-1"]


def test_events_of_a_quarantined_source_are_not_even_read(validator: Validator) -> None:
    till = (("ce_source", b"till"),)
    events = [record(b"junk", 0, till), record(order(1), 1, (("ce_source", b"web"),)), record(order(2), 2),
              record(wrapped(), 3, CLOUD)]
    found = validator.read(events, frozenset({"till"}))
    assert [rejection.code for rejection in found.rejections] == ["quarantined", "quarantined"]
    assert {rejection.source for rejection in found.rejections} == {"till"}
    assert found.ids == ["o-1", "o-2"]
    assert [one.position for one in validator.read(events, frozenset({"unknown"})).rejections] == [0, 2]


def test_the_source_is_known_of_refused_events_too(validator: Validator) -> None:
    events = [record(b"x", 0, (("ce_source", b"till"),)), record(order(1, order=None), 1, (("ce_source", b"web"),)),
              record(order(1, at=1e300), 2, (("ce_source", b"pos"),)), record(b"x", 3), record(order(1, order=None), 4),
              record(order(1, at=1e300), 5), record(b"x", 6, (("ce_source", b"\xff"), ("ce_id", b"1")))]
    found = {one.position: one.source for one in validator.read(events).rejections}
    assert found == {0: "till", 1: "web", 2: "pos", 3: "unknown", 4: "unknown", 5: "unknown", 6: "�"}
    assert source_of(()) == "unknown"


@pytest.mark.parametrize("example", examples.valid(Topic.EVENTS), ids=str)
def test_every_valid_example_is_accepted(example: examples.Example) -> None:
    decided = judged(examples.pipeline(), [Record("t", 0, 0, example.key, example.value, example.headers)])
    assert decided.rejections == []


@pytest.mark.parametrize("example", examples.invalid(Topic.EVENTS), ids=str)
def test_every_invalid_example_is_refused_for_its_reason(example: examples.Example) -> None:
    decided = judged(examples.pipeline(), [Record("t", 0, 0, example.key, example.value, example.headers)])
    assert decided.batch is None
    (found,) = decided.rejections
    assert example.reason in f"{found.code}: {found.message}"
    assert found.field == example.field


def test_reading_nothing_gives_nothing(validator: Validator) -> None:
    assert validator.read([]) == Intake()
