"""What is remembered of entities: the newest row by event time, no more than asked for, in bounded memory."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from lepton.contracts import features
from lepton.errors import Missing
from services.predictor.core.recent.latest import MAX_BATCHES, SPARE_ROWS, Latest
from tests.harness.registry import features_batch, specify

SPEC = specify("m", {"amount": "float", "country": "category"})
T0 = datetime(2026, 3, 1, tzinfo=UTC)
DAY_S = 86_400.0


def batch(*rows: tuple[str, int, float]) -> pa.RecordBatch:
    """Entity, seconds after T0, and amount of each row."""
    given: list[dict[str, Any]] = [
        {features.EVENT_ID: f"{entity}-{second}", features.ENTITY: entity, "amount": amount, "country": "dk",
         features.OCCURRED_AT: T0 + timedelta(seconds=second)} for entity, second, amount in rows]
    return features_batch(SPEC, given)


def amount(latest: Latest, entity: str, now: datetime = T0) -> float:
    value: float = latest.find(entity, now).row.column("amount")[0].as_py()
    return value


def test_the_newest_row_is_the_one_that_occurred_last_not_the_one_heard_last() -> None:
    latest = Latest(10, DAY_S)
    latest.add(batch(("a", 5, 1.0), ("b", 0, 2.0), ("a", 3, 3.0)))
    latest.add(batch(("a", 4, 4.0), ("b", 1, 5.0)))
    assert (amount(latest, "a"), amount(latest, "b")) == (1.0, 5.0)
    found = latest.find("a", T0)
    assert (found.event_id, found.occurred_at) == ("a-5", T0 + timedelta(seconds=5))


def test_of_more_entities_than_asked_for_those_heard_of_longest_ago_are_forgotten() -> None:
    latest = Latest(2, DAY_S)
    latest.add(batch(("a", 0, 1.0), ("b", 0, 2.0)))
    latest.add(batch(("a", 1, 3.0), ("c", 0, 4.0)))
    assert len(latest) == 2
    assert (amount(latest, "a"), amount(latest, "c")) == (3.0, 4.0)
    with pytest.raises(Missing, match=r"nothing is remembered of entity 'b'.*serve\.entities\.remember"):
        latest.find("b", T0)


def test_a_row_that_is_too_old_does_not_count() -> None:
    latest = Latest(2, 60)
    latest.add(batch(("a", 0, 1.0)))
    assert amount(latest, "a", T0 + timedelta(seconds=60)) == 1.0
    with pytest.raises(Missing, match=r"occurred at 2026-03-01T00:00:00\+00:00.*max_age_s"):
        latest.find("a", T0 + timedelta(seconds=61))


def test_memory_is_bounded_whatever_comes_again_and_again() -> None:
    latest = Latest(50, DAY_S)
    for turn in range(3 * MAX_BATCHES):
        latest.add(batch(*((f"e{one}", turn, float(turn)) for one in range(100))))
        assert latest.held_rows <= 2 * len(latest) + SPARE_ROWS + 100
    for turn in range(3 * MAX_BATCHES, 6 * MAX_BATCHES):
        latest.add(batch(("e99", turn, float(turn))))
    assert len(latest) == 50
    assert amount(latest, "e99") == 6 * MAX_BATCHES - 1
    assert {amount(latest, f"e{one}") for one in range(50, 99)} == {3 * MAX_BATCHES - 1}


def test_rows_of_several_versions_of_a_pipeline_stand_beside_each_other() -> None:
    latest, other = Latest(5000, DAY_S), specify("m", {"amount": "float", "country": "category", "visits": "int"})
    latest.add(batch(("a", 0, 1.0)))
    latest.add(features_batch(other, [{features.EVENT_ID: "b-0", features.ENTITY: "b", "amount": 2.0,
                                       features.OCCURRED_AT: T0, "visits": 7}]))
    for turn in range(MAX_BATCHES):
        latest.add(batch((f"e{turn}", 0, 0.0)))
    assert "visits" not in latest.find("a", T0).row.schema.names
    assert latest.find("b", T0).row.column("visits").to_pylist() == [7]
