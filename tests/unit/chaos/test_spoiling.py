"""Faults of data: what is sent in an event's and a label's place."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from deploy.chaos.plan import Spoil
from deploy.chaos.spoiling import rate, spoil, told

EVENT = {"event_id": "e-1", "occurred_at": "2026-01-01T12:00:00+00:00", "x": 2.0, "z": 1.0}


def fault(do: str, **more: Any) -> Spoil:
    return Spoil.model_validate({"name": "a fault", "do": do, "field": "x", **more})


@pytest.mark.parametrize(("do", "more", "x"), [
    ("missing", {}, None), ("scale", {"by": 100}, 200.0), ("constant", {"value": 7}, 7.0), ("rename", {}, None),
    ("poison", {}, "n/a"), ("flip", {}, 2.0), ("surge", {}, 2.0)])
def test_only_the_named_field_is_spoilt(do: str, more: dict[str, Any], x: object) -> None:
    (sent,) = spoil(fault(do, **more), EVENT)
    assert sent.get("x") == x
    assert {key: sent[key] for key in ("event_id", "occurred_at", "z")} == {
        key: EVENT[key] for key in ("event_id", "occurred_at", "z")}
    assert (sent.get("x_v2") == 2.0) == (do == "rename")
    assert EVENT["x"] == 2.0


def test_duplicates_are_the_same_event_again_and_late_ones_are_an_hour_old() -> None:
    assert spoil(fault("duplicates"), EVENT) == [EVENT] * 3
    (late,) = spoil(fault("late"), EVENT)
    before, then = (datetime.fromisoformat(str(one["occurred_at"])) for one in (EVENT, late))
    assert before - then == timedelta(hours=1)


def test_labels_are_inverted_or_do_not_come() -> None:
    assert told(fault("flip"), True) is False
    assert told(fault("flip"), 3.5) == 3.5
    assert told(fault("no_labels"), True) is None
    assert told(fault("scale"), True) is True


def test_more_or_no_events_flow() -> None:
    assert (rate(fault("surge", by=5)), rate(fault("silence")), rate(fault("poison"))) == (5, 0, 1)


def test_a_drift_takes_ever_more_events_and_once_taken_an_event_stays_so() -> None:
    events = [{**EVENT, "event_id": f"e-{number}"} for number in range(1000)]
    drifted = [{event["event_id"] for event in events if spoil(fault("drift", value=9), event, progress)[0]["x"] == 9}
               for progress in (0.0, 0.25, 0.5, 1.0)]
    assert [len(one) for one in (drifted[0], drifted[3])] == [0, 1000]
    assert 200 < len(drifted[1]) < 300
    assert drifted[1] < drifted[2] < drifted[3]
