"""Values that are more than a JSON type: how each is kept, set right and noted, or refused with code and field."""

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lepton.contracts import features
from lepton.contracts.arrow.stream import read_table, write_table
from lepton.contracts.pipeline import Pipeline, parse
from lepton.contracts.pipeline_blocks import FieldSpec
from lepton.contracts.reading.images import misfit
from services.ingest.core.reading.fields import reader_of
from services.ingest.core.reading.values import values_reader_of
from tests.unit.contracts.reading.test_images import packed
from tests.unit.ingest.reading.plant import TEXT, b64, event, jpeg, judged, kept, png, refused, repairs, row
from tests.unit.ingest.samples import record, records


@pytest.fixture(scope="module")
def plant() -> Pipeline:
    return parse(TEXT)


def test_every_type_is_kept_as_what_it_is(plant: Pipeline) -> None:
    found = row(plant, temperature=20, pressure=1.5, count=3, state="on", note="fine", embedding=[1, 2.5, -3],
                trace=[0.1, 2], photo=b64(png()), built="2026-01-02T03:04:05.678901+02:00")
    assert {name: found[name] for name in plant.fields} == {
        "temperature": 20.0, "pressure": 1.5, "count": 3, "state": "on", "note": "fine", "embedding": [1.0, 2.5, -3.0],
        "trace": [0.1, 2.0], "photo": png(), "built": datetime(2026, 1, 2, 1, 4, 5, 678901, UTC)}
    assert repairs(found) is None


def test_what_is_left_out_or_null_is_missing(plant: Pipeline) -> None:
    assert {row(plant)[name] for name in plant.fields} == {None}
    nulls = row(plant, **dict.fromkeys(plant.fields))
    assert {nulls[name] for name in plant.fields} == {None}
    assert repairs(nulls) is None


@pytest.mark.parametrize(("sent", "wanted", "before"), [
    ({"value": 212, "unit": "degF"}, 100.0, "212.0 degF"),
    ({"value": 300.15, "unit": "K"}, 27.0, "300.15 K"),
])
def test_a_value_in_another_unit_is_converted_and_noted(plant: Pipeline, sent: Any, wanted: float, before: str) -> None:
    found = row(plant, temperature=sent)
    assert found["temperature"] == pytest.approx(wanted, abs=1e-12)
    assert repairs(found) == [(0, "unit", before)]


def test_a_value_in_the_fields_own_unit_is_no_repair(plant: Pipeline) -> None:
    found = row(plant, temperature={"value": 21, "unit": "degC"})
    assert (found["temperature"], repairs(found)) == (21.0, None)


def test_a_range_is_of_the_converted_value(plant: Pipeline) -> None:
    assert row(plant, temperature={"value": 250, "unit": "K"})["temperature"] == pytest.approx(-23.15)
    assert refused(plant, temperature={"value": 500, "unit": "degF"})[:2] == ("out_of_range", "temperature")


@pytest.mark.parametrize(("sent", "code"), [
    ({"value": 1, "unit": "kg"}, "unknown_unit"),
    ({"value": 1, "unit": "degf"}, "unknown_unit"),
    ({"value": 1, "unit": ""}, "unknown_unit"),
    ({"value": 1e308, "unit": "degF"}, "out_of_range"),
    ({"value": 10**400, "unit": "degF"}, "out_of_range"),
    ({"value": "1", "unit": "degF"}, "wrong_type"),
    ({"value": True, "unit": "degF"}, "wrong_type"),
    ({"value": None, "unit": "degF"}, "wrong_type"),
    ({"value": 1}, "wrong_type"),
    ({"value": 1, "unit": 1}, "wrong_type"),
    ({"value": 1, "unit": "K", "scale": 2}, "wrong_type"),
    ({}, "wrong_type"),
    ([1], "wrong_type"),
    ("212 degF", "wrong_type"),
])
def test_what_is_no_value_in_a_known_unit_is_refused(plant: Pipeline, sent: Any, code: str) -> None:
    found, field, message = refused(plant, temperature=sent)
    assert (found, field) == (code, "temperature")
    assert message


def test_an_unknown_unit_is_told_with_those_that_are_known(plant: Pipeline) -> None:
    assert refused(plant, temperature={"value": 1, "unit": "kg"})[2] == \
        "unit 'kg' is not accepted; send degC, degF, K"


def test_outside_its_range_a_value_is_clipped_or_left_empty(plant: Pipeline) -> None:
    found = row(plant, pressure=10.5, count=-1)
    assert (found["pressure"], found["count"]) == (10.0, None)
    assert repairs(found) == [(1, "range", "10.5"), (2, "range", "-1")]
    assert row(plant, pressure=-1e300)["pressure"] == 0.0
    inside = row(plant, pressure=10, count=100)
    assert (inside["pressure"], inside["count"], repairs(inside)) == (10.0, 100, None)


def test_what_no_number_of_the_type_holds_is_refused_all_the_same(plant: Pipeline) -> None:
    assert refused(plant, count=2**63)[:2] == ("out_of_range", "count")
    assert refused(plant, count=1.5)[:2] == ("wrong_type", "count")
    assert refused(plant, pressure="11")[:2] == ("wrong_type", "pressure")


