"""A column of lists as one array: a row each, what is not there NaN."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[Any]


def padded(values: pa.Array, length: int, dtype: npt.DTypeLike) -> tuple[Array, Array]:
    """The first `length` numbers of each list, [rows, length]; and how many each list has, 0 for a null one."""
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers = values.flatten().to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    if (lengths == length).all():
        return numbers.reshape(len(lengths), length), lengths
    found = np.full((len(lengths), length), np.nan, dtype=dtype)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(numbers)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = places < length
    found[rows[kept], places[kept]] = numbers[kept]
    return found, lengths
