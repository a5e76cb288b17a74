"""The example of passengers: no forecast knows what came after, and what its page says of the plain ones is so."""

import itertools

import numpy as np
import pytest

from examples import alone
from examples.passengers.compare import error, forecast, parted, plain
from examples.passengers.data import LEARNT_UNTIL, MONTHS, months
from tests.unit.examples.taken import refusals


def test_its_rows_are_taken_by_its_pipeline() -> None:
    of, found = alone.spec("passengers"), months()
    first, rest = parted()
    assert (len(found), len(first), len(rest)) == (120, 84, 36)
    assert of.model is not None
    assert of.model.train.first_rows == len(first)
    assert refusals(of, [one.row() for one in found]) == []


def test_a_course_ends_with_the_month_before_the_one_that_is_foretold() -> None:
    found = months()
    for one, later in itertools.pairwise(found):
        assert len(one.passengers) == MONTHS
        assert later.passengers[-1] == one.following
        assert one.row()["course"][-1] == 1
    first, rest = parted()
    assert {one.year for one in first} == set(range(1951, LEARNT_UNTIL + 1))
    assert {one.year for one in rest} == {1958, 1959, 1960}
    # Passengers of December 1960, in the data's own words.
    assert rest[-1].following == 432


def test_the_network_is_far_better_than_the_last_value_and_about_as_good_as_the_seasonal_forecast() -> None:
    first, rest = parted()
    beside = {name: error(said, rest) for name, said in plain(rest).items()}
    assert beside["as many as this month"] == pytest.approx(42.3, abs=0.05)
    assert beside["as many as a year before"] == pytest.approx(35.9, abs=0.05)
    assert beside["changes as a year before"] == pytest.approx(13.4, abs=0.05)
    said = forecast(first, rest)
    assert np.isfinite(said).all()
    assert error(said, rest) < 0.5 * beside["as many as this month"]
    assert error(said, rest) < 1.4 * beside["changes as a year before"]
