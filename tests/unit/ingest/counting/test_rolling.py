"""Roll-ups count every summary once: whatever is read again, written late, sealed, or merged after a restart."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.contracts import codec
from lepton.contracts.pb.quality_pb2 import QualityRollup, QualitySummary
from lepton.contracts.topics import Topic
from lepton.errors import Invalid
from services.ingest.core.counting import rollups
from services.ingest.core.counting.rollups import Taken
from services.ingest.core.counting.summary import Tally, tally_accepted
from services.ingest.flow.rolling import Rolling

BEGIN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
TOPIC = "lepton-quality-shop"


def summary(numbers: list[float], at_s: float, instance: str = "a", pipeline: str = "shop") -> QualitySummary:
    start = BEGIN + timedelta(seconds=at_s)
    tally = tally_accepted(["x"], [pa.array(numbers, pa.float64())], None, [instance] * len(numbers))
    tally.late = 1
    return tally.message(pipeline, 2, instance, start, start + timedelta(seconds=2))


def taken(offset: int, at_s: float = 0) -> Taken:
    return Taken(TOPIC, 0, offset, BEGIN + timedelta(seconds=at_s + 2))


def rolled(stored: dict[str, bytes], key: str) -> QualityRollup:
    return codec.decode_as(Topic.QUALITY_ROLLUPS, QualityRollup, stored[key])


def test_a_summary_counts_in_its_minute_and_its_hour() -> None:
    stored: dict[str, bytes] = {}
    rolling = Rolling(stored)
    rolling.take(summary([1.0, 2.0], 59), taken(0))
    rolling.take(summary([3.0], 61, "b"), taken(1))
    rolling.write()
    counted = {key: rolled(stored, key).summary.accepted for key in stored}
    assert counted == {"shop/1m/2026-01-31T12:00:00Z": 2, "shop/1m/2026-01-31T12:01:00Z": 1,
                       "shop/1h/2026-01-31T12:00:00Z": 3}
    hour = rolled(stored, "shop/1h/2026-01-31T12:00:00Z")
    assert (hour.summary.late, hour.summary.spec_version, hour.summary.instance) == (2, 2, "")
    assert list(hour.summary.fields[0].quantiles)[3] == 2.0
    assert {one.source: one.accepted for one in hour.summary.sources} == {"a": 2, "b": 1}


def test_what_this_stage_never_wrote_is_dropped_and_told_of() -> None:
    stored: dict[str, bytes] = {}
    rolling = Rolling(stored)
    rolling.take(summary([1.0], 1), taken(0))
    rolling.write()
    ours = dict(stored)
    minute, hour = sorted(stored, key=len, reverse=True)[:2]
    stored |= {"shop/1m/2026-01-31T12:07:00Z": b"\xff\x00\x01", "shop/1m/2026-01-31T12:08:00Z": stored[minute],
               "no key": stored[hour], "shop/2m/2026-01-31T12:00:00Z": stored[hour]}
    again = Rolling(stored)
    assert len(again.begin()) == 4
    assert stored == ours
    again.take(summary([2.0], 2), taken(1))
    again.write()
    assert rolled(stored, minute).summary.accepted == 2


def test_what_is_read_again_changes_nothing_also_after_a_restart() -> None:
    stored: dict[str, bytes] = {}
    rolling = Rolling(stored)
    for offset in range(3):
        assert rolling.take(summary([1.0], offset), taken(offset)) == 2
    rolling.write()
    again = Rolling(stored)
    again.begin()
    assert [again.take(summary([1.0], offset), taken(offset)) for offset in range(4)] == [0, 0, 0, 2]
    again.write()
    assert rolled(stored, "shop/1h/2026-01-31T12:00:00Z").summary.accepted == 4


@given(st.lists(st.tuples(st.integers(0, 400), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5)),
                min_size=1, max_size=25), st.data())
def test_restarts_and_replays_anywhere_give_the_counts_of_one_run(
        told: list[tuple[int, list[float]]], data: st.DataObject) -> None:
    messages = [summary(numbers, at_s) for at_s, numbers in told]
    whole: dict[str, bytes] = {}
    once = Rolling(whole)
    for offset, message in enumerate(messages):
        once.take(message, taken(offset))
    once.write()
    stored: dict[str, bytes] = {}
    done = 0
    while done < len(messages):
        # A life: begin at or before what is durable, take some, perhaps write, die.
        life = Rolling(stored)
        life.begin()
        end = data.draw(st.integers(done + 1, len(messages)))
        for offset in range(data.draw(st.integers(0, done)), end):
            life.take(messages[offset], taken(offset))
        if data.draw(st.booleans()) or end == len(messages):
            life.write()
            done = end
    assert stored.keys() == whole.keys()
    for key in whole:
        one, other = rolled(stored, key), rolled(whole, key)
        assert one.summary.accepted == other.summary.accepted
        assert one.summary.fields[0].present == other.summary.fields[0].present
        assert one.summary.fields[0].mean == pytest.approx(other.summary.fields[0].mean, abs=1e-3)
        assert one.applied == other.applied


def test_a_minute_long_past_loses_its_sketches_and_still_counts_what_comes_late() -> None:
    stored: dict[str, bytes] = {}
    rolling = Rolling(stored)
    rolling.take(summary(np.arange(100.0).tolist(), 0), taken(0))
    rolling.write()
    first = rolled(stored, "shop/1m/2026-01-31T12:00:00Z").summary.fields[0]
    assert first.quantile_sketch
    rolling.take(summary([5.0], 500), taken(1, 500))
    rolling.write()
    sealed = rolled(stored, "shop/1m/2026-01-31T12:00:00Z").summary.fields[0]
    assert not sealed.quantile_sketch and not sealed.distinct_sketch
    assert sealed.quantiles == first.quantiles and sealed.histogram == first.histogram
    again = Rolling(stored)
    again.begin()
    again.take(summary([7.0], 3), taken(2, 500))
    again.write()
    late = rolled(stored, "shop/1m/2026-01-31T12:00:00Z").summary.fields[0]
    assert (late.present, late.quantiles, late.sketched) == (101, first.quantiles, 100)
    hour = rolled(stored, "shop/1h/2026-01-31T12:00:00Z").summary.fields[0]
    assert (hour.present, hour.sketched) == (102, 102)


def test_minutes_are_dropped_after_a_day_and_hours_after_a_month() -> None:
    stored: dict[str, bytes] = {}
    rolling = Rolling(stored)
    day_s = 86_400
    for offset, at_s in enumerate((0, day_s + 120, 32 * day_s)):
        rolling.take(summary([1.0], at_s), taken(offset, at_s))
        rolling.write()
    assert sorted(stored) == ["shop/1h/2026-02-01T12:00:00Z", "shop/1h/2026-03-04T12:00:00Z",
                              "shop/1m/2026-03-04T12:00:00Z"]


def test_a_clock_that_runs_ahead_seals_nothing() -> None:
    stored: dict[str, bytes] = {}
    rolling = Rolling(stored)
    rolling.take(summary([1.0], 0), taken(0))
    rolling.take(summary([1.0], 40 * 86_400), taken(1, 1))
    rolling.write()
    assert rolled(stored, "shop/1m/2026-01-31T12:00:00Z").summary.fields[0].quantile_sketch


def test_a_summary_that_cannot_be_read_changes_nothing() -> None:
    stored: dict[str, bytes] = {}
    rolling = Rolling(stored)
    broken = summary([1.0], 0)
    broken.fields[0].quantile_sketch = b"garbage"
    with pytest.raises(Invalid, match="sketch of x"):
        rolling.take(broken, taken(0))
    assert not rolling.pending


def test_a_key_says_what_it_is_of() -> None:
    key = rollups.key_of("shop", "1m", BEGIN)
    assert rollups.parse_key(key) == ("shop", "1m", BEGIN)
    with pytest.raises(ValueError, match="no interval"):
        rollups.parse_key("shop/1d/2026-01-31T12:00:00Z")


@given(st.lists(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=8), min_size=3, max_size=3))
def test_merging_summaries_is_associative(parts: list[list[float | None]]) -> None:
    def of(numbers: list[float | None]) -> QualitySummary:
        tally = tally_accepted(["x"], [pa.array(numbers, pa.float64())], None, ["s"] * len(numbers))
        return tally.message("shop", 1, "a", BEGIN, BEGIN)

    def both(left: QualitySummary, right: QualitySummary) -> QualitySummary:
        tally = Tally.of(left)
        tally.add(Tally.of(right))
        return tally.message("shop", 1, "a", BEGIN, BEGIN)

    first, second, third = map(of, parts)
    one, other = both(both(first, second), third), both(first, both(second, third))
    assert (one.accepted, one.sources) == (other.accepted, other.sources)
    mine, yours = one.fields[0], other.fields[0]
    assert (mine.present, mine.missing, mine.min, mine.max) == (yours.present, yours.missing, yours.min, yours.max)
    assert mine.quantiles == yours.quantiles and mine.distinct == yours.distinct
    assert mine.mean == pytest.approx(yours.mean, abs=1e-3)
