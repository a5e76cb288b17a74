"""Any JSON value of any field gives a row or one rejection with a code; what is kept comes back as what was sent."""

import base64
import json
import math
import struct
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.contracts import features
from lepton.contracts.pipeline import Pipeline, compatible, parse
from lepton.contracts.reading.lines import write
from services.ingest.core.judged import Accepted
from tests.unit.ingest.reading.plant import TEXT, b64, event, jpeg, judged, kept, png
from tests.unit.ingest.samples import records

PLANT = parse(TEXT)
CODES = {"malformed", "missing", "wrong_type", "out_of_range", "unknown_category", "unknown_unit"}

NUMBERS = st.integers(-10**25, 10**25) | st.floats(allow_nan=False, allow_infinity=False) | st.just(10**400)
SIMPLE = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
JSON = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(
    st.text(max_size=5) | st.sampled_from(["value", "unit"]), inner, max_size=3), max_leaves=8)
NEAR = {
    "temperature": NUMBERS | st.fixed_dictionaries({
        "value": JSON, "unit": st.sampled_from(["degC", "degF", "K", "kg"])}),
    "pressure": NUMBERS, "count": st.integers(-200, 200) | st.integers(),
    "state": st.sampled_from(["on", " OFF ", "x"]), "note": st.text(),
    "embedding": st.lists(NUMBERS, min_size=2, max_size=4), "trace": st.lists(NUMBERS, max_size=5),
    "photo": (st.sampled_from([png(), jpeg()]) | st.binary(max_size=40)).map(b64) | st.text(max_size=8),
    "built": NUMBERS | st.datetimes().map(lambda time: time.isoformat() + "Z"),
}
EVENTS = st.fixed_dictionaries({}, optional={name: near | JSON for name, near in NEAR.items()})


def read_back(accepted: Accepted) -> list[dict[str, Any]]:
    batch = features.decode_batch(features.encode_batch(kept(accepted)))
    rows: list[dict[str, Any]] = features.decode_table(
        features.encode_table(pa.Table.from_batches([batch]))).to_pylist()
    return rows


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=4))
def test_every_event_is_a_row_or_a_rejection_with_a_code(events: list[dict[str, Any]]) -> None:
    accepted = judged(PLANT, records(*(event(number, **members) for number, members in enumerate(events))))
    rows = read_back(accepted) if accepted.batch is not None else []
    refused = [one.position for one in accepted.rejections]
    assert len(rows) + len(refused) == len(events)
    assert sorted(refused + [int(row["_event_id"][2:]) for row in rows]) == list(range(len(events)))
    for one in accepted.rejections:
        assert one.code in CODES
        assert one.field in PLANT.fields
        assert one.message
    assert accepted.tally.accepted == len(rows)
    assert sum(tally.invalid for tally in accepted.tally.fields.values()) == len(refused)
    for row in rows:
        check(events[int(row["_event_id"][2:])], row)


def check(sent: dict[str, Any], row: dict[str, Any]) -> None:
    """What was not repaired is what was sent; what was says what it was before."""
    names = list(PLANT.fields)
    notes = {(names[one["field"]], one["what"]): one["before"] for one in row["_repairs"] or ()}
    repaired = {name for name, _ in notes}
    for name in names:
        value, was = row[name], sent.get(name)
        if was is None:
            assert value is None
            assert name not in repaired
        elif name not in repaired:
            assert same(name, was, value), (name, was, value)
        else:
            assert not same(name, was, value) or (name, "unit") in notes
    for (name, _), before in notes.items():
        assert 0 < len(before) <= 64 or name in ("note", "state")
    spec = PLANT.fields["pressure"].range
    assert row["pressure"] is None or spec is None or spec[0] <= row["pressure"] <= spec[1]
    assert row["state"] in (None, "on", "off")
    assert row["temperature"] is None or -50 <= row["temperature"] <= 150


