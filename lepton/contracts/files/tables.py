"""Rows of Arrow columns as Python values, a bounded number of bytes at a time; what cannot be one is refused alone.

A text that stands in a dictionary once may be a value of every row: how much rows are is told from lengths and indexes
before any of them is unpacked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.files.records import MAX_RECORD_BYTES
from lepton.errors import Invalid

MAX_STEP_BYTES: Final = 32 * 1024 * 1024
"""Of rows that are Python values together."""
# A number in a list: what points to it, and what it is itself.
_VALUE_BYTES = 40
# A digit and a comma, the least that a value is as JSON.
_LEAST_JSON_BYTES = 2
# No such time, no such zone, no text.
UNTELLABLE: Final = (ValueError, OverflowError, LookupError, pa.ArrowException)

Row = dict[str, Any]
Told = Row | Invalid
_Counts = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of each row: bytes of its texts and other bytes, and how many values it has, those in lists and structs too."""

    data: _Counts
    values: _Counts

    def __add__(self, other: "Sizes") -> "Sizes":
        return Sizes(self.data + other.data, self.values + other.values)

    def taken(self, begins: _Counts, ends: _Counts) -> "Sizes":
        """Of lists, from the sizes of what they hold."""
        data, values = (np.concatenate([np.zeros(1, np.int64), np.cumsum(one)]) for one in (self.data, self.values))
        return Sizes(data[ends] - data[begins], values[ends] - values[begins] + 1)


def sizes(batch: pa.RecordBatch) -> Sizes:
    """Raises Invalid for a column of a type that is not read."""
    found = _plain_sizes(batch.num_rows, 0)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            found += _sizes(column)
        except (NotImplementedError, pa.ArrowException) as error:
            raise Invalid(f"column {name} holds {str(column.type)[:200]}, which is not read", field=name,
                          remedy="write it as numbers, texts, times, or lists or structs of these") from error
    return found


def steps(batch: pa.RecordBatch, first: int = 1, max_row_bytes: int = MAX_RECORD_BYTES) -> Iterator[list[Told]]:
    """All rows in their order, as many at a time as are `MAX_STEP_BYTES` or fewer, and one at least.

    A row that is more than `max_row_bytes` even as the shortest JSON, or that holds a value Python has no word for, is
    an Invalid that names its column, and its row counted from `first`. Raises as `sizes`.
    """
    told = sizes(batch)
    too_large = told.data + _LEAST_JSON_BYTES * told.values > max_row_bytes
    until = np.cumsum(np.where(too_large, 0, told.data + _VALUE_BYTES * told.values))
    at = 0
    while at < batch.num_rows:
        done = int(until[at - 1]) if at else 0
        end = max(at + 1, int(np.searchsorted(until, done + MAX_STEP_BYTES, "right")))
        yield list(_rows(batch.slice(at, end - at), too_large[at:end], first + at, max_row_bytes))
        at = end


def _rows(batch: pa.RecordBatch, too_large: np.ndarray[Any, np.dtype[np.bool_]], first: int, most: int) -> Iterator[
        Told]:
    fitting = batch.filter(pa.array(~too_large)) if too_large.any() else batch
    names = batch.schema.names
    rows = iter(zip(*map(_values, names, fitting.columns), strict=True))
    for number, large in enumerate(too_large.tolist(), start=first):
        if large:
            yield Invalid(f"too_large: the record is longer than {_told_bytes(most)}", place=f"row {number}")
            continue
        row = next(rows)
        wrong = next((value for value in row if isinstance(value, Invalid)), None)
        yield dict(zip(names, row, strict=True)) if wrong is None else \
            Invalid(wrong.message, field=wrong.field, place=f"row {number}")


def _values(name: str, column: pa.Array) -> list[Any]:
    try:
        return list(_plain(column).to_pylist())
    except UNTELLABLE:
        return [_value(name, column.slice(place, 1)) for place in range(len(column))]


def _value(name: str, one: pa.Array) -> Any:
    try:
        return _plain(one).to_pylist()[0]
    except OverflowError:
        return Invalid("out_of_range: is a date or time beyond the years 1 to 9999", field=name)
    except UnicodeDecodeError:
        return Invalid("malformed: not UTF-8", field=name)
    except UNTELLABLE as error:
        return Invalid(f"malformed: {(str(error).splitlines() or [type(error).__name__])[0][:300]}", field=name)


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _plain(column: pa.Array) -> pa.Array:
    """Without a dictionary, times in whole microseconds, and in UTC where nobody knows their zone."""
    column = _decoded(column)
    kind = column.type
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return column.cast(pa.time64("us"), safe=False)
    if pa.types.is_timestamp(kind):
        unit = "us" if kind.unit == "ns" else kind.unit
        return column.cast(pa.timestamp(unit, kind.tz if kind.tz is None or _is_zone(kind.tz) else "UTC"), safe=False)
    return column


@lru_cache(maxsize=256)
def _is_zone(name: str) -> bool:
    try:
        pa.scalar(0, pa.timestamp("s", name)).as_py()
    except UNTELLABLE:
        return False
    return True


def _sizes(column: pa.Array) -> Sizes:
    kind, count = column.type, len(column)
    if isinstance(column, pa.ExtensionArray):
        return _sizes(column.storage)
    if pa.types.is_dictionary(kind):
        return _sizes_of_indexes(_sizes(column.dictionary), column.indices)
    if pa.types.is_struct(kind):
        return sum((_sizes(column.field(part)) for part in range(kind.num_fields)), _plain_sizes(count, 1))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        offsets = column.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
        return _sizes(column.values).taken(offsets[:-1], offsets[1:])
    if pa.types.is_fixed_size_list(kind):
        begins = (np.arange(count, dtype=np.int64) + column.offset) * kind.list_size
        return _sizes(column.values).taken(begins, begins + kind.list_size)
    if pa.types.is_fixed_size_binary(kind):
        return Sizes(np.full(count, kind.byte_width, np.int64), np.ones(count, np.int64))
    if kind.num_fields:
        raise NotImplementedError
    if pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind):
        return _plain_sizes(count, 1)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return Sizes(_lengths_of_views(column), np.ones(count, np.int64))
    lengths = pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return Sizes(lengths.astype(np.int64), np.ones(count, np.int64))


def _lengths_of_views(column: pa.Array) -> _Counts:
    """The first of the four numbers that each view is; Arrow itself does not tell."""
    views = np.frombuffer(column.buffers()[1] or b"", np.int32)[::4][column.offset:column.offset + len(column)]
    return np.where(column.is_valid().to_numpy(zero_copy_only=False), views, 0).astype(np.int64)


def _sizes_of_indexes(each: Sizes, indexes: pa.Array) -> Sizes:
    places = pc.fill_null(indexes.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    # A missing value is the last, which is nothing.
    return Sizes(np.append(each.data, 0)[places], np.append(each.values, 1)[places])


def _plain_sizes(count: int, values: int) -> Sizes:
    return Sizes(np.zeros(count, np.int64), np.full(count, values, np.int64))


def _told_bytes(most: int) -> str:
    return "a megabyte" if most == MAX_RECORD_BYTES else f"{most} bytes"
