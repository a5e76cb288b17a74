"""A column of a stream as a field's column in a features batch, and which of its values are not accepted and why."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.pipeline_blocks import FieldSpec
from lepton.contracts.reading.columns import FIELD_TYPES
from lepton.contracts.reading.images import misfit, pixels
from lepton.errors import Invalid
from services.ingest.core.reading.column import Mask, Read, truth
from services.ingest.core.reading.repairs import conversion_of, into_range, normal_form_of

US = pa.timestamp("us", tz="UTC")
_INT64 = (-(2**63), 2**63 - 1)
_UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# Years 2 to 9998, as of a time with a zone; years 1 to 9999, as of one since the epoch.
_ZONED_S = (-62_104_060_800, 253_370_764_800)
_EPOCH_S = (-62_135_596_800, 253_402_300_800)

ReadColumn = Callable[[pa.Array], Read]


def reader_of(spec: FieldSpec) -> ReadColumn:
    """How a column of this field is read. Its Arrow type has been checked; missing values stay missing."""
    read = partial(_READERS[spec.type], spec)
    if spec.accept_units:
        return _then(conversion_of(spec), read, pa.types.is_struct)
    return _then(normal_form_of(spec), read, lambda kind: True) if spec.normalise else read


def _then(repair: ReadColumn, read: ReadColumn, repairable: Callable[[pa.DataType], bool]) -> ReadColumn:
    """What was repaired is then read like any other value."""
    def both(column: pa.Array) -> Read:
        if not repairable(column.type):
            return read(column)
        first = repair(column)
        then = read(first.values)
        return Read(then.values, [*first.problems, *then.problems], [*first.changes, *then.changes])

    return both


def _read_float(spec: FieldSpec, column: pa.Array) -> Read:
    read = Read(column if pa.types.is_float64(column.type) else pc.cast(column, pa.float64(), safe=False))
    if pa.types.is_floating(column.type):
        read.refuse(_strange(read.values), "out_of_range", "is not a finite number")
    _check_range(spec, read, *(spec.range or (None, None)))
    return read


def _strange(column: pa.Array) -> Mask:
    """Where a floating number is neither finite nor missing."""
    return truth(pc.invert(pc.is_finite(column)))


def _read_int(spec: FieldSpec, column: pa.Array) -> Read:
    too_large = pa.types.is_uint64(column.type) and pc.greater(column, pa.scalar(_INT64[1], pa.uint64()))
    read = Read(column if pa.types.is_int64(column.type) else pc.cast(column, pa.int64(), safe=False))
    if too_large is not False:
        read.refuse(too_large, "out_of_range", f"Expected `int` <= {_INT64[1]}")
    low, high = spec.range or (-math.inf, math.inf)
    bounds = (math.ceil(low) if low > _INT64[0] else None, math.floor(high) if high < _INT64[1] else None)
    _check_range(spec, read, *bounds)
    return read


def _check_range(spec: FieldSpec, read: Read, low: float | None, high: float | None) -> None:
    if spec.out_of_range in ("clip", "null"):
        into_range(spec, read, low, high)
        return
    for bound, beyond, sign in ((low, pc.less, ">="), (high, pc.greater, "<=")):
        if bound is not None:
            read.refuse(beyond(read.values, pa.scalar(bound, read.values.type)), "out_of_range",
                        f"Expected `{spec.type}` {sign} {bound}")


def _read_bool(spec: FieldSpec, column: pa.Array) -> Read:
    return Read(column)


def _read_text(spec: FieldSpec, column: pa.Array) -> Read:
    read = Read(column if pa.types.is_string(column.type) else pc.cast(column, pa.string()))
    if spec.categories:
        unknown = truth(pc.invert(pc.is_in(read.values, value_set=pa.array(spec.categories))))
        if column.null_count:
            unknown &= truth(pc.is_valid(column))
        read.refuse(unknown, "unknown_category", "is none of the categories")
    return read


def _read_vector(spec: FieldSpec, column: pa.Array) -> Read:
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return read_pictures(spec, column.to_pylist())
    read = _read_numbers(column, pa.float32())
    lengths = pc.list_value_length(column)
    read.refuse(pc.not_equal(lengths, spec.dims or 0), "out_of_range", f"Expected {spec.dims} numbers")
    return read


def read_pictures(spec: FieldSpec, values: Iterable[Any]) -> Read:
    """Vectors, each as a list of numbers or as the bytes of a PNG or JPEG."""
    kept: list[Any] = []
    wrong: dict[tuple[str, str], list[int]] = {}
    for row, value in enumerate(values):
        kept.append(value)
        if isinstance(value, bytes):
            kept[-1] = None
            if len(value) > spec.bytes_limit:
                wrong.setdefault(("out_of_range", f"Expected at most {spec.bytes_limit} bytes"), []).append(row)
                continue
            try:
                kept[-1] = pixels(value, spec.image or ()).astype(np.float64)
            except Invalid as error:
                wrong.setdefault(("malformed", error.message), []).append(row)
    read = _read_vector(spec, pa.array(kept, pa.list_(pa.float64())))
    for (code, why), rows in wrong.items():
        read.refuse(_at(rows, len(kept)), code, why)
    return read


def _at(rows: list[int], size: int) -> Mask:
    mask = np.zeros(size, np.bool_)
    mask[rows] = True
    return mask


def _read_sequence(spec: FieldSpec, column: pa.Array) -> Read:
    read = _read_numbers(column, pa.float64())
    read.refuse(pc.greater(pc.list_value_length(column), spec.length_limit), "out_of_range",
                f"Expected at most {spec.length_limit} numbers")
    return read


def _read_numbers(column: pa.Array, kind: pa.DataType) -> Read:
    """Lists of numbers, none of them missing or infinite."""
    read = Read(pc.cast(column, pa.list_(kind), safe=False))
    numbers = pc.list_flatten(read.values)
    missing = truth(pc.is_null(numbers))
    for bad, code, message in ((missing, "wrong_type", "Expected numbers, got `null` among them"),
                               (_strange(numbers), "out_of_range", "holds what is not a finite number")):
        if bad.any():
            rows = np.zeros(len(column), np.bool_)
            rows[np.asarray(pc.list_parent_indices(read.values))[bad]] = True
            read.refuse(rows, code, message)
    return read


def _read_image(spec: FieldSpec, column: pa.Array) -> Read:
    read = Read(column if pa.types.is_binary(column.type) else pc.cast(column, pa.binary()))
    read.refuse(pc.greater(pc.binary_length(read.values), spec.bytes_limit), "out_of_range",
                f"Expected at most {spec.bytes_limit} bytes")
    wrong: dict[str, list[int]] = {}
    for row, data in enumerate(read.values):
        if data.is_valid and (why := misfit(data.as_buffer().to_pybytes())) is not None:
            wrong.setdefault(why, []).append(row)
    for why, rows in wrong.items():
        read.refuse(_at(rows, len(column)), "malformed", why)
    return read


def read_times(column: pa.Array) -> Read:
    """Times as microseconds since the epoch (int64), null where missing."""
    if pa.types.is_timestamp(column.type):
        return _read_zoned(column)
    numbers = pc.cast(column, pa.float64(), safe=False)
    # Seconds, and from 1e11 on milliseconds, as of a single event.
    in_ms = truth(pc.greater_equal(pc.abs(numbers), 1e11))
    values = np.asarray(pc.fill_null(numbers, 0.0))
    seconds = np.where(in_ms, values / 1000, values)
    inside = (seconds >= _EPOCH_S[0]) & (seconds < _EPOCH_S[1])
    if pa.types.is_integer(column.type):
        exact = np.asarray(pc.cast(pc.fill_null(column, 0), pa.int64(), safe=False))
        us = np.where(inside, exact, 0) * np.where(in_ms, 1_000, 1_000_000)
    else:
        us = np.rint(np.where(inside, values, 0.0) * np.where(in_ms, 1_000.0, 1_000_000.0)).astype(np.int64)
    read = Read(pa.array(us, pa.int64(), mask=~truth(pc.is_valid(column))))
    read.refuse(~inside, "out_of_range", "is no time between the years 1 and 9999")
    return read


def _read_zoned(column: pa.Array) -> Read:
    per_s = _UNITS_PER_S[column.type.unit]
    ticks = column.cast(pa.int64())
    # Nanoseconds reach from 1677 to 2262 only: all of them are inside.
    low, high = (max(bound * per_s, _INT64[0]) if bound < 0 else min(bound * per_s, _INT64[1]) for bound in _ZONED_S)
    outside = truth(pc.or_(pc.less(ticks, low), pc.greater_equal(ticks, high)))
    if outside.any():
        ticks = pc.if_else(pa.array(outside), pa.scalar(0, pa.int64()), ticks)
    if per_s < 1_000_000:
        ticks = pc.multiply(ticks, 1_000_000 // per_s)
    elif per_s > 1_000_000:
        ticks = pa.array(np.asarray(pc.fill_null(ticks, 0)) // 1000, mask=~truth(pc.is_valid(ticks)))
    read = Read(ticks)
    read.refuse(outside, "out_of_range", "is no time between the years 2 and 9998")
    return read


def _read_timestamp(spec: FieldSpec, column: pa.Array) -> Read:
    read = read_times(column)
    return Read(read.values.cast(US), read.problems)


def absent(kind: pa.DataType, size: int) -> pa.Array:
    return pa.nulls(size, kind)


_READERS: Mapping[str, Callable[[FieldSpec, pa.Array], Read]] = {
    "float": _read_float, "int": _read_int, "bool": _read_bool, "category": _read_text, "text": _read_text,
    "vector": _read_vector, "sequence": _read_sequence, "image": _read_image, "timestamp": _read_timestamp}
KINDS = FIELD_TYPES
