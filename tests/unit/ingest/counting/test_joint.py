"""How fields go together is told of ranks, of rows that have all of them, and the same however rows were batched."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from lepton.contracts.pb.quality_pb2 import QualitySummary
from services.ingest.core.counting.joint import AT_ONCE, MAX_FIELDS, MAX_ROWS, MIN_ROWS
from services.ingest.core.counting.summary import Tally, tally_accepted

AT = datetime(2026, 1, 1, tzinfo=UTC)


def told(tally: Tally) -> QualitySummary:
    return tally.message("shop", 1, "ingest-0", AT, AT)


def tally(*columns: "pa.Array", categories: frozenset[str] = frozenset()) -> Tally:
    names = tuple(f"x{place}" for place in range(len(columns)))
    return tally_accepted(names, columns, None, ["s"] * len(columns[0]), categories)


def test_correlations_are_spearmans_pair_by_pair() -> None:
    drawn = np.random.default_rng(1).normal(size=(3, 200)).round(1)
    drawn[1] += 2 * drawn[0]
    joint = told(tally(*map(pa.array, drawn))).joint
    known = stats.spearmanr(drawn.T).statistic
    assert list(joint.fields) == ["x0", "x1", "x2"]
    assert joint.rows == 200
    assert list(joint.correlations) == pytest.approx([known[0, 1], known[0, 2], known[1, 2]])


def test_units_and_outliers_change_nothing() -> None:
    one, other = np.random.default_rng(2).normal(size=(2, 100))
    plain = told(tally(pa.array(one), pa.array(other))).joint
    assert told(tally(pa.array(np.exp(20 * one)), pa.array(other * 1e6 - 3))).joint == plain


def test_truth_values_and_categories_are_ranked_by_their_text_and_free_text_is_left_out() -> None:
    flags = [True, False] * 10
    joint = told(tally(pa.array(flags), pa.array(["yes" if one else "no" for one in flags]), pa.array(["a b"] * 20),
                       pa.array([1] * 20), categories=frozenset({"x1"}))).joint
    assert list(joint.fields) == ["x0", "x1", "x3"]
    assert list(joint.correlations) == pytest.approx([1.0, 0.0, 0.0])


def test_only_rows_that_have_every_field_count() -> None:
    numbers: list[float | None] = [float(place) for place in range(40)]
    gaps = [None if place % 4 == 0 else -place for place in range(40)]
    joint = told(tally(pa.array(numbers), pa.array(gaps, pa.int64()))).joint
    assert joint.rows == 30
    assert list(joint.correlations) == pytest.approx([-1.0])


def test_one_field_or_few_rows_say_nothing() -> None:
    assert not told(tally(pa.array([1.0] * 50))).HasField("joint")
    assert not told(tally(*[pa.array([1.0] * (MIN_ROWS - 1))] * 2)).HasField("joint")
    assert not told(Tally()).HasField("joint")


def test_an_interval_is_sampled_within_bounds_and_alike_whenever_it_is_read() -> None:
    def interval() -> QualitySummary:
        drawn, total = np.random.default_rng(3), Tally()
        for _ in range(30):
            total.add(tally(*[pa.array(drawn.normal(size=1_000)) for _ in range(MAX_FIELDS + 3)]))
        return told(total)

    joint = interval().joint
    assert AT_ONCE < joint.rows <= MAX_ROWS
    assert len(joint.fields) == MAX_FIELDS
    assert len(joint.correlations) == MAX_FIELDS * (MAX_FIELDS - 1) // 2
    assert interval().joint == joint


def test_another_version_of_the_pipeline_begins_anew_and_a_rollup_leaves_it_out() -> None:
    total = tally(pa.array(np.arange(20)), pa.array(np.arange(20)))
    total.add(tally_accepted(("x0", "y"), [pa.array(np.arange(30)), pa.array(np.arange(30)[::-1])], None, ["s"] * 30))
    summary = told(total)
    assert (list(summary.joint.fields), summary.joint.rows) == (["x0", "y"], 30)
    assert not told(Tally.of(summary)).HasField("joint")
