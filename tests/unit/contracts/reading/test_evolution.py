"""A change of a field goes on in its generation only where stored rows, models and producers can live with it."""

import pyarrow as pa
import pytest

from lepton.contracts import features
from lepton.contracts.pipeline import Pipeline, compatible, parse
from lepton.errors import Invalid

BASE = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: plant}
events:
  entity: machine
  fields:
    heat: {type: float, unit: degC, accept_units: [degF, K], range: [0, 100]}
    load: {type: float, unit: W}
    free: {type: float}
    state: {type: category, categories: [a, b]}
    note: {type: text}
    code: {type: category}
    vec: {type: vector, dims: 3, input: false}
    shown: {type: vector, dims: 6, image: [2, 3], input: false}
    seq: {type: sequence, max_length: 8, input: false}
    pic: {type: image, max_bytes: 100, input: false}
"""


def changed(*replacements: tuple[str, str]) -> Pipeline:
    text = BASE
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    return parse(text)


@pytest.mark.parametrize(("old", "new", "reason"), [
    ("dims: 3", "dims: 4", "field vec changes from 3 to 4 dimensions"),
    ("image: [2, 3], ", "image: [3, 2], ", "the image of field shown changes: producers send it in the size it had"),
    ("image: [2, 3], ", "", "the image of field shown changes: producers send it in the size it had"),
    ("unit: degC, accept_units: [degF, K]", "unit: K, accept_units: [degF, degC]",
     "the unit of field heat changes from degC to K: stored values are in degC"),
    ("unit: W", "range: [0, 1]", "the unit of field load changes from W to none: stored values are in W"),
    ("[degF, K]", "[degF]", "field heat no longer accepts K: producers send it"),
    ("max_length: 8", "max_length: 7", "max_length of field seq falls from 8 to 7: stored values may be larger"),
    ("max_bytes: 100", "max_bytes: 99", "max_bytes of field pic falls from 100 to 99: stored values may be larger"),
    ("note: {type: text}", "note: {type: text, normalise: [lower]}",
     "normalise of field note changes: one text would be stored under two spellings"),
    ("code: {type: category}", "code: {type: category, normalise: [trim]}",
     "normalise of field code changes: one text would be stored under two spellings"),
    ("code: {type: category}", "code: {type: category, categories: [x]}",
     "field code gets categories: stored rows may hold others"),
    ("categories: [a, b]", "categories: [a]", "field state loses categories b"),
    ("entity: machine", "entity: machine\n  time: when", "events.time changes from occurred_at to when"),
    ("free: {type: float}", "free: {type: float, required: true}",
     "field free becomes required: stored rows may lack it"),
])
def test_a_change_that_cannot_go_on_is_refused_with_its_reason(old: str, new: str, reason: str) -> None:
    assert compatible(parse(BASE), changed((old, new))) == [reason]


@pytest.mark.parametrize("replacement", [
    ("[degF, K]", "[degF, K, degR]"), ("range: [0, 100]", "range: [10, 90]"),
    ("range: [0, 100]", "range: [0, 100], out_of_range: clip"), ("free: {type: float}", "free: {type: float, unit: W}"),
    ("unit: W", "unit: W, accept_units: [kW]"),
    ("free: {type: float}", "free: {type: float, input: false}"),
    ("free: {type: float}", "extra: {type: timestamp, input: false}\n    free: {type: float}"),
    ("max_length: 8", "max_length: 9"), ("max_bytes: 100", "max_bytes: 200"),
    ("max_length: 8, ", ""), ("categories: [a, b]", "categories: [a, b, c]"),
    ("categories: [a, b]", "categories: [a, b], normalise: [lower, trim]"),
])
def test_a_change_that_leaves_stored_rows_their_meaning_goes_on(replacement: tuple[str, str]) -> None:
    assert compatible(parse(BASE), changed(replacement)) == []


def test_every_reason_is_given_at_once() -> None:
    reasons = compatible(parse(BASE), changed(("dims: 3", "dims: 4"), ("max_length: 8", "max_length: 7"),
                                              ("[degF, K]", "[K]"), ("    free: {type: float}\n", "")))
    assert len(reasons) == 4


def stored(pipeline: Pipeline, heat: list[float | None], outliers: list[list[int]],
           repairs: list[list[dict[str, object]] | None]) -> pa.Table:
    size = len(heat)
    told = {"_event_id": [str(row) for row in range(size)], "_entity": ["m"] * size, "_occurred_at": [0] * size,
            "_source": ["s"] * size, "_source_offset": list(range(size)), "_outliers": outliers, "_repairs": repairs,
            "heat": heat}
    schema = features.features_schema(pipeline)
    return pa.table([pa.array(told.get(field.name, [None] * size), field.type) for field in schema], schema=schema)


def test_rows_of_before_read_under_the_new_version() -> None:
    old = parse(BASE)
    new = changed(("    heat:", "    first: {type: int}\n    heat:"),
                  ("    note:", "    more: {type: text}\n    note:"))
    assert compatible(old, new) == []
    note: dict[str, object] = {"field": 4, "what": "normalise", "before": "x"}
    moved: dict[str, object] = {"field": None, "what": "future", "before": "t"}
    rows = features.projected(stored(old, [1.0, None, 2.0], [[0, 4], [], [0]],
                                     [[note, moved], None, [{"field": 0, "what": "unit", "before": "y"}]]), new)
    assert rows.schema.equals(features.features_schema(new))
    assert rows.column("heat").to_pylist() == [1.0, None, 2.0]
    assert rows.column("first").null_count == rows.column("more").null_count == 3
    assert rows.column("_outliers").to_pylist() == [[1, 6], [], [1]]
    assert rows.column("_repairs").to_pylist() == [
        [{**note, "field": 6}, moved], None, [{"field": 1, "what": "unit", "before": "y"}]]
    rows.validate(full=True)


def test_rows_from_before_there_were_repairs_and_chunked_ones_read_too() -> None:
    old, new = parse(BASE), changed(("    heat:", "    first: {type: int}\n    heat:"))
    table = stored(old, [1.0], [[0]], [None]).drop_columns(["_repairs"])
    rows = features.projected(pa.concat_tables([table, table.slice(1), table]), new)
    assert rows.column("_repairs").null_count == 2
    assert rows.column("_outliers").to_pylist() == [[1], [1]]


def test_rows_of_another_type_are_not_read_as_something_else() -> None:
    with pytest.raises(Invalid) as caught:
        features.projected(stored(parse(BASE), [1.0], [[]], [None]),
                           changed(("free: {type: float}", "free: {type: int}")))
    assert caught.value.field == "free"
