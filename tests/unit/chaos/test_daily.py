"""Days of a flow: quiet nights, busy noons, and a field that swings over the day and not from one to the next."""

import pytest

from deploy.chaos.load.daily import Day
from deploy.chaos.plan import Daily
from lepton.errors import Invalid

ROWS = [{"x": float(place), "y": place % 2 == 0} for place in range(10)]


def test_a_night_has_few_events_and_noon_the_most() -> None:
    day = Day(Daily(period_s=1200, night=0.3), ROWS)
    assert [round(day.rate(at), 6) for at in (0, 300, 600, 900, 1200, 1800)] == [0.3, 0.65, 1.0, 0.65, 0.3, 1.0]
    assert [Day(None, ROWS).rate(at) for at in (0.0, 600.0)] == [1.0, 1.0]
    assert [Day(None, ROWS).row(0.0)["x"] for _ in range(2)] == [0.0, 0.0]


def test_small_values_are_the_rule_in_the_morning_and_over_the_day_all_come_as_often() -> None:
    day = Day(Daily(period_s=1200, season="x", swing=0.4), ROWS)
    shares = [sum(day.row(at)["x"] < 5 for _ in range(100)) / 100 for at in (300, 900, 0, 600)]
    assert shares == pytest.approx([0.7, 0.3, 0.5, 0.5], abs=0.011)
    came = [day.row(1200 * place / 5000)["x"] for place in range(5000)]
    assert [came.count(float(value)) for value in range(10)] == pytest.approx([500] * 10, abs=3)


@pytest.mark.parametrize(("rows", "season"), [(ROWS, "z"), ([{"x": "a"}, {"x": "b"}], "x"), ([{"x": 1.0}] * 3, "x")])
def test_a_season_of_what_has_no_order_is_refused_with_the_field(rows: list[dict[str, object]], season: str) -> None:
    with pytest.raises(Invalid, match=r"flow\.daily\.season"):
        Day(Daily(season=season), rows)
