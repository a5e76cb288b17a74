"""Named fields to the arrays a model takes: from the rows of a request, and from the columns of a features batch."""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import struct_pb2

from lepton.contracts.arrow.lists import padded
from lepton.contracts.reading.images import from_base64, pixels
from lepton.errors import Invalid
from services.predictor.core.signature import EXPLAIN, MISSING, Array, Feed, Signature, TensorType, check_explained

_EXACT = 2**53
"""Largest integer a JSON-like number carries without loss."""

_ARROW = {"BOOL": pa.bool_(), "BYTES": pa.string(), "INT64": pa.int64(), "INT32": pa.int64(), "INT16": pa.int64(),
          "INT8": pa.int64(), "FP64": pa.float64(), "FP32": pa.float64(), "FP16": pa.float64()}
"""Type a features column has for each datatype a model may ask for."""

_LISTS = {pa.list_(pa.float32()): "FP32", pa.list_(pa.float64()): "FP64"}
"""Types of a column of vectors or sequences, and the datatype of the tensor that each becomes."""

EXPLAIN_REMEDY = "set model.explain.rows: true in the Pipeline and train again"

_FILLERS: dict[str, float | bool | str] = {"f": math.nan, "i": 0, "u": 0, "b": False, "O": ""}
"""What stands where a value is missing, by the kind of numpy type; the mask says that it is."""


def from_structs(rows: Sequence[struct_pb2.Struct], signature: Signature, max_rows: int,
                 explain: bool = False) -> Feed:
    """A field left out or null is missing. Raises Invalid naming the field and, as place, the row."""
    check_count(len(rows), max_rows, signature, explain)
    return finished(*read_structs(rows, signature), signature, explain)


def from_batch(batch: pa.RecordBatch, signature: Signature) -> Feed:
    """Columns by name; numbers without nulls are views of the batch. A column that is not there is missing throughout.

    Raises Invalid when a column has another type than the model takes, or lacks values the model cannot do without.
    """
    return finished(*read_batch(batch, signature), signature, by_row=False)


def check_count(count: int, max_rows: int, signature: Signature, explain: bool) -> None:
    """Raises Invalid for rows that one request may not hold."""
    if explain:
        if not signature.explains:
            raise Invalid("this version cannot say what each field did", field="explain", remedy=EXPLAIN_REMEDY)
        check_explained(count)
    if not 0 < count <= max_rows:
        raise Invalid(f"the request has {count} rows, it may hold 1 to {max_rows}", field="rows",
                      remedy="split the request")


def read_structs(rows: Sequence[struct_pb2.Struct], signature: Signature) -> tuple[dict[str, Array], Array]:
    """Arrays of the fields, and [rows, fields] which values are missing. Raises Invalid as `from_structs`."""
    members = [row.fields for row in rows]
    for index, row in enumerate(members):
        for name in row:
            if name not in signature.inputs or name in (MISSING, EXPLAIN):
                raise _unknown(name, index, signature)
    columns = [_column(members, declared) for declared in signature.fields]
    arrays = {declared.name: values for declared, (values, _) in zip(signature.fields, columns, strict=True)}
    return arrays, np.array([missing for _, missing in columns], dtype=np.bool_).T.copy()


def read_batch(batch: pa.RecordBatch, signature: Signature) -> tuple[dict[str, Array], Array]:
    """The same from columns."""
    arrays: dict[str, Array] = {}
    mask = np.zeros((batch.num_rows, len(signature.fields)), dtype=np.bool_)
    for column, declared in enumerate(signature.fields):
        index = batch.schema.get_field_index(declared.name)
        if index < 0:
            arrays[declared.name] = _absent(declared, batch.num_rows)
            mask[:, column] = True
        else:
            values = batch.column(index)
            arrays[declared.name] = _lists_of(values, declared) if declared.tail else _from_arrow(values, declared)
            if values.null_count:
                mask[:, column] = values.is_null().to_numpy(zero_copy_only=False)
    return arrays, mask


def finished(arrays: dict[str, Array], missing: Array, signature: Signature, explain: bool = False, *,
             by_row: bool = True) -> Feed:
    """All inputs of the model. Raises Invalid where a value is missing that it cannot do without, with its row unless
    the rows are not the caller's own."""
    if signature.takes_mask:
        arrays[MISSING] = missing
    else:
        for column, declared in enumerate(signature.fields):
            if declared.dtype.kind != "f" and missing[:, column].any():
                raise _needed(declared.name, int(missing[:, column].argmax()) if by_row else None)
    if signature.explains:
        arrays[EXPLAIN] = np.full(len(missing), explain)
    return Feed(arrays, len(missing))


def _from_arrow(values: pa.Array, declared: TensorType) -> Array:
    if values.type != _ARROW.get(declared.datatype):
        raise _unfit(str(values.type), declared)
    if values.null_count:
        values = pc.fill_null(values, pa.scalar(_FILLERS[declared.dtype.kind], values.type))
    array: Array = values.to_numpy(zero_copy_only=False)
    return array if array.dtype == declared.dtype else array.astype(declared.dtype)


