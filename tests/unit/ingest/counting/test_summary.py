"""Counts of many batches add up to the counts of one."""

import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.counting.summary import AT_ONCE, MAX_SOURCES, OTHER_SOURCES, Tally, tally_accepted
from services.ingest.core.reading.intake import Rejection

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)


def tally(numbers: list[float | None], source: str = "s") -> Tally:
    return tally_accepted(["x"], [pa.array(numbers, pa.float64())], None, [source] * len(numbers))


@given(st.lists(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=20), min_size=1, max_size=6))
def test_batch_borders_do_not_change_the_summary(batches: list[list[float | None]]) -> None:
    parts = Tally()
    for numbers in batches:
        parts.add(tally(numbers))
    everything = [number for numbers in batches for number in numbers]
    whole = tally(everything).fields["x"]
    added = parts.fields["x"]
    assert (added.present, added.missing, added.numbers) == (whole.present, whole.missing, whole.numbers)
    assert (added.low, added.high) == (whole.low, whole.high)
    present = [number for number in everything if number is not None]
    if present:
        assert added.mean == pytest.approx(np.mean(present), abs=1e-6)
        assert math.sqrt(added.squares / added.numbers) == pytest.approx(np.std(present), abs=1e-3)


def batch(first: int, count: int) -> Tally:
    """Rows of several kinds of fields, numbered on from `first`."""
    numbers = range(first, first + count)
    amounts = pa.array([None if number % 7 == 0 else float(number) for number in numbers], pa.float64())
    kinds = pa.array([("a", "b", None)[number % 3] for number in numbers], pa.string())
    outlying = np.array([[number % 11 == 0, False] for number in numbers]) if first % 2 else None
    return tally_accepted(("amount", "kind"), [amounts, kinds], outlying, [f"s{number % 2}" for number in numbers],
                          frozenset({"kind"}))


def counted(tally: Tally) -> tuple[object, ...]:
    amount, kind = tally.fields["amount"], tally.fields["kind"]
    message = tally.message("p", 1, "i", START, END)
    return (tally.accepted, amount.present, amount.missing, amount.outliers, amount.low, amount.high, kind.missing,
            sorted((one.value, one.count) for field in message.fields for one in field.top),
            {name: (one.accepted, one.missing, one.outliers) for name, one in tally.sources.items()})


def test_small_batches_are_counted_together_and_say_what_they_say_alone() -> None:
    alone, together, start = Tally(), Tally(), 0
    for place in range(3 * AT_ONCE // 50):
        size = 1 + place * 7 % 100
        alone.add(batch(start, size))
        assert alone.fields
        together.add(batch(start, size))
        start += size
    assert start > 2 * AT_ONCE
    assert counted(together) == counted(alone)
    assert together.fields["amount"].mean == pytest.approx(alone.fields["amount"].mean)
    assert together.fields["amount"].squares == pytest.approx(alone.fields["amount"].squares)


def test_batches_of_two_versions_are_counted_each_by_its_own_fields() -> None:
    total = Tally()
    total.add(tally([1.0, 2.0]))
    total.add(tally_accepted(["x", "y"], [pa.array([3, 4]), pa.array([True, None])], None, ["s", "s"]))
    total.add(tally([5.0]))
    assert (total.fields["x"].present, total.fields["x"].mean) == (5, 3.0)
    assert (total.fields["y"].present, total.fields["y"].missing, total.sources["s"].accepted) == (1, 1, 5)


def test_changed_values_are_counted_beside_rows_that_wait() -> None:
    sent, later = Tally(), Tally()
    later.add(tally([1.0]))
    sent.add(later)
    sent.repair({"x": 1})
    assert (sent.fields["x"].present, sent.fields["x"].repaired, sent.sources["s"].accepted) == (1, 1, 1)


def test_the_message_says_all_of_it() -> None:
    total = tally([1.0, 3.0, None])
    total.reject([Rejection(0, "wrong_type", "", "x", "s"), Rejection(1, "malformed", ""),
                  Rejection(2, "quarantined", ""), Rejection(3, "outlier", "", "x", "s"),
                  Rejection(4, "missing", "", "order", "s")], {"x": 1})
    total.duplicates = 2
    told = total.message("p", 3, "ingest", START, END)
    assert (told.pipeline, told.spec_version, told.instance) == ("p", 3, "ingest")
    assert (told.accepted, told.rejected, told.duplicates, told.quarantined) == (3, 4, 2, 1)
    (field,) = told.fields
    assert (field.field, field.present, field.missing, field.invalid, field.outliers) == ("x", 2, 1, 1, 1)
    assert (field.mean, field.std, field.min, field.max) == (2.0, 1.0, 1.0, 3.0)
    sources = {one.source: (one.accepted, one.rejected, one.missing) for one in told.sources}
    assert sources == {"s": (3, 3, 1), "unknown": (0, 1, 0)}
    assert told.interval_end.seconds - told.interval_start.seconds == 2


def test_fields_that_are_no_numbers_have_no_mean() -> None:
    total = tally_accepted(["x"], [pa.array(["a", None])], None, ["s", "s"])
    (field,) = total.message("p", 1, "i", START, END).fields
    assert (field.present, field.missing, field.HasField("mean")) == (1, 1, False)


def test_whole_numbers_with_gaps_are_counted() -> None:
    outlying = np.array([[True], [False], [False]])
    total = tally_accepted(["x"], [pa.array([1, None, 5], pa.int64())], outlying, ["a", "b", "a"])
    assert (total.fields["x"].mean, total.fields["x"].outliers) == (3.0, 1)
    assert (total.sources["a"].outliers, total.sources["b"].missing) == (1, 1)


def test_the_largest_doubles_do_not_raise() -> None:
    assert tally([1e308, -1e308, 1e308]).fields["x"].squares == math.inf


def test_sources_beyond_the_limit_are_counted_together() -> None:
    total = Tally()
    for number in range(MAX_SOURCES + 50):
        total.add(tally([1.0], f"s{number}"))
    assert len(total.sources) == MAX_SOURCES + 1
    assert total.sources[OTHER_SOURCES].accepted == 50