def same(name: str, sent: Any, value: Any) -> bool:
    if name == "temperature" and isinstance(sent, dict):
        return same(name, sent["value"], value) and bool(sent["unit"] == "degC")
    if name == "photo":
        return bool(base64.b64decode(sent) == value)
    if name == "embedding":
        return bool([as_float32(one) for one in sent] == value)
    if name == "built" and isinstance(sent, str):
        return bool(datetime.fromisoformat(sent) == value)
    if name == "built":
        seconds = sent / 1000 if abs(sent) >= 1e11 else sent
        return bool(abs((value - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() - seconds) <= 1e-4)
    return bool(sent == value)


def as_float32(number: float) -> float:
    (found,) = struct.unpack("<f", struct.pack("<f", number))
    return float(found)


SPECS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "heat": st.fixed_dictionaries({"type": st.just("float")}, optional={
        "unit": st.sampled_from(["degC", "K"]), "range": st.sampled_from([[0, 10], [-5, 20]]),
        "required": st.booleans()}),
    "load": st.fixed_dictionaries({"type": st.sampled_from(["float", "int"])}, optional={"required": st.booleans()}),
    "state": st.fixed_dictionaries({"type": st.just("category")}, optional={
        "categories": st.sampled_from([["a"], ["a", "b"], ["a", "b", "c"]]),
        "normalise": st.sampled_from([["trim"], ["lower"]])}),
    "note": st.fixed_dictionaries({"type": st.just("text")}, optional={"normalise": st.just(["nfc"])}),
    "vec": st.fixed_dictionaries({"type": st.just("vector"), "dims": st.sampled_from([2, 3]), "input": st.just(False)}),
    "seq": st.fixed_dictionaries({"type": st.just("sequence"), "input": st.just(False)}, optional={
        "max_length": st.sampled_from([2, 3])}),
    "built": st.fixed_dictionaries({"type": st.just("timestamp"), "input": st.just(False)}),
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "heat": st.floats(0, 10), "load": st.integers(0, 99), "state": st.sampled_from(["a", "b", "c"]),
    "note": st.text(max_size=5), "vec": st.lists(st.integers(0, 9), min_size=2, max_size=3),
    "seq": st.lists(st.floats(0, 1), max_size=3), "built": st.integers(0, 10**9)}


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    names = draw(st.lists(st.sampled_from(sorted(SPECS)), min_size=1, unique=True).map(sorted))
    fields = {name: draw(SPECS[name]) for name in names}
    return parse(write({"apiVersion": "lepton/v1", "kind": "Pipeline", "metadata": {"name": "plant"},
                        "events": {"entity": "machine", "time": "at", "partitions": 1, "fields": fields}}))


@settings(max_examples=300, deadline=None)
@given(pipelines(), pipelines(), st.lists(st.fixed_dictionaries({}, optional=VALUES), min_size=1, max_size=5))
def test_rows_of_a_compatible_version_read_and_mean_the_same(old: Pipeline, new: Pipeline,
                                                             events: list[dict[str, Any]]) -> None:
    accepted = judged(old, records(*(event(number, **members) for number, members in enumerate(events))))
    assert compatible(old, old) == []
    if accepted.batch is None or compatible(old, new):
        return
    table = pa.Table.from_batches([features.decode_batch(features.encode_batch(accepted.batch))])
    rows = features.projected(table, new)
    rows.validate(full=True)
    assert rows.schema.equals(features.features_schema(new))
    for before, after in zip(table.to_pylist(), rows.to_pylist(), strict=True):
        for name, spec in new.fields.items():
            assert after[name] == before.get(name)
            assert after[name] is not None or not spec.required
            assert spec.type != "category" or not spec.categories or after[name] in (None, *spec.categories)
            if spec.type == "vector" and after[name] is not None:
                assert len(after[name]) == spec.dims
            if spec.type == "sequence" and after[name] is not None:
                assert len(after[name]) <= spec.length_limit
        assert noted(before, old) == noted(after, new)


def noted(row: dict[str, Any], pipeline: Pipeline) -> list[tuple[str, str, str]]:
    names = list(pipeline.fields)
    return [(names[one["field"]], one["what"], one["before"]) for one in row["_repairs"] or ()]


def test_the_numbers_of_json_are_finite() -> None:
    assert not math.isfinite(json.loads("1e999"))
    (why,) = judged(PLANT, records(b'{"event_id": "e", "machine": "m", "at": 0, "trace": [1e999]}')).rejections
    assert (why.code, why.field) == ("out_of_range", "trace")
