"""Rows of Arrow columns as Python values: what they take is told before, and what cannot be told is refused alone."""

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from lepton.contracts.files.tables import MAX_STEP_BYTES, Told, sizes, steps
from lepton.errors import Invalid


def batch(**columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def told(rows: pa.RecordBatch, **asked: int) -> list[Told]:
    return [row for step in steps(rows, **asked) for row in step]


def problems(rows: list[Told]) -> list[tuple[str, str | None, str | None]]:
    return [(row.message, row.field, row.place) for row in rows if isinstance(row, Invalid)]


def repeated(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))


def test_every_type_that_a_file_has_is_measured_and_told_as_it_is() -> None:
    columns = {
        "text": (pa.array(["ü", None, "abc"]), [2, 0, 3], [1, 1, 1]),
        "coded": (pa.array(["ü", None, "abc"]).dictionary_encode(), [2, 0, 3], [1, 1, 1]),
        "view": (pa.array(["a", None, "b" * 20], pa.string_view()), [1, 0, 20], [1, 1, 1]),
        "large": (pa.array([b"a", None, b"bc"], pa.large_binary()), [1, 0, 2], [1, 1, 1]),
        "fixed": (pa.array([b"ab", None, b"cd"], pa.binary(2)), [2, 2, 2], [1, 1, 1]),
        "number": (pa.array([1.5, None, 2.0]), [0, 0, 0], [1, 1, 1]),
        "truth": (pa.array([True, None, False]), [0, 0, 0], [1, 1, 1]),
        "nothing": (pa.nulls(3), [0, 0, 0], [1, 1, 1]),
        "money": (pa.array([1, None, 2], pa.decimal128(9, 2)), [0, 0, 0], [1, 1, 1]),
        "list": (pa.array([["a", "bc"], None, []], pa.list_(pa.string())), [3, 0, 0], [3, 1, 1]),
        "lists": (pa.array([[["a"], ["bc"]], None, [[]]], pa.large_list(pa.list_(pa.string()))), [3, 0, 0], [5, 1, 2]),
        "pair": (pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int64(), 2)), [0, 0, 0], [3, 3, 3]),
        "struct": (pa.array([{"a": "x", "b": 1}, None, {"a": "xyz", "b": 2}]), [1, 0, 3], [3, 3, 3]),
        "map": (pa.array([[("k", "v")], None, []], pa.map_(pa.string(), pa.string())), [2, 0, 0], [4, 1, 1]),
        "uuid": (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * 3, pa.binary(16))), [16] * 3,
                 [1] * 3)}
    for name, (column, data, values) in columns.items():
        for start in range(3):
            found = sizes(batch(x=column).slice(start))
            assert (found.data.tolist(), found.values.tolist()) == (data[start:], values[start:]), name
        assert told(batch(x=column)) == [{"x": one} for one in column.to_pylist()], name


def test_rows_that_share_a_long_text_are_given_a_few_at_a_time() -> None:
    rows = batch(number=list(range(150)), text=repeated("x" * 1_000_000, 150))
    found = [len(step) for step in steps(rows)]
    assert sum(found) == 150
    assert max(found) == MAX_STEP_BYTES // 1_000_080
    nested = pa.ListArray.from_arrays(pa.array(range(0, 1001, 10), pa.int32()), repeated("x" * 90_000, 1000))
    assert max(len(step) for step in steps(batch(texts=nested))) == MAX_STEP_BYTES // 900_440


def test_a_row_that_is_too_large_by_itself_is_refused_without_being_unpacked() -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int32()), pa.array(["ok", "x" * 2_000_000]))
    first, large, last = told(batch(number=[1, 2, 3], text=texts), first=8)
    assert (first, last) == ({"number": 1, "text": "ok"}, {"number": 3, "text": "ok"})
    assert problems([large]) == [("too_large: the record is longer than a megabyte", None, "row 9")]
    numbers = pa.array([[0] * 600_000], pa.list_(pa.int8()))
    assert problems(told(batch(numbers=numbers)))[0][0].startswith("too_large")
    assert problems(told(batch(numbers=numbers), max_row_bytes=2_000_000)) == []


@pytest.mark.parametrize("zone", [None, "UTC", "Mars/Phobos", "+02:00"])
def test_times_that_python_does_not_know_are_refused_row_by_row_or_told_in_utc(zone: str | None) -> None:
    good = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
    for unit, factor in (("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)):
        odd = 1 if unit == "ns" else 0
        far = 2**62 if unit != "ns" else good * factor
        column = pa.array([good * factor + odd, far, None], pa.timestamp(unit, zone))
        first, second, last = told(batch(at=column))
        assert isinstance(first, dict)
        assert first["at"].replace(tzinfo=first["at"].tzinfo or UTC) == datetime(2026, 6, 1, tzinfo=UTC)
        assert last == {"at": None}
        if unit != "ns":
            assert problems([second]) == [("out_of_range: is a date or time beyond the years 1 to 9999", "at",
                                           "row 2")]


def test_other_values_that_python_has_no_word_for_are_refused_with_row_and_field() -> None:
    days = pa.array([10**9, 0], pa.date32())
    spans = pa.array([1, 2**62], pa.duration("s"))
    assert problems(told(batch(day=days, span=spans))) == [
        ("out_of_range: is a date or time beyond the years 1 to 9999", "day", "row 1"),
        ("out_of_range: is a date or time beyond the years 1 to 9999", "span", "row 2")]
    assert told(batch(day=days.slice(1)))[0] == {"day": date(1970, 1, 1)}
    assert told(batch(at=pa.array([1001], pa.time64("ns"))))[0]["at"].microsecond == 1  # type: ignore[index]
    damaged = pa.array([b"\xff", b"ok"], pa.binary()).view(pa.string())
    assert problems(told(batch(text=damaged, number=[1, 2]))) == [("malformed: not UTF-8", "text", "row 1")]
    inside = pa.array([[1], [1000]], pa.list_(pa.timestamp("ns")))
    ((message, field, place),) = problems(told(batch(times=inside)))
    assert (message[:9], field, place) == ("malformed", "times", "row 1")


def test_a_column_of_a_type_that_is_not_read_is_said_by_name() -> None:
    views = pa.array([[1]], pa.list_view(pa.int8()))
    with pytest.raises(Invalid, match="column x holds list_view") as caught:
        told(batch(x=views))
    assert caught.value.field == "x"