def test_text_comes_to_its_normal_form_before_categories_are_looked_at(plant: Pipeline) -> None:
    found = row(plant, state="  ON\t", note="Ae\u0301rial   view")
    assert (found["state"], found["note"]) == ("on", "A\u00e9rial view")
    assert repairs(found) == [(3, "normalise", "  ON\t"), (4, "normalise", "Ae\u0301rial   view")]
    assert refused(plant, state=" Broken ")[:2] == ("unknown_category", "state")
    assert refused(plant, state=1)[:2] == ("wrong_type", "state")


def test_a_long_text_is_noted_by_its_beginning(plant: Pipeline) -> None:
    (entry,) = repairs(row(plant, note="a  b" * 100)) or []
    assert entry[2] == ("a  b" * 100)[:64]


@pytest.mark.parametrize(("members", "code", "field"), [
    ({"embedding": [1, 2]}, "out_of_range", "embedding"),
    ({"embedding": [1, 2, 3, 4]}, "out_of_range", "embedding"),
    ({"embedding": [1, 2, "3"]}, "wrong_type", "embedding"),
    ({"embedding": [1, None, 3]}, "wrong_type", "embedding"),
    ({"embedding": [1, 1e300, 3]}, "out_of_range", "embedding"),
    ({"embedding": 1}, "wrong_type", "embedding"),
    ({"trace": [1] * 5}, "out_of_range", "trace"),
    ({"trace": [[1]]}, "wrong_type", "trace"),
    ({"trace": [10**400]}, "out_of_range", "trace"),
    ({"photo": "not base64!"}, "wrong_type", "photo"),
    ({"photo": b64(png())[:-1]}, "wrong_type", "photo"),
    ({"photo": b64(b"GIF89a")}, "malformed", "photo"),
    ({"photo": b64(png()[:20])}, "malformed", "photo"),
    ({"photo": b64(png(0, 1))}, "malformed", "photo"),
    ({"photo": b64(png() + b"\0" * 200)}, "out_of_range", "photo"),
    ({"photo": ""}, "malformed", "photo"),
    ({"photo": 1}, "wrong_type", "photo"),
    ({"built": "yesterday"}, "wrong_type", "built"),
    ({"built": "2026-06-01T12:00:00"}, "wrong_type", "built"),
    ({"built": 1e300}, "out_of_range", "built"),
    ({"built": 10**400}, "out_of_range", "built"),
    ({"built": "0001-01-01T00:00:00Z"}, "out_of_range", "built"),
    ({"built": True}, "wrong_type", "built"),
    ({"at": 10**400}, "out_of_range", "at"),
])
def test_a_value_of_another_form_is_refused(plant: Pipeline, members: dict[str, Any], code: str, field: str) -> None:
    found = refused(plant, **members)
    assert found[:2] == (code, field)
    assert 0 < len(found[2]) < 200


@pytest.mark.parametrize("sent", [1767322800, 1767322800.0, 1767322800000, "2026-01-02T03:00:00Z"])
def test_a_time_is_rfc_3339_or_an_epoch_in_seconds_or_milliseconds(plant: Pipeline, sent: Any) -> None:
    assert row(plant, built=sent)["built"] == datetime(2026, 1, 2, 3, tzinfo=UTC)


def test_images_are_told_by_their_header() -> None:
    assert misfit(png()) is None
    assert misfit(jpeg()) is None
    assert misfit(jpeg(0, 1)) == "is 0 x 1 pixels; each side must be 1 to 65535"
    assert misfit(png(70_000, 1)) == "is 70000 x 1 pixels; each side must be 1 to 65535"
    assert misfit(b"\xff\xd8\xff") == misfit(b"\xff\xd8\xff\xe0\0\0") == "has no readable image header"
    assert misfit(b"\xff\xd8\xff\xd9" + b"\0" * 20) == "has no readable image header"
    assert misfit(b"") == "is neither PNG nor JPEG"


def test_a_vector_of_pixels_comes_as_numbers_or_as_an_image() -> None:
    pictures = parse(TEXT.replace("dims: 3, input", "dims: 6, image: [2, 3], max_bytes: 300, input"))
    shown = packed(np.array([[0, 50, 100], [150, 200, 250]], dtype=np.uint8))
    numbers = [0.0, 50.0, 100.0, 150.0, 200.0, 250.0]
    found = judged(pictures, records(event(1, embedding=b64(shown)), event(2, embedding=numbers), event(3),
                                     event(4, embedding=b64(png())), event(5, embedding=b64(shown + bytes(300))),
                                     event(6, embedding=b64(shown[:-28])), event(7, embedding=[1, 2])))
    assert kept(found).column("embedding").to_pylist() == [numbers, numbers, None]
    assert [(one.position, one.code) for one in found.rejections] == [
        (3, "malformed"), (4, "out_of_range"), (5, "malformed"), (6, "out_of_range")]
    assert "not 3 x 2" in found.rejections[0].message
    column = reader_of(pictures.fields["embedding"])(pa.array([shown, None, b"x"]))
    assert column.values.to_pylist()[:2] == [numbers, None]
    assert [one.rows.tolist() for one in column.problems] == [[False, False, True]]


