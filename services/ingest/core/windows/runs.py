"""How to accumulate within many groups of rows at once and still add in the order of the rows, bit for bit."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NEVER = np.iinfo(np.int64).min
"""A time before all times."""


class Runs:
    """Groups of neighbouring rows: `starts` are the first row of each, strictly rising, beginning with 0.

    A group is laid out as a row of a matrix with others of about its length (to the next power of two, so that the
    padding at most doubles the work) and accumulated along it: strictly from left to right, begun with what the group
    had before. The outcome therefore does not depend on where batches were cut.
    """

    def __init__(self, starts: Ints, rows: int) -> None:
        self.starts = starts
        self.rows = rows
        self.lengths = np.diff(starts, append=rows)
        self.last = starts + self.lengths - 1
        self.of_row: Ints = np.repeat(np.arange(len(starts)), self.lengths)
        self._bins = []
        classes = np.ceil(np.log2(np.maximum(self.lengths, 1))).astype(np.int64)
        for one in np.unique(classes).tolist():
            groups = np.flatnonzero(classes == one)
            width = int(self.lengths[groups].max())
            at = starts[groups][:, None] + np.arange(width)
            real = np.arange(width) < self.lengths[groups][:, None]
            self._bins.append((groups, np.minimum(at, rows - 1), real))

    def accumulate(self, combine: np.ufunc, values: Array, begun: Array) -> Array:
        """For each row `combine` of what its group had `begun` with and the group's rows up to it, itself included."""
        found = np.empty_like(values)
        for groups, at, real in self._bins:
            matrix = np.empty((len(groups), at.shape[1] + 1), values.dtype)
            matrix[:, 0] = begun[groups]
            matrix[:, 1:] = values[at]
            combine.accumulate(matrix, axis=1, out=matrix)
            found[at[real]] = matrix[:, 1:][real]
        return found

    def before(self, running: Array, begun: Array) -> Array:
        """`accumulate`'s outcome without the row itself."""
        found = np.empty_like(running)
        found[1:] = running[:-1]
        found[self.starts] = begun
        return found


def grouped(keys: Ints) -> "tuple[Ints | None, Runs]":
    """Rows brought together by key, in their order within each: the order to take them in (None: as they are)."""
    order: Ints | None = None
    if len(keys) > 1 and (keys[1:] < keys[:-1]).any():
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return order, Runs(starts, len(keys))