def _lists_of(values: pa.Array, declared: TensorType) -> Array:
    """[rows, length], NaN where a row has no number. A list that is longer than the model knows is not cut."""
    if _LISTS.get(values.type) != declared.datatype or len(declared.tail) != 1:
        raise _unfit(str(values.type), declared)
    array, lengths = padded(values, declared.tail[0], declared.dtype)
    fits = lengths <= declared.tail[0] if declared.padded else lengths == declared.tail[0]
    if not (fits | values.is_null().to_numpy(zero_copy_only=False)).all():
        raise _unfit(f"of {lengths.min()} to {lengths.max()} numbers a row", declared)
    return array


def _unfit(column: str, declared: TensorType) -> Invalid:
    return Invalid(f"the column is {column}, the model takes {declared.datatype} {list(declared.shape)}",
                   field=declared.name, remedy="train a model on the Pipeline's current version")


def _absent(declared: TensorType, rows: int) -> Array:
    filled = declared.absent(rows)
    if declared.dtype.kind == "f":
        filled.fill(math.nan)
    return filled


def _column(rows: Sequence[Any], declared: TensorType) -> tuple[Array, list[bool]]:
    if declared.tail and (len(declared.tail) != 1 or declared.tail[0] < 1 or declared.dtype.kind != "f"):
        raise Invalid(f"the field takes {list(declared.shape)} values", field=declared.name,
                      remedy="send it as a tensor through ModelInfer")
    array = _absent(declared, len(rows))
    missing = [False] * len(rows)
    for index, row in enumerate(rows):
        value = _value(row[declared.name]) if declared.name in row else None
        if value is None:
            missing[index] = True
        elif declared.tail:
            numbers = _picture(value, declared, index) if isinstance(value, str) and declared.image else _numbers(
                value, declared, index)
            array[index, :len(numbers)] = numbers
        else:
            array[index] = _checked(value, declared, index)
    return array, missing


def _picture(value: str, declared: TensorType, row: int) -> Array:
    """The pixels of a PNG or JPEG, in base64."""
    try:
        return pixels(from_base64(value), declared.image)
    except Invalid as error:
        raise Invalid(f"the image {error.message}", field=declared.name, place=f"row {row}",
                      remedy=error.remedy) from error


def _numbers(value: Any, declared: TensorType, row: int) -> list[float]:
    """A list as the field takes it: of its length or, where the rest is filled up, of any length up to it."""
    length, limit = declared.tail[0], float(np.finfo(declared.dtype).max)
    remedy = f"send a list of {'at most ' if declared.padded else ''}{length} numbers" + (
        ", or base64 of a PNG or JPEG" if declared.image else "")
    if not isinstance(value, struct_pb2.ListValue):
        raise Invalid("the value is no list", field=declared.name, place=f"row {row}", remedy=remedy)
    count = len(value.values)
    if count > length or (count < length and not declared.padded):
        raise Invalid(f"the list has {count} numbers", field=declared.name, place=f"row {row}", remedy=remedy)
    found = []
    for place, item in enumerate(value.values):
        number = item.number_value if item.WhichOneof("kind") == "number_value" else math.nan
        # What 32 bits do not hold would become infinite, and so missing, without a word.
        if not abs(number) <= limit:
            raise Invalid(f"item {place} is no finite {declared.datatype}", field=declared.name, place=f"row {row}",
                          remedy=remedy)
        found.append(number)
    return found


def _value(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    return None if kind in (None, "null_value") else getattr(value, kind)


def _checked(value: Any, declared: TensorType, row: int) -> Any:
    kind = declared.dtype.kind
    if kind == "O" and isinstance(value, str):
        return value
    if kind == "b" and isinstance(value, bool):
        return value
    if kind == "f" and isinstance(value, float):
        return value
    if kind in "iu" and isinstance(value, float):
        limits = np.iinfo(declared.dtype)
        if value.is_integer() and abs(value) <= _EXACT and limits.min <= value <= limits.max:
            return int(value)
        raise Invalid(f"{value!r} is no {declared.datatype}", field=declared.name, place=f"row {row}",
                      remedy=f"send a whole number from {max(limits.min, -_EXACT)} to {min(limits.max, _EXACT)}")
    wanted = {"O": "text", "b": "true or false"}.get(kind, "a number")
    raise Invalid(f"the value is no {declared.datatype}", field=declared.name, place=f"row {row}",
                  remedy=f"send {wanted}")


def _unknown(name: str, row: int, signature: Signature) -> Invalid:
    known = [declared.name for declared in signature.fields]
    close = get_close_matches(name, known, n=1)
    remedy = f"did you mean `{close[0]}`?" if close else f"send {', '.join(known)}"
    return Invalid(f"the model takes no field `{name}`", field=name, place=f"row {row}", remedy=remedy)


def _needed(name: str, row: int | None) -> Invalid:
    return Invalid(f"the model cannot do without `{name}`", field=name, place=None if row is None else f"row {row}",
                   remedy="send a value, or train a model that takes missing ones")
