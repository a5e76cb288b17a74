"""Late and future events: counted, kept or refused, by a watermark that outlives the process."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lepton.bus.records import Record
from tests.unit.ingest.clean.line import Line
from tests.unit.ingest.samples import order, pipeline, record

BROKER_MS = 1_780_000_000_000
NOW = datetime.fromtimestamp(BROKER_MS / 1000, UTC)


def at(seconds: float, number: int, **members: Any) -> Record:
    """An event that occurred so long after the broker's time of all events."""
    time = (NOW + timedelta(seconds=seconds)).isoformat()
    return record(order(number, at=time, **members), number, timestamp_ms=BROKER_MS)


def line(clean: str) -> Line:
    return Line(pipeline(more=f"clean: {{{clean}}}\n"))


def test_an_event_too_far_behind_the_watermark_is_late() -> None:
    shop = line("late: {after: 10s, action: quarantine}")
    shop.take([at(-100, 0), at(-110, 1), at(-110.001, 2), at(-50, 3), at(-100, 4), at(-60, 5)])
    assert shop.refused == {2: ("late", None), 4: ("late", None)}
    assert [row["_event_id"] for row in shop.rows] == ["o-0", "o-1", "o-3", "o-5"]
    assert (shop.tally.late, shop.tally.rejected, shop.tally.codes["late"]) == (2, 2, 2)


def test_late_events_are_kept_and_counted_where_the_pipeline_keeps_them() -> None:
    shop = line("late: {after: 10s}")
    shop.take([at(-50, 0), at(-100, 1)])
    assert (shop.refused, len(shop.rows), shop.tally.late, shop.tally.accepted) == ({}, 2, 1, 2)


def test_without_a_bound_nothing_is_late() -> None:
    shop = Line(pipeline())
    shop.take([at(0, 0), at(-10**7, 1)])
    assert (shop.tally.late, len(shop.rows)) == (0, 2)


def test_the_watermark_outlives_the_process_and_an_aborted_batch_does_not_move_it() -> None:
    shop = line("late: {after: 10s, action: quarantine}")
    shop.take([at(-50, 0)])
    shop.abort([at(0, 9)])
    shop.restart()
    shop.take([at(-55, 1), at(-70, 2)])
    assert shop.refused == {2: ("late", None)}


@pytest.mark.parametrize(("action", "kept", "refused"), [
    ("keep", True, {}), ("quarantine", False, {1: ("future", None)}), ("clip", True, {})])
def test_a_future_event_moves_no_watermark(action: str, kept: bool, refused: dict[int, Any]) -> None:
    shop = line(f"late: {{after: 10s, action: quarantine}}, future: {{ahead: 60s, action: {action}}}")
    shop.take([at(0, 0), at(60.001, 1), at(59, 2), at(48, 3)])
    assert shop.refused == refused | {3: ("late", None)}
    assert ("o-1" in [row["_event_id"] for row in shop.rows]) == kept
    assert shop.tally.future == 1


def test_a_future_time_is_clipped_to_the_brokers_and_the_row_says_so() -> None:
    shop = line("future: {action: clip}")
    shop.take([at(299, 0), at(3600, 1)])
    assert [row["_occurred_at"] for row in shop.rows] == [NOW + timedelta(seconds=299), NOW]
    assert shop.rows[0]["_repairs"] is None
    assert shop.rows[1]["_repairs"] == [
        {"field": None, "what": "future", "before": (NOW + timedelta(seconds=3600)).isoformat()}]


def test_a_label_that_comes_with_a_clipped_event_has_the_clipped_time() -> None:
    shop = Line(pipeline(("type: bool}\n  dedupe", "type: bool, arrives: with_event}\n  dedupe"),
                         more="clean: {future: {action: clip}}\n"))
    accepted = shop.acceptance.judge([at(3600, 1, bought=True)], shop.partition.past, {}, frozenset())
    assert accepted.outcomes[0].label_time.ToDatetime(UTC) == NOW


def test_what_is_late_is_not_also_looked_at_for_anything_else() -> None:
    shop = line("late: {after: 10s, action: quarantine}, missing: {weight: drop}")
    shop.take([at(0, 0, weight=1), at(-100, 1)])
    assert shop.refused == {1: ("late", None)}
