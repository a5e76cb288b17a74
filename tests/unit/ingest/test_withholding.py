"""A field that is quarantined is missing in every row, and counted as it came: whatever form its records have."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from lepton.bus.records import Record
from lepton.contracts.pb.quality_pb2 import FieldQuality
from lepton.contracts.pipeline import Pipeline
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.clean.past import Past
from services.ingest.core.clean.policies import Bounds
from services.ingest.core.counting.summary import Tally
from services.ingest.core.judged import Accepted
from services.ingest.core.partition import EventsPartition
from tests.unit.ingest.arrow.streams import arrow, orders
from tests.unit.ingest.samples import order, pipeline, records

INCIDENT = "inc-1"
OUT: Mapping[str, str] = {"items": INCIDENT}


def judge(events: Sequence[Record], spec: Pipeline | None = None, fields: Mapping[str, str] = OUT,
          bounds: Bounds | None = None) -> Accepted:
    spec = spec or pipeline()
    return Acceptance(spec, 1).judge(events, Past.of(spec), bounds or {}, frozenset(), fields)


def told(tally: Tally, name: str = "items") -> FieldQuality:
    return tally.fields[name].message(name)


def rows_of(accepted: Accepted) -> list[dict[str, Any]]:
    return accepted.batch.to_pylist() if accepted.batch is not None else []


def test_its_values_are_missing_in_rows_and_counted_as_they_came() -> None:
    found = judge(records(order(1, items=3, weight=1.5), order(2, items=5), order(3)))
    assert [(row["_event_id"], row["items"], row["weight"]) for row in rows_of(found)] == [
        ("o-1", None, 1.5), ("o-2", None, None), ("o-3", None, None)]
    items = told(found.tally)
    assert (items.present, items.missing, items.invalid, items.mean) == (2, 1, 0, 4.0)
    assert (items.quarantined, items.incident_id) == (True, INCIDENT)
    assert not told(found.tally, "weight").quarantined
    # Sources are judged by what rows still have.
    assert found.tally.sources["unknown"].missing == 3
    complete = dict.fromkeys(("weight", "items"), 1) | {"member": True, "country": "us", "note": "n"}
    assert judge(records(order(1, **complete))).tally.sources["unknown"].missing == 0


def test_a_value_that_would_refuse_its_row_does_so_no_more() -> None:
    broken = records(order(1, items="many"), order(2, items=2), order(3, items=7, price="dear"))
    assert len(rows_of(judge(broken, fields={}))) == 1
    found = judge(broken)
    assert [row["_event_id"] for row in rows_of(found)] == ["o-1", "o-2"]
    assert [(one.position, one.field) for one in found.rejections] == [(2, "price")]
    assert (told(found.tally).present, told(found.tally).invalid, found.tally.rejected) == (1, 1, 1)


def test_rows_of_arrow_records_too() -> None:
    table = orders(4, items=[1, None, 3, 4], weight=[None, 2.0, None, 4.0])
    found = judge([arrow(table), *records(order("x", items=9))])
    assert [(row["items"], row["weight"]) for row in rows_of(found)] == [
        (None, None), (None, 2.0), (None, None), (None, 4.0), (None, None)]
    assert (told(found.tally).present, told(found.tally).missing) == (4, 1)
    text = judge([arrow(orders(2, items=pa.array(["one", "two"])))])
    assert len(rows_of(text)) == 2
    assert (told(text.tally).present, told(text.tally).invalid) == (0, 2)


def test_repairs_of_other_fields_keep_their_places() -> None:
    spec = pipeline(("weight: {type: float}", "weight: {type: float, range: [0, 9], out_of_range: clip}"),
                    ("country: {type: category, categories: [us, de]}",
                     "country: {type: category, categories: [us, de], normalise: [lower]}"))
    found = judge(records(order(1, weight=10, items=1, country="US"), order(2, items=1)), spec)
    first, second = rows_of(found)
    assert [(note["field"], note["before"]) for note in first["_repairs"]] == [(1, "10.0"), (4, "US")]
    assert second["_repairs"] is None
    table = arrow(orders(2, weight=[1.0, 10.0], items=[1, 1]))
    assert [note["field"] for note in rows_of(judge([table], spec))[1]["_repairs"]] == [1]


def test_rows_that_are_dropped_without_it_are_set_aside_and_still_counted() -> None:
    spec = pipeline(more="clean: {missing: {items: drop}}\n")
    found = judge(records(order(1, items=3), order(2, items=4)), spec)
    assert found.batch is None
    assert {(one.code, one.field) for one in found.rejections} == {("quarantined", "items")}
    assert (found.tally.quarantined, found.tally.rejected, told(found.tally).present) == (2, 0, 2)


def test_its_outliers_are_counted_and_flag_nothing() -> None:
    spec = pipeline(more="clean: {outliers: {method: iqr, action: quarantine}}\n")
    events = records(order(1, items=100), order(2, items=2))
    assert len(rows_of(judge(events, spec, {}, {"items": (0, 9)}))) == 1
    found = judge(events, spec, OUT, {"items": (0, 9)})
    assert [row["_outliers"] for row in rows_of(found)] == [[], []]
    assert told(found.tally).outliers == 1


@pytest.mark.parametrize("field", ["price", "at", "nonsense"])
def test_what_a_row_needs_is_never_taken_from_it(field: str) -> None:
    found = judge(records(order(1, items=3)), fields={field: INCIDENT})
    (row,) = rows_of(found)
    assert (row["price"], row["items"]) == (1.0, 3)
    assert not any(one.quarantined for one in found.tally.fields.values())


def test_statistics_hold_only_what_rows_had() -> None:
    spec = pipeline()
    acceptance, partition = Acceptance(spec, 1), EventsPartition(spec)
    for number, fields in enumerate(({}, OUT)):
        events = records(*(order(f"{number}-{row}", items=5 + 1000 * number) for row in range(10)))
        partition.plan(acceptance.judge(events, partition.past, {}, frozenset(), fields), {})
        partition.keep()
    state = partition.past.statistics.state
    assert state.rows == 20
    place = state.numbers.index("items")
    assert state.moments.low[place] == state.moments.high[place] == 5


def test_while_nothing_is_quarantined_no_batch_makes_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    acceptance, past = Acceptance(pipeline(), 1), Past.of(pipeline())

    def made(*_: object) -> None:
        raise AssertionError("a reader was made for a batch")

    monkeypatch.setattr("services.ingest.core.acceptance.Reader", made)
    assert len(rows_of(acceptance.judge(records(order(1)), past, {}, frozenset(), {}))) == 1
    assert len(rows_of(acceptance.judge(records(order(2)), past, {}, frozenset(), {"price": INCIDENT}))) == 1
