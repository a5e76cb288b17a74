"""A record of many events is judged row by row, column by column, in order."""

import json
from typing import Any

import pyarrow as pa
import pytest

from lepton.contracts.pipeline import Pipeline
from services.ingest.core.clean.past import Past
from tests.unit.ingest.arrow.streams import AT, arrow, here, judged, orders, rows_of
from tests.unit.ingest.samples import order, pipeline, record

SHOP = pipeline()
WITH_LABEL = pipeline(("{field: bought, type: bool}", "{field: bought, type: bool, arrives: with_event}"))


def refused(table: pa.Table, spec: Pipeline = SHOP) -> list[tuple[int | None, str, str | None]]:
    return [(one.row, one.code, one.field) for one in judged(spec, [arrow(table)]).rejections]


def test_every_row_of_a_record_is_accepted_in_order() -> None:
    accepted = judged(SHOP, [arrow(orders(5), offset=7)])
    assert [row["_event_id"] for row in rows_of(accepted)] == [f"o-{number}" for number in range(5)]
    assert [row["_source_offset"] for row in rows_of(accepted)] == [7] * 5
    assert (accepted.rejections, accepted.strays, accepted.tally.accepted) == ([], [], 5)


def test_the_rows_of_records_and_single_events_keep_the_order_of_the_log() -> None:
    first, last = orders(2), orders(2, order=["o-8", "o-9"])
    accepted = judged(SHOP, [arrow(first, 0), record(order("x"), 1), record(b"no JSON", 2), arrow(last, 3)])
    assert [(row["_event_id"], row["_source_offset"]) for row in rows_of(accepted)] == [
        ("o-0", 0), ("o-1", 0), ("o-x", 1), ("o-8", 3), ("o-9", 3)]
    assert [(one.position, one.row, one.code) for one in accepted.rejections] == [(2, None, "malformed")]


def test_a_record_says_the_same_as_its_rows_would_one_by_one() -> None:
    customers = here(3)
    singles = [order(number, customer=name, price=1.5, items=number, member=True, country="de", note="é")
               for number, name in enumerate(customers)]
    single = rows_of(judged(SHOP, [record(one) for one in singles]))
    table = orders(3, customer=customers, price=[1.5] * 3, items=[0, 1, 2], member=[True] * 3, country=["de"] * 3,
                   note=["é"] * 3)
    assert rows_of(judged(SHOP, [arrow(table)])) == single


def test_whole_numbers_and_narrow_ones_become_floats_and_dictionaries_become_text() -> None:
    table = orders(2, price=pa.array([1, 2], pa.int16()), weight=pa.array([0.5, 0.25], pa.float32()),
                   items=pa.array([3, None], pa.uint8()), country=pa.array(["de", "us"]).dictionary_encode(),
                   note=pa.array(["a", "b"], pa.large_string()), order=pa.array([11, 12], pa.uint32()))
    rows = rows_of(judged(SHOP, [arrow(table)]))
    assert [(row["price"], row["weight"], row["items"], row["country"], row["note"], row["_event_id"])
            for row in rows] == [(1.0, 0.5, 3, "de", "a", "11"), (2.0, 0.25, None, "us", "b", "12")]


@pytest.mark.parametrize(("columns", "field"), [
    ({"price": ["1", "2"]}, "price"), ({"items": pa.array([1.0, 2.0])}, "items"), ({"member": [1, 0]}, "member"),
    ({"note": pa.array([[1], [2]])}, "note"), ({"at": pa.array([AT, AT], pa.timestamp("us"))}, "at"),
    ({"at": ["2026-06-01T12:00:00Z"] * 2}, "at"), ({"order": pa.array([1.0, 2.0])}, "order"),
    ({"price": pa.array([1, 2], pa.decimal128(5, 2))}, "price"), ({"nobody": [1, 2]}, "nobody"),
    ({"price": pa.array([1.0, 1.0]).dictionary_encode()}, "price"), ({"bought": [True, False]}, "bought"),
    ({"price": None}, "price"), ({"order": None}, "order"), ({"customer": None}, "customer"),
    ({"price": pa.array([{"a": 1}, {"a": 2}])}, "price")])
def test_a_column_that_does_not_fit_refuses_the_record_and_names_the_column(columns: dict[str, Any],
                                                                            field: str) -> None:
    typed = {name: pa.array(column) if isinstance(column, list) else column for name, column in columns.items()}
    (why,) = judged(SHOP, [arrow(orders(2, **typed))]).rejections
    assert (why.row, why.field, why.code, why.events) == (None, field, "wrong_type", 2)
    assert field in why.message


def test_only_the_bad_rows_of_a_record_are_refused_each_for_its_first_reason() -> None:
    table = orders(8, price=[1.0, -1.0, None, float("nan"), 5.0, 6.0, 7.0, 8.0],
                   country=["de", "fr", None, "us", "xx", "us", "us", "us"],
                   order=["a", "b", "c", "d", "e", "", "x" * 257, "line\nbreak"])
    assert refused(table) == [
        (1, "out_of_range", "price"), (2, "missing", "price"), (3, "out_of_range", "price"),
        (4, "unknown_category", "country"), (5, "out_of_range", "order"), (6, "out_of_range", "order"),
        (7, "malformed", "order")]
    assert [row["_event_id"] for row in rows_of(judged(SHOP, [arrow(table)]))] == ["a"]


