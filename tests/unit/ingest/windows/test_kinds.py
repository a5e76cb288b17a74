"""What each kind of window and each aggregate says, by example."""

import math
import statistics

import pyarrow as pa
import pytest

from services.ingest.core.windows.step import Windows
from tests.unit.ingest.windows.samples import Event, Partition, at, batch, columns_of, pipeline


def tapped(window: str, *events: tuple[float, float | None], entity: str = "card-1") -> list[dict[str, float | None]]:
    """Columns for one entity's events (seconds, value)."""
    partition = Partition(pipeline(window))
    return partition.accept([Event(entity, at(second), value) for second, value in events])


def column(rows: list[dict[str, float | None]], name: str) -> list[float | None]:
    return [row[name] for row in rows]


def test_a_tumbling_window_counts_up_and_begins_anew_on_the_minute() -> None:
    rows = tapped("name: w, size: 1m, of: value, aggregates: [count, sum]", (0, 5), (59.9, 1), (60, 2), (61, 3))
    assert column(rows, "w_count") == [1, 2, 1, 2]
    assert column(rows, "w_sum") == [5, 6, 2, 5]


def test_a_hopping_window_is_the_one_that_began_earliest_and_still_holds_the_event() -> None:
    rows = tapped("name: w, kind: hopping, size: 1m, every: 20s, aggregates: [count]",
                  (0, 1), (19, 1), (40, 1), (59, 1), (60, 1), (79, 1), (80, 1))
    # At 60 the window that began at 20 is the oldest one open; at 80 that which began at 40.
    assert column(rows, "w_count") == [1, 2, 3, 4, 3, 4, 5]


def test_a_sliding_window_reaches_back_over_its_size_in_steps_of_a_sixtieth() -> None:
    rows = tapped("name: w, kind: sliding, size: 1m, of: value, aggregates: [max]", (0, 9), (30, 1), (59, 2), (60, 3))
    assert column(rows, "w_max") == [9, 9, 9, 3]


def test_a_session_lasts_as_long_as_no_silence_is_longer_than_its_gap() -> None:
    rows = tapped("name: w, kind: session, gap: 10s, aggregates: [count]", (0, 1), (10, 1), (20, 1), (30.1, 1))
    assert column(rows, "w_count") == [1, 2, 3, 1]


def test_windows_of_several_entities_have_nothing_to_do_with_each_other() -> None:
    partition = Partition(pipeline("name: w, size: 1m, of: value, aggregates: [sum]"))
    rows = partition.accept([Event("a", at(0), 1), Event("b", at(0), 10), Event("a", at(1), 2), Event("b", at(1), 20)])
    assert column(rows, "w_sum") == [1, 10, 3, 30]


def test_time_since_is_null_for_the_first_event_and_counts_from_the_newest_one_else() -> None:
    rows = tapped("name: w, size: 1m, aggregates: [time_since]", (5, None), (7.5, None), (6, None), (9.5, None))
    # The third came late: the newest event known then was after it.
    assert column(rows, "w_time_since") == [None, 2.5, None, 2.0]


def test_missing_values_count_as_events_only_where_no_field_is_named() -> None:
    every = tapped("name: w, size: 1m, aggregates: [count]", (0, None), (1, 4))
    valued = tapped("name: w, size: 1m, of: value, aggregates: [count, sum, mean, min, max, last, distinct, std]",
                    (0, None), (1, 4))
    assert column(every, "w_count") == [1, 2]
    assert valued[0] == {"w_count": 0, "w_sum": None, "w_mean": None, "w_min": None, "w_max": None, "w_last": None,
                         "w_distinct": 0, "w_std": None}
    assert valued[1] == {"w_count": 1, "w_sum": 4, "w_mean": 4, "w_min": 4, "w_max": 4, "w_last": 4, "w_distinct": 1,
                         "w_std": None}


def test_std_is_that_of_a_sample_and_survives_large_values() -> None:
    values = [1e9 + step for step in (0.1, 0.2, 0.4, 0.3, 0.1)]
    for kind in ("name: w, size: 1m", "name: w, kind: hopping, size: 1m, every: 1s"):
        rows = tapped(f"{kind}, of: value, aggregates: [std]", *enumerate(values))
        assert rows[0]["w_std"] is None
        assert rows[-1]["w_std"] == pytest.approx(statistics.stdev([value - 1e9 for value in values]), rel=1e-5)


