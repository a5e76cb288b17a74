"""Half-space trees: odd rows are flagged whole, and the same ones after restarts, aborted batches and other cuts."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from lepton.errors import Invalid
from tests.unit.ingest.clean.line import Line, events
from tests.unit.ingest.samples import order, pipeline

TREES = "clean: {outliers: {method: half_space_trees, action: %s, k: 0.975}}\n"
ODD = {"price": 900.0, "weight": 500.0, "items": 90}


def stream(count: int, odd: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    chance = np.random.default_rng(3)
    return [order(row, **(ODD if row in odd else {
        "price": float(chance.normal(100, 10)), "weight": float(chance.normal(5, 1)),
        "items": int(chance.integers(1, 9))})) for row in range(count)]


def flagged(line: Line) -> list[str]:
    return [row["_event_id"] for row in line.rows if row["_outliers"]]


def test_a_row_unlike_the_others_is_outlying_in_all_its_numbers() -> None:
    line = Line(pipeline(more=TREES % "keep"))
    line.take(events(*stream(900, odd=(300, 700, 850))))
    # Nothing is outlying before statistics are frozen at 500 rows.
    assert "o-300" not in flagged(line)
    assert {"o-700", "o-850"} <= set(flagged(line))
    assert len(flagged(line)) < 30
    assert line.rows[700]["_outliers"] == [0, 1, 2]
    assert line.rows[700]["price"] == 900.0


def test_such_rows_are_dead_letters_where_the_pipeline_quarantines_them() -> None:
    line = Line(pipeline(more=TREES % "quarantine"))
    line.take(events(*stream(900, odd=(700,))))
    assert line.refused[700] == ("outlier", None)
    assert "o-700" not in [row["_event_id"] for row in line.rows]
    line.take(events(stream(701, odd=(700,))[700] | {"price": 100.0, "weight": 5.0, "items": 4}, first=900))
    assert line.rows[-1]["_event_id"] == "o-700"


@pytest.mark.parametrize("action", ["keep", "quarantine"])
def test_cuts_restarts_and_aborted_batches_change_nothing(action: str) -> None:
    rows = stream(1300, odd=(600, 601, 1100))
    whole = Line(pipeline(more=TREES % action))
    whole.take(events(*rows))
    other = Line(pipeline(more=TREES % action))
    places = [0, 1, 249, 499, 500, 620, 621, 760, 1000, 1010, 1300]
    for number, (start, stop) in enumerate(pairwise(places)):
        batch = events(*rows[start:stop], first=start)
        if number % 2:
            other.abort(batch)
        other.take(batch)
        if number % 3 == 1:
            other.restart()
    assert (other.rows, other.refused) == (whole.rows, whole.refused)
    assert flagged(whole) or whole.refused


def test_the_method_can_be_chosen_and_left_by_a_newer_version() -> None:
    line = Line(pipeline())
    rows = stream(1400, odd=(1390,))
    line.take(events(*rows[:600]))
    line.adopt(pipeline(more=TREES % "keep"))
    line.take(events(*rows[600:1395], first=600))
    assert "o-1390" in flagged(line)
    before = len(flagged(line))
    line.adopt(pipeline())
    line.take(events(*rows[1395:], first=1395))
    assert len(flagged(line)) == before


def test_a_window_that_cannot_be_read_is_not_passed_over() -> None:
    line = Line(pipeline(more=TREES % "keep"))
    line.take(events(*stream(3)))
    line.state[b"trees/0"] = line.state[b"trees/0"][:-3]
    with pytest.raises(Invalid, match="half-space trees cannot be read"):
        line.restart()


def test_state_stays_small() -> None:
    line = Line(pipeline(more=TREES % "keep"))
    rows = stream(1300)
    for start in range(0, 1300, 2):
        line.take(events(*rows[start:start + 2], first=start))
    mine = [value for key, value in line.state.items() if key.startswith(b"trees/")]
    assert len(mine) <= 500
    assert sum(map(len, mine)) < 150_000