def test_a_refused_row_keeps_its_values_as_they_came() -> None:
    table = orders(3, price=[-1.0, 2.0, float("inf")], country=pa.array(["de", "us", "us"]).dictionary_encode())
    finite, infinite = judged(SHOP, [arrow(table)]).rejections
    assert json.loads(finite.original or b"") == {
        "order": "o-0", "customer": here(1)[0], "at": "2026-06-01T12:00:00Z", "price": -1.0, "country": "de"}
    # JSON has no word for infinity.
    assert pa.ipc.open_stream(infinite.original).read_all().to_pylist() == table.slice(2, 1).to_pylist()


def test_a_refused_row_that_is_mended_is_accepted_as_an_event_of_its_own() -> None:
    (why,) = judged(SHOP, [arrow(orders(1, price=[-1.0]))]).rejections
    mended = json.loads(why.original or b"") | {"price": 1.0}
    assert rows_of(judged(SHOP, [record(mended)]))[0]["price"] == 1.0


def test_an_event_of_a_record_counts_once_however_it_comes_again() -> None:
    past = Past.of(SHOP)
    past.seen.apply(judged(SHOP, [arrow(orders(3))], past=past).plan)
    again = judged(SHOP, [arrow(orders(4)), record(order(0, customer=here(1)[0]))], past=past)
    assert [row["_event_id"] for row in rows_of(again)] == ["o-3"]
    assert again.tally.duplicates == 4


def test_labels_that_come_with_the_rows_become_outcomes() -> None:
    accepted = judged(WITH_LABEL, [arrow(orders(3, bought=[True, None, False]))])
    assert [(one.event_id, one.flag) for one in accepted.outcomes] == [("o-0", True), ("o-2", False)]


def test_a_row_without_a_time_has_the_time_of_its_record() -> None:
    headers = (("ce_time", b"2026-01-01T00:00:00Z"),)
    told = judged(SHOP, [arrow(orders(2, at=[AT, None]), headers=headers)])
    assert [row["_occurred_at"].isoformat() for row in rows_of(told)] == [
        "2026-06-01T12:00:00+00:00", "2026-01-01T00:00:00+00:00"]
    silent = arrow(orders(1, at=None))
    assert rows_of(judged(SHOP, [silent]))[0]["_occurred_at"].timestamp() == silent.timestamp_ms / 1000


@pytest.mark.parametrize(("times", "expected"), [
    (pa.array([1_780_315_200], pa.int32()), "2026-06-01T12:00:00+00:00"),
    (pa.array([1_780_315_200_000]), "2026-06-01T12:00:00+00:00"),
    (pa.array([1_780_315_200.5]), "2026-06-01T12:00:00.500000+00:00"),
    (pa.array([AT], pa.timestamp("s", tz="Europe/Berlin")), "2026-06-01T12:00:00+00:00"),
    (pa.array([1_780_315_200_000_000_123], pa.timestamp("ns", tz="UTC")), "2026-06-01T12:00:00+00:00")])
def test_times_are_read_in_every_unit(times: pa.Array, expected: str) -> None:
    assert rows_of(judged(SHOP, [arrow(orders(1, at=times))]))[0]["_occurred_at"].isoformat() == expected


@pytest.mark.parametrize("times", [
    pa.array([2**62]), pa.array([float("nan")]), pa.array([-(2**62)], pa.timestamp("s", tz="UTC")),
    pa.array([2**61], pa.timestamp("us", tz="UTC"))])
def test_a_time_that_cannot_be_refuses_its_row(times: pa.Array) -> None:
    assert refused(orders(1, at=times)) == [(0, "out_of_range", "at")]


def test_a_quarantined_source_is_turned_away_as_a_whole() -> None:
    sent = arrow(orders(3), headers=(("ce_source", b"till-3"),))
    accepted = judged(SHOP, [sent], quarantined=frozenset({"till-3"}))
    assert [(one.code, one.events, one.source) for one in accepted.rejections] == [("quarantined", 3, "till-3")]
    assert accepted.tally.quarantined == 3


def test_rows_carry_the_source_of_their_record_and_traces_of_their_own() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    accepted = judged(SHOP, [arrow(orders(2, traceparent=[None, trace]), headers=(("ce_source", b"till-3"),))])
    assert [row["_source"] for row in rows_of(accepted)] == ["till-3", "till-3"]
    assert accepted.traces == [None, trace]


def test_rows_the_pipeline_drops_for_a_missing_value_are_refused_alone() -> None:
    spec = pipeline(more="clean: {missing: {weight: drop}}\n")
    accepted = judged(spec, [arrow(orders(3, weight=[1.0, None, 2.0]))])
    assert [(one.row, one.code, one.field) for one in accepted.rejections] == [(1, "missing", "weight")]
    assert json.loads(accepted.rejections[0].original or b"")["order"] == "o-1"
    assert len(rows_of(accepted)) == 2
