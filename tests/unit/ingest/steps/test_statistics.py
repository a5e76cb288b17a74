"""Streaming statistics: what they say, that cuts, restarts and merges do not matter, and what they cost in state."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import Outliers
from lepton.errors import Invalid
from services.ingest.core.steps.frequent import COUNTERS, Frequent
from services.ingest.core.steps.frozen import Frozen, next_freeze
from services.ingest.core.steps.moments import Moments
from services.ingest.core.steps.sample import MAX_ROWS, Sample, size_for, tickets
from services.ingest.core.steps.statistics import Statistics, StatisticsStep, matrix
from tests.harness.loops import LOOPS, looping
from tests.unit.ingest.samples import pipeline

NUMBERS = ("price", "weight", "items")
Array = np.ndarray[Any, np.dtype[Any]]


def rows(count: int, seed: int = 0) -> Array:
    """Three columns, of very different scale and with gaps."""
    chance = np.random.default_rng(seed)
    found = np.stack((chance.normal(300, 0.5, count), chance.lognormal(3, 2, count),
                      chance.integers(0, 9, count).astype(float)), axis=1)
    found[chance.random((count, 3)) < 0.05] = np.nan
    return found


def batch(values: Array, countries: list[str | None] | None = None) -> pa.RecordBatch:
    columns: dict[str, Any] = {name: pa.array(values[:, place], from_pandas=True)
                               for place, name in enumerate(NUMBERS)}
    return pa.record_batch({**columns, "country": pa.array(countries or ["us"] * len(values), pa.string())})


def step(spec: Pipeline | None = None) -> StatisticsStep:
    return StatisticsStep(spec or pipeline(), 3)


def cut(values: Array, places: list[int]) -> list[Array]:
    return [part for part in np.split(values, sorted({place % len(values) for place in places})) if len(part)]


def same(one: Statistics, other: Statistics) -> bool:
    """To the last bit, frequent values apart."""
    assert one.moments.to_bytes() == other.moments.to_bytes()
    assert (one.sample.tickets == other.sample.tickets).all()
    assert one.sample.rows.tobytes() == other.sample.rows.tobytes()
    assert (one.rows, one.numbers, one.categories) == (other.rows, other.numbers, other.categories)
    assert (one.frozen is None) == (other.frozen is None)
    if one.frozen is not None and other.frozen is not None:
        assert (one.frozen.rows, one.frozen.to_bytes()) == (other.frozen.rows, other.frozen.to_bytes())
    return True


def test_count_mean_spread_and_range_are_those_of_numpy() -> None:
    values = rows(5000)
    found = Moments.none(3)
    for part in cut(values, [1, 700, 701, 3000]):
        found = found.fed(part)
    assert found.present.tolist() == np.isfinite(values).sum(axis=0).tolist()
    assert (found.present + found.missing).tolist() == [5000.0] * 3
    assert found.mean == pytest.approx(np.nanmean(values, axis=0), rel=1e-12)
    assert found.std == pytest.approx(np.nanstd(values, axis=0), rel=1e-9)
    assert (found.low.tolist(), found.high.tolist()) == (np.nanmin(values, axis=0).tolist(),
                                                         np.nanmax(values, axis=0).tolist())


def test_quantiles_are_exact_while_the_sample_holds_all_rows_and_near_later() -> None:
    values = rows(60_000)
    state = Statistics.none(pipeline()).fed(0, values[:4000])
    assert state.frozen is not None
    present = values[:4000, 1][np.isfinite(values[:4000, 1])]
    assert [state.frozen.q1[1], state.frozen.median[1], state.frozen.q3[1]] == np.quantile(
        present, [0.25, 0.5, 0.75]).tolist()
    assert state.frozen.mad[1] == np.median(np.abs(present - np.median(present)))
    later = state.fed(0, values[4000:]).summary()
    present = np.sort(values[:, 1][np.isfinite(values[:, 1])])
    for wanted, found in ((0.25, later.q1[1]), (0.5, later.median[1]), (0.75, later.q3[1])):
        # Four standard deviations of a rank in a sample of 4,096.
        assert abs(np.searchsorted(present, found) / len(present) - wanted) < 4 * 0.5 / np.sqrt(MAX_ROWS)


def test_statistics_are_frozen_at_fixed_counts_of_rows() -> None:
    assert [next_freeze(rows) for rows in (0, 499, 500, 999, 1000, 3999)] == [500, 500, 1000, 1000, 2000, 4000]
    values, state, frozen = rows(1100), Statistics.none(pipeline()), []
    for row in range(0, 1100, 100):
        state = state.fed(0, values[row:row + 100])
        frozen.append(state.frozen.rows if state.frozen is not None else 0)
    assert frozen == [0] * 4 + [500] * 5 + [1000] * 2


@pytest.mark.parametrize(("outliers", "low", "high"), [
    (Outliers(method="iqr", k=1.0), 1.0 - 2.0, 3.0 + 2.0),
    (Outliers(method="zscore", k=2.0), 2.0 - 2.0 * np.sqrt(2), 2.0 + 2.0 * np.sqrt(2)),
    (Outliers(method="mad", k=1.0), 2.0 - 1.4826, 2.0 + 1.4826)])
def test_bounds_follow_the_methods_of_the_trainer(outliers: Outliers, low: float, high: float) -> None:
    # A constant column and an empty one have none.
    values = np.stack((np.array([0.0, 1, 2, 3, 4]), np.ones(5), np.full(5, np.nan)), axis=1)
    sample = Sample.none(3).joined(tickets(0, 0, 5), values)
    bounds = Frozen.of(5, Moments.none(3).fed(values), sample).bounds(("a", "b", "c"), outliers)
    assert list(bounds) == ["a"]
    assert bounds["a"] == pytest.approx((low, high))


def test_rows_looked_ahead_at_are_counted_once_and_forgotten_with_the_batch() -> None:
    values, plain, ahead = rows(1800), step(), step()
    for start, stop in ((0, 900), (900, 1800)):
        ahead.begin()
        ahead.outlook(values[:700])
        ahead.drop()
        part = values[start:stop]
        ahead.begin()
        seen = [ahead.outlook(part[first:first + 200]) for first in (0, 200, 400)]
        assert [(one.frozen.rows if one.frozen is not None else 0) for one in seen] == [
            max([at for at in (500, 1000) if at <= start + count], default=0) for count in (200, 400, 600)]
        assert ahead.plan(batch(part))[1] == plain.plan(batch(part))[1]
        ahead.keep()
        plain.keep()
    assert same(ahead.state, plain.state)


def test_no_method_and_a_method_for_rows_have_no_bounds() -> None:
    state = Statistics.none(pipeline()).fed(0, rows(500))
    assert state.frozen is not None
    assert state.frozen.bounds(NUMBERS, Outliers()) == {}
    assert state.frozen.bounds(NUMBERS, Outliers(method="half_space_trees")) == {}


def test_the_largest_numbers_give_no_bounds_and_no_error() -> None:
    values = rows(500)
    values[::2, 0] = 1.7e308
    values[::3, 0] = -1.7e308
    frozen = Statistics.none(pipeline()).fed(0, values).frozen
    assert frozen is not None
    assert "price" not in frozen.bounds(NUMBERS, Outliers(method="zscore"))


@given(st.lists(st.integers(0, 9_999), max_size=12), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_any_cut_of_the_rows_gives_the_same_bits(places: list[int], seed: int) -> None:
    values = rows(9_000, seed)
    state = Statistics.none(pipeline())
    for part in cut(values, places):
        state = state.fed(3, part)
    assert same(state, Statistics.none(pipeline()).fed(3, values))


@given(st.lists(st.tuples(st.integers(1, 400), st.sampled_from(["keep", "drop", "restart"])), max_size=60))
@settings(max_examples=30, deadline=None)
def test_what_was_written_brings_back_what_was_known(batches: list[tuple[int, str]]) -> None:
    values, at, live, stored = rows(30_000), 0, step(), dict[bytes, bytes]()
    for count, what in batches:
        part = batch(values[at:at + count], ["us" if number % 3 else None for number in range(count)])
        if what == "drop":
            live.plan(part)
            live.drop()
        _, records = live.plan(part)
        live.keep()
        stored |= dict(records)
        at += count
        if what == "restart":
            live = step()
            live.restore(stored)
    assert same(live.state, Statistics.none(pipeline()).fed(3, values[:at]))
    again = step()
    again.restore(stored)
    assert same(again.state, live.state)
    assert again.state.frequent == live.state.frequent


def test_a_long_run_of_small_batches_writes_little_and_is_read_back() -> None:
    values, live, stored, written = rows(12_000), step(), dict[bytes, bytes](), 0
    for start in range(0, len(values), 40):
        _, records = live.plan(batch(values[start:start + 40]))
        live.keep()
        stored |= dict(records)
        written += sum(len(value) for _, value in records)
    again = step()
    again.restore(stored)
    assert same(again.state, live.state)
    assert written / len(values) < 1000
    assert sum(map(len, stored.values())) < 2_000_000
    assert max(map(len, stored.values())) < 300_000


@pytest.mark.parametrize("damage", ["head", "base", "epoch"])
def test_state_that_cannot_be_read_is_not_passed_over(damage: str) -> None:
    live, stored = step(), dict[bytes, bytes]()
    for start in range(0, 300, 100):
        stored |= dict(live.plan(batch(rows(300)[start:start + 100]))[1])
        live.keep()
    key = {"head": b"statistics/head", "base": b"statistics/base/0", "epoch": b"statistics/new/0"}[damage]
    stored[key] = b"\xc1" if damage != "epoch" else stored[b"statistics/base/0"][:-1]
    with pytest.raises(Invalid, match="statistics of a partition cannot be read"):
        step().restore(stored)


def test_another_version_of_the_pipeline_keeps_what_is_known_of_its_fields() -> None:
    live = step()
    live.plan(batch(rows(600)))
    live.keep()
    grown = pipeline(("    note: {type: text}",
                      "    note: {type: text}\n    size: {type: float}\n    kind: {type: category}"))
    live.plan(batch(rows(100)))
    live.adopt(grown)  # while a batch is on its way
    live.keep()
    state = live.state
    assert state.numbers == (*NUMBERS, "size")
    assert state.categories == ("country", "kind")
    assert (state.rows, state.moments.missing[3], state.moments.present[3]) == (700, 700.0, 0.0)
    values = batch(rows(50)).append_column("size", pa.array(np.arange(50.0))).append_column(
        "kind", pa.array(["a"] * 50))
    _, records = live.plan(values)
    live.keep()
    again = StatisticsStep(grown, 3)
    again.restore(dict(records))
    assert same(again.state, live.state)
    assert again.state.summary().median[3] == 24.5


def parts_of(values: Array) -> list[Statistics]:
    thirds = np.array_split(values, 3)
    return [Statistics.none(pipeline()).fed(place, part) for place, part in enumerate(thirds)]


@given(st.integers(3, 9000), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_merging_partitions_is_associative_and_says_what_all_rows_say(count: int, seed: int) -> None:
    values = rows(count, seed)
    a, b, c = parts_of(values)
    left, right = a.merge(b).merge(c), a.merge(b.merge(c))
    assert (left.sample.tickets == right.sample.tickets).all()
    assert left.sample.rows.tobytes() == right.sample.rows.tobytes()
    for what in ("present", "missing", "low", "high"):
        assert getattr(left.moments, what).tolist() == getattr(right.moments, what).tolist()
    for one in (left, right, b.merge(c).merge(a)):
        assert one.rows == count
        assert one.moments.mean == pytest.approx(np.nanmean(values, axis=0), rel=1e-9, nan_ok=True)
        assert one.moments.std == pytest.approx(np.nanstd(values, axis=0), rel=1e-6, abs=1e-12, nan_ok=True)
    present = np.sort(values[:, 1][np.isfinite(values[:, 1])])
    if len(present) > 1:
        rank = np.searchsorted(present, left.summary().median[1]) / len(present)
        assert abs(rank - 0.5) <= 5 * 0.5 / np.sqrt(min(MAX_ROWS, len(present))) + 1 / len(present)


def test_a_merge_takes_the_fields_of_the_first() -> None:
    grown = pipeline(("    note: {type: text}", "    note: {type: text}\n    size: {type: float}"))
    old, new = Statistics.none(pipeline()).fed(0, rows(10)), Statistics.none(grown)
    merged = new.merge(old)
    assert (merged.numbers, merged.rows) == ((*NUMBERS, "size"), 10)


def test_a_sample_of_many_columns_holds_fewer_rows() -> None:
    assert (size_for(10), size_for(512), size_for(2000)) == (4096, 1024, 262)
    assert len(Sample.none(0).joined(*Sample.none(0).drawn(tickets(0, 0, 9), np.zeros((9, 0)))).tickets) == 0


def test_every_row_is_as_likely_to_be_in_the_sample() -> None:
    values = np.arange(40_000.0)[:, None]
    state = Sample.none(1)
    for start in range(0, 40_000, 5000):
        state = state.joined(*state.drawn(tickets(1, start, 5000), values[start:start + 5000]))
    counts, _ = np.histogram(state.rows[:, 0], bins=8, range=(0, 40_000))
    assert len(state.tickets) == MAX_ROWS
    assert np.abs(counts - MAX_ROWS / 8).max() < 5 * np.sqrt(MAX_ROWS / 8)


@given(st.lists(st.lists(st.integers(0, 200), max_size=300), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_frequent_values_are_never_overcounted_and_off_by_at_most_their_error(batches: list[list[int]]) -> None:
    found = Frequent()
    for one in batches:
        found = found.fed(pa.array([f"v{value}" for value in one] + [None], pa.string()))
    merged = Frequent().fed(pa.array([], pa.string())).merge(found).merge(Frequent())
    assert merged == found
    everything = [f"v{value}" for one in batches for value in one]
    assert len(found.counts) <= COUNTERS
    assert found.error <= len(everything) / (COUNTERS + 1)
    for value in set(everything):
        assert found.counts.get(value, 0) <= everything.count(value) <= found.counts.get(value, 0) + found.error


def test_few_values_are_counted_exactly_and_long_ones_are_cut() -> None:
    found = Frequent().fed(pa.array(["a", "b", "a", None, "é" * 500, "é" * 400]))
    assert found.top() == [("a", 2), ("é" * 100, 2), ("b", 1)]
    assert found.merge(Frequent().fed(pa.array(["b", "b"]))).top(1) == [("b", 3)]


def test_a_matrix_has_nan_where_a_value_is_missing() -> None:
    found = matrix([pa.array([1, None], pa.int64()), pa.array([2.5, 3.5])], 2)
    assert np.array_equal(found, np.array([[1.0, 2.5], [np.nan, 3.5]]), equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, 1e308, -1e308, 0.1])] * 3),
                min_size=1, max_size=30), st.integers(0, 30))
def test_both_loops_add_up_to_the_same_bits(rows: list[tuple[float, ...]], cut: int) -> None:
    found = []
    for loops in (LOOPS[0], LOOPS[-1]):
        with looping(loops), np.errstate(over="ignore"):
            # A zero has no sign here: which of two is the least is left open.
            numbers = np.array(rows, order="F") + 0.0
            found.append(Moments.none(3).fed(numbers[:cut]).fed(numbers[cut:]))
    assert all(np.array_equal(getattr(found[0], name), getattr(found[1], name), equal_nan=True) for name in (
        "present", "missing", "shift", "total", "squares", "low", "high"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.floats(), st.floats(-10, 10), st.sampled_from([0.0, -0.0, 1.0, 1.7e308, -1.7e308])),
                min_size=1, max_size=50))
def test_frozen_ranks_are_those_of_numpy(values: list[float]) -> None:
    rows = np.array(values)[:, None]
    sample = Sample(len(rows), np.arange(len(rows), dtype=np.uint64), rows)
    frozen = Frozen.of(len(rows), Moments.none(1).fed(rows), sample)
    present = rows[np.isfinite(rows)]
    found = np.concatenate([frozen.q1, frozen.median, frozen.q3, frozen.mad])
    if not len(present):
        assert np.isnan(found).all()
        return
    with np.errstate(over="ignore", invalid="ignore"):
        quartiles = np.quantile(present, [0.25, 0.5, 0.75])
        wanted = np.array([*quartiles, np.median(np.abs(present - quartiles[1]))])
    # Zeros may differ in their sign.
    assert np.array_equal(found, wanted, equal_nan=True)