def test_one_bad_value_refuses_its_own_event_alone_and_once(plant: Pipeline) -> None:
    found = judged(plant, records(
        event(1, temperature={"value": 50, "unit": "degF"}), event(2, photo="AAAA", built=1e300),
        event(3, pressure=99), b"junk", event(5, embedding=[0, 0, 1e39]), event(6)))
    assert [(one.position, one.code, one.field) for one in found.rejections] == [
        (1, "malformed", "photo"), (3, "malformed", None), (4, "out_of_range", "embedding")]
    assert kept(found).column("_event_id").to_pylist() == ["e-1", "e-3", "e-6"]
    assert kept(found).column("temperature").to_pylist() == [10.0, None, None]
    assert [one is None for one in kept(found).column("_repairs").to_pylist()] == [False, False, True]


def test_present_missing_and_invalid_values_are_counted_for_every_type(plant: Pipeline) -> None:
    tally = judged(plant, records(event(1, embedding=[1, 2, 3], photo=b64(jpeg()), built=1, trace=[]),
                                  event(2), event(3, embedding=[1]), event(4, photo=b64(b"x")))).tally
    told = {name: (one.present, one.missing, one.invalid) for name, one in tally.fields.items()}
    assert told["embedding"] == (1, 1, 1)
    assert told["photo"] == (1, 1, 1)
    assert told["trace"] == told["built"] == (1, 1, 0)


def test_arrow_rows_are_set_right_like_single_events(plant: Pipeline) -> None:
    table = pa.table({
        "event_id": ["a", "b", "c", "d"], "machine": ["m"] * 4,
        "temperature": pa.array([{"value": 212, "unit": "degF"}, {"value": 1, "unit": None}, None,
                                 {"value": 1, "unit": "kg"}],
                                pa.struct([("value", pa.float64()), ("unit", pa.string())])),
        "pressure": pa.array([11, -1, None, 3], pa.int32()),
        "state": pa.array(["ON", "off", None, "on"]).dictionary_encode(),
        "photo": pa.array([png(), jpeg(), None, png()], pa.binary())})
    sent = record(write_table(table), 0, (("content-type", features.CONTENT_TYPE.encode()),))
    found = judged(plant, [sent])
    assert [(one.row, one.code, one.field) for one in found.rejections] == [(3, "unknown_unit", "temperature")]
    rows = kept(found).to_pylist()
    assert [one["temperature"] for one in rows] == [100.0, 1.0, None]
    assert [one["pressure"] for one in rows] == [10.0, 0.0, None]
    assert [one["state"] for one in rows] == ["on", "off", None]
    assert [repairs(one) for one in rows] == [
        [(0, "unit", "212.0 degF"), (1, "range", "11.0"), (3, "normalise", "ON")], [(1, "range", "-1.0")], None]


def test_a_measure_that_json_has_no_word_for_goes_to_the_dead_letters_as_it_came(plant: Pipeline) -> None:
    measure = pa.struct([("value", pa.float64()), ("unit", pa.string())])
    table = pa.table({"event_id": ["a", "b"], "machine": ["m", "m"], "temperature": pa.array(
        [{"value": float("nan"), "unit": "degF"}, {"value": 1, "unit": "kg"}], measure)})
    found = judged(plant, [record(write_table(table), 0, (("content-type", features.CONTENT_TYPE.encode()),))])
    assert [(one.code, one.row) for one in found.rejections] == [("out_of_range", 0), ("unknown_unit", 1)]
    first, second = (one.original or b"" for one in found.rejections)
    assert read_table(first).column("temperature").to_pylist()[0]["unit"] == "degF"
    assert json.loads(second)["temperature"] == {"value": 1.0, "unit": "kg"}


def test_arrow_and_single_events_in_one_batch_keep_their_own_repairs(plant: Pipeline) -> None:
    table = pa.table({"event_id": ["a"], "machine": ["m"], "pressure": [11.0]})
    arrow = record(write_table(table), 1, (("content-type", features.CONTENT_TYPE.encode()),))
    found = judged(plant, [record(event(1)), arrow, record(event(2, pressure=-2), 2)])
    assert [repairs(one) for one in kept(found).to_pylist()] == [
        None, [(1, "range", "11.0")], [(1, "range", "-2.0")]]


@pytest.mark.parametrize("spec", [
    FieldSpec(type="float", range=(0, 1), unit="degC"), FieldSpec(type="int", range=(0, 1), out_of_range="reject"),
    FieldSpec(type="bool"), FieldSpec(type="category", categories=("a",)), FieldSpec(type="text"),
    FieldSpec(type="sequence", max_length=3),
])
def test_what_its_type_says_in_full_costs_nothing_more(spec: FieldSpec) -> None:
    assert values_reader_of(spec) is None
