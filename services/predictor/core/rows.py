"""Named fields to the arrays a model takes, from the rows of a request."""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from google.protobuf import struct_pb2

from lepton.contracts.reading.images import from_base64, pixels
from lepton.errors import Invalid
from services.predictor.core.signature import EXPLAIN, MISSING, Array, Feed, Signature, TensorType, check_explained

_EXACT = 2**53
"""Largest integer a JSON-like number carries without loss."""

EXPLAIN_REMEDY = "set model.explain.rows: true in the Pipeline and train again"


def from_structs(rows: Sequence[struct_pb2.Struct], signature: Signature, max_rows: int,
                 explain: bool = False) -> Feed:
    """A field left out or null is missing. Raises Invalid naming the field and, as place, the row."""
    check_count(len(rows), max_rows, signature, explain)
    return finished(*read_structs(rows, signature), signature, explain)


def check_count(count: int, max_rows: int, signature: Signature, explain: bool) -> None:
    """Raises Invalid for rows that one request may not hold."""
    if explain:
        if not signature.explains:
            raise Invalid("this version cannot say what each field did", field="explain", remedy=EXPLAIN_REMEDY)
        check_explained(count, signature)
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


def absent(declared: TensorType, rows: int) -> Array:
    """As many rows of a field without a value."""
    filled = declared.absent(rows)
    if declared.dtype.kind == "f":
        filled.fill(math.nan)
    return filled


def _column(rows: Sequence[Any], declared: TensorType) -> tuple[Array, list[bool]]:
    if declared.tail and (len(declared.tail) != 1 or declared.tail[0] < 1 or declared.dtype.kind != "f"):
        raise Invalid(f"the field takes {list(declared.shape)} values", field=declared.name,
                      remedy="send it as a tensor through ModelInfer")
    array = absent(declared, len(rows))
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
