"""Named fields to the arrays a model takes, from the columns of a features batch."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.arrow.lists import padded
from lepton.errors import Invalid
from services.predictor.core.rows import absent, finished
from services.predictor.core.signature import Array, Feed, Signature, TensorType

_ARROW = {"BOOL": pa.bool_(), "BYTES": pa.string(), "INT64": pa.int64(), "INT32": pa.int64(), "INT16": pa.int64(),
          "INT8": pa.int64(), "FP64": pa.float64(), "FP32": pa.float64(), "FP16": pa.float64()}
"""Type a features column has for each datatype a model may ask for."""

_LISTS = {pa.list_(pa.float32()): "FP32", pa.list_(pa.float64()): "FP64"}
"""Types of a column of vectors or sequences, and the datatype of the tensor that each becomes."""

_FILLERS: dict[str, float | bool | str] = {"f": math.nan, "i": 0, "u": 0, "b": False, "O": ""}
"""What stands where a value is missing, by the kind of numpy type; the mask says that it is."""


def from_batch(batch: pa.RecordBatch, signature: Signature) -> Feed:
    """Columns by name; numbers without nulls are views of the batch. A column that is not there is missing throughout.

    Raises Invalid when a column has another type than the model takes, or lacks values the model cannot do without.
    """
    return finished(*read_batch(batch, signature), signature, by_row=False)


def read_batch(batch: pa.RecordBatch, signature: Signature) -> tuple[dict[str, Array], Array]:
    """Arrays of the fields, and [rows, fields] which values are missing. Raises Invalid as `from_batch`."""
    arrays: dict[str, Array] = {}
    mask = np.zeros((batch.num_rows, len(signature.fields)), dtype=np.bool_)
    for column, declared in enumerate(signature.fields):
        index = batch.schema.get_field_index(declared.name)
        if index < 0:
            arrays[declared.name] = absent(declared, batch.num_rows)
            mask[:, column] = True
        else:
            values = batch.column(index)
            arrays[declared.name] = _lists_of(values, declared) if declared.tail else _from_arrow(values, declared)
            if values.null_count:
                mask[:, column] = values.is_null().to_numpy(zero_copy_only=False)
    return arrays, mask


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
