"""The example of recommendation: real purchases that its Pipeline takes, and lists better than one for everybody."""

import pytest

from examples import alone
from examples.recommendation.compare import bought_before
from examples.recommendation.data import purchases
from services.trainer.core.learning import Given, learn
from tests.unit.examples.taken import refusals

Row = alone.Row


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(purchases(60, 150))


def test_its_rows_are_taken_by_its_pipeline(rows: list[Row]) -> None:
    assert refusals(alone.spec("recommendation"), rows[:500]) == []


def test_they_are_what_was_bought_in_order_of_time_a_product_once_a_day(rows: list[Row]) -> None:
    assert len({(row["customer"], row["product"], row["occurred_at"]) for row in rows}) == len(rows)
    assert len({row["customer"] for row in rows}) == 150
    assert len({row["product"] for row in rows}) == 60
    days = [str(row["occurred_at"]) for row in rows]
    assert days == sorted(days)
    assert days[0].startswith("2000-11-01")


def test_a_list_of_ones_own_is_better_than_the_same_for_everybody(rows: list[Row]) -> None:
    of = alone.spec("recommendation")
    found = learn(alone.plan(of, epochs=8), Given(alone.table(of, rows)), []).metrics
    ndcg, hit_rate, mrr, coverage = bought_before(rows, 0.2)
    assert found["ndcg"] > 1.1 * found["baseline_ndcg"]
    assert ndcg > 1.1 * found["baseline_ndcg"]
    assert 0 < mrr < ndcg < hit_rate < 1
    assert coverage == 1
