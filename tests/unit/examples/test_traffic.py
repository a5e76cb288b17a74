"""The example of traffic: no forecast knows what came after, and what its page says of the plain ones is so."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from examples import alone
from examples.bundled import bundled
from examples.traffic.compare import PIPELINES, error, forecast, parted, plain
from examples.traffic.data import AHEAD, AROUND, LEARNT_UNTIL, counts, quarters
from lepton.errors import Missing
from tests.unit.examples.taken import refusals

QUARTER = timedelta(minutes=15)


def test_its_rows_are_taken_by_its_pipeline() -> None:
    of, found = alone.spec("traffic"), quarters()
    first, rest = parted()
    assert (len(found), len(first), len(rest)) == (1802, 1143, 659)
    assert of.model is not None
    assert of.model.train.first_rows <= len(first)
    assert refusals(of, [one.row() for one in found]) == []


def test_what_is_known_was_counted_before_it_is_asked_and_what_is_foretold_ends_an_hour_later() -> None:
    seen = counts()
    first, rest = parted()
    assert max(one.foretold for one in first) < LEARNT_UNTIL <= min(one.foretold for one in rest)
    for one in (*first[:200], *rest[-200:]):
        newest = one.foretold - AHEAD * QUARTER
        assert one.course[-1] == seen[newest]
        assert one.course[0] == seen[newest - 11 * QUARTER]
        assert one.week[AROUND] == seen[one.foretold - timedelta(days=7)]
        assert one.following == seen[one.foretold]
        assert one.row()["occurred_at"] == (newest + QUARTER).isoformat()


def test_its_pipelines_differ_in_how_they_learn_alone() -> None:
    one, other = (alone.spec("traffic", file) for file in PIPELINES.values())
    assert one.model is not None
    assert other.model is not None
    assert (one.model.family, other.model.family) == tuple(PIPELINES)
    assert (one.events, one.clean, one.gate, one.model.train) == (
        other.events, other.clean, other.gate, other.model.train)


@pytest.mark.parametrize("file", PIPELINES.values())
def test_a_network_is_better_than_the_last_value_and_than_last_week(file: str) -> None:
    first, rest = parted()
    beside = {name: error(said, rest) for name, said in plain(rest).items()}
    assert beside == pytest.approx({"as many as now": 14.07, "as many as a week before": 11.26,
                                    "half way between the two": 10.49}, abs=0.005)
    said = forecast(first, rest, file=file)
    assert np.isfinite(said).all()
    assert error(said, rest) < 0.75 * beside["as many as now"]
    assert error(said, rest) < 0.95 * beside["as many as a week before"]


def test_without_the_package_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="make setup") as told:
        bundled("traffic_anomaly/data/sample_counts.parquet", tmp_path)
    assert str(tmp_path) in str(told.value)
