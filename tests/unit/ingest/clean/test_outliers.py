"""Outliers by a partition's own frozen statistics, while no champion says what is usual."""

from typing import Any

import pytest

from services.ingest.core.steps.statistics import Statistics
from tests.unit.ingest.clean.line import Line, events
from tests.unit.ingest.samples import order, pipeline


def spec(outliers: str) -> Any:
    return pipeline(more=f"clean: {{outliers: {{{outliers}}}}}\n")


def usual(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Prices of 40 to 59, weights always 1, items of 1 to 5."""
    return [order(number, price=40.0 + number % 20, weight=1.0, items=1 + number % 5)
            for number in range(first, first + count)]


@pytest.mark.parametrize("method", ["iqr", "mad", "zscore"])
def test_nothing_is_outlying_before_500_rows_and_what_lies_far_outside_is_after(method: str) -> None:
    line = Line(spec(f"method: {method}, action: keep"))
    odd = {"price": 900.0}
    line.take(events(*usual(499), order("early", **odd), order("late", items=90, **odd), *usual(3, first=600)))
    flagged = {row["_event_id"]: row["_outliers"] for row in line.rows if row["_outliers"]}
    assert flagged == {"o-late": [0, 2]}
    assert line.rows[500]["price"] == 900.0
    assert (line.tally.fields["price"].outliers, line.tally.sources["unknown"].outliers) == (1, 1)


def test_a_field_without_spread_has_no_outliers() -> None:
    line = Line(spec("method: iqr, action: quarantine"))
    line.take(events(*usual(500), order("x", price=50.0, weight=77.0)))
    assert line.refused == {}


def test_clip_and_null_flag_but_leave_the_value_to_the_models_graph() -> None:
    for action in ("clip", "null"):
        line = Line(spec(f"method: iqr, action: {action}"))
        line.take(events(*usual(500), order("x", price=900.0)))
        assert (line.rows[-1]["price"], line.rows[-1]["_outliers"], line.rows[-1]["_repairs"]) == (900.0, [0], None)


def test_a_quarantined_outlier_leaves_no_trace_in_the_statistics() -> None:
    line, without = (Line(spec("method: iqr, action: quarantine")) for _ in range(2))
    line.take(events(*usual(500), *(order(f"x{number}", price=900.0) for number in range(40)), *usual(500, first=600)))
    assert {line.refused[offset] for offset in range(500, 540)} == {("outlier", "price")}
    without.take(events(*usual(500), *usual(500, first=600)))
    mine, theirs = line.partition.past.statistics.state, without.partition.past.statistics.state
    assert mine.moments.to_bytes() == theirs.moments.to_bytes()
    assert mine.frozen is not None
    assert mine.frozen.rows == 1000


def test_a_refused_outlier_may_come_again_corrected() -> None:
    line = Line(spec("method: iqr, action: quarantine"))
    line.take(events(*usual(500), order("x", price=900.0), order("x", price=50.0)))
    assert (line.rows[-1]["_event_id"], line.tally.duplicates) == ("o-x", 0)


def test_a_champion_with_bounds_goes_before() -> None:
    line = Line(spec("method: iqr, action: quarantine"), champion={"price": (45.0, 1000.0)})
    line.take(events(*usual(20), *usual(600, first=100)))
    assert all(row["price"] >= 45 for row in line.rows)
    line.take(events(order("x", price=900.0, items=90), first=2000))
    assert line.rows[-1]["_event_id"] == "o-x"
    line.champion = {}
    line.take(events(*usual(200, first=3000), order("y", price=900.0), first=3000))
    assert line.refused[3200] == ("outlier", "price")


def test_another_method_judges_by_the_same_frozen_statistics() -> None:
    line = Line(spec("method: none, action: keep"))
    line.take(events(*usual(500)))
    line.adopt(spec("method: iqr, action: quarantine"))
    line.take(events(order("x", price=900.0), first=900))
    assert line.refused == {900: ("outlier", "price")}


def test_statistics_of_two_partitions_merge_into_those_of_all_rows() -> None:
    halves = [Line(spec("method: iqr")) for _ in range(2)]
    for place, line in enumerate(halves):
        line.take(events(*usual(300, first=place * 300)))
    merged: Statistics = halves[0].partition.past.statistics.state.merge(halves[1].partition.past.statistics.state)
    assert (merged.rows, merged.summary().mean[0], merged.moments.high[0]) == (600, 49.5, 59.0)