def test_the_last_value_is_the_one_with_the_newest_event_time() -> None:
    rows = tapped("name: w, size: 1m, of: value, aggregates: [last]", (10, 1), (20, 2), (15, 3), (20, 4), (21, None))
    assert column(rows, "w_last") == [1, 2, 2, 4, 4]


@pytest.mark.parametrize(("window", "expected"), [
    # Two minutes are kept: the one before takes what is late, the one before that no more.
    ("name: w, size: 1m, aggregates: [count]", [1, 1, 2, None, 2]),
    ("name: w, kind: session, gap: 30s, aggregates: [count]", [1, 1, None, None, 2]),
])
def test_a_late_event_counts_where_its_pane_is_kept_and_never_in_the_current_one(
        window: str, expected: list[float | None]) -> None:
    assert column(tapped(window, (10, 1), (70, 1), (20, 1), (-10, 1), (71, 1)), "w_count") == expected


def test_a_late_event_of_a_hopping_window_counts_from_then_on_wherever_it_belongs() -> None:
    rows = tapped("name: w, kind: hopping, size: 40s, every: 10s, aggregates: [count]",
                  (0, 1), (25, 1), (12, 1), (26, 1), (41, 1), (45, 1), (5, 1))
    # Half the size is how late one may be: at 45 the last one is later than that.
    assert column(rows, "w_count") == [1, 2, 2, 4, 4, 5, None]


def test_distinct_is_exact_for_numbers_flags_whole_numbers_and_text() -> None:
    for field, expected in (("value", [1, 2, 2, 3]), ("items", [1, 1, 1, 2]), ("flag", [1, 2, 2, 2]),
                            ("note", [1, 2, 2, 2])):
        partition = Partition(pipeline(f"name: w, size: 1m, of: {field}, aggregates: [distinct]"))
        rows = partition.accept([Event("a", at(0), -0.0, "x"), Event("a", at(1), 0.5, "y"), Event("a", at(2), 0.0, "x"),
                                 Event("a", at(3), 7.0, None)])
        assert column(rows, "w_distinct") == expected, field


def test_flags_add_up_as_zeros_and_ones() -> None:
    partition = Partition(pipeline("name: w, size: 1m, of: flag, aggregates: [sum, mean]"))
    rows = partition.accept([Event("a", at(0), 1.0), Event("a", at(1), -1.0), Event("a", at(2), None)])
    assert rows[-1] == {"w_sum": 1, "w_mean": 0.5}


def test_what_is_no_finite_number_is_no_value_and_no_answer() -> None:
    spec = pipeline("name: w, size: 1m, of: value, aggregates: [count, sum, max]")
    rows = batch(spec, [Event("a", at(0), value) for value in (math.inf, math.nan, 1e308, 1e308)])
    given, _ = Windows(spec).plan(rows)
    assert columns_of(spec, given) == [
        {"w_count": 0, "w_sum": None, "w_max": None}, {"w_count": 0, "w_sum": None, "w_max": None},
        {"w_count": 1, "w_sum": 1e308, "w_max": 1e308}, {"w_count": 2, "w_sum": None, "w_max": 1e308}]


def test_the_rest_of_a_row_is_as_it_was() -> None:
    spec = pipeline("name: w, size: 1m, aggregates: [count]")
    rows = batch(spec, [Event("a", at(0), 1.5, "x"), Event("b", at(1), None, None)])
    given, _ = Windows(spec).plan(rows)
    kept = [name for name in rows.schema.names if name != "w_count"]
    assert given.select(kept).equals(rows.select(kept))
    assert given.schema.equals(rows.schema, check_metadata=True)
    assert given.column("w_count").type == pa.float64()


def test_without_windows_the_rows_pass_and_nothing_is_written() -> None:
    spec = pipeline("name: w, size: 1m, aggregates: [count]").model_copy(update={"features": type(
        pipeline("name: w, size: 1m, aggregates: [count]").features)()})
    rows = batch(spec, [Event("a", at(0), 1.0)])
    assert Windows(spec).plan(rows) == (rows, [])
