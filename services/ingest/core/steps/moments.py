"""Count, mean, spread and range of columns of numbers, added up row after row, so that batches leave no trace."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lepton.native import built

Array = np.ndarray[Any, np.dtype[Any]]
# Rows whose numbers stay in the processor's cache, at some ten columns.
_AT_ONCE = 4096
_PARTS = ("present", "missing", "shift", "total", "squares", "low", "high")


@dataclass(frozen=True, slots=True)
class Moments:
    """Of several columns: every attribute is one number a column, float64.

    Sums are of distances from `shift`, the column's first value (Chan, Golub, LeVeque 1983: "shifted data"), and are
    added strictly from the first row to the last: the same rows give the same bits however they were cut into
    batches. As the shift is itself one of the values, what cancels in the variance is at most a factor of the count.
    """

    present: Array
    missing: Array
    shift: Array
    total: Array
    squares: Array
    low: Array
    high: Array

    @classmethod
    def none(cls, columns: int) -> "Moments":
        zero = np.zeros(columns)
        return cls(zero, zero, np.full(columns, np.nan), zero, zero, np.full(columns, np.inf),
                   np.full(columns, -np.inf))

    def fed(self, rows: Array) -> "Moments":
        """With `rows` [n, columns] added; what is not finite is missing."""
        loops = built()
        if loops is not None and rows.size:
            data = loops.fed(self.to_bytes(), rows.tobytes(order="F"), rows.shape[1])
            return Moments.from_bytes(data, rows.shape[1])
        state = self
        for start in range(0, len(rows), _AT_ONCE):
            state = state._fed(rows[start:start + _AT_ONCE])
        return state

    def _fed(self, rows: Array) -> "Moments":
        there = np.isfinite(rows)
        whole = bool(there.all())
        counts = np.full(rows.shape[1], len(rows)) if whole else there.sum(axis=0)
        first = rows[0] if whole else rows[there.argmax(axis=0), np.arange(rows.shape[1])]
        shift = np.where(np.isnan(self.shift) & (counts > 0), first, self.shift)
        # The largest doubles overflow here; the spread is then infinite, and no bounds follow from it.
        with np.errstate(over="ignore", invalid="ignore"):
            apart = rows - shift
            if not whole:
                apart[~there] = 0.0
            squares = _on_from(self.squares, np.square(apart))
            total = _on_from(self.total, apart)
        return Moments(self.present + counts, self.missing + (len(rows) - counts), shift, total, squares,
                       np.minimum(self.low, (rows if whole else np.where(there, rows, np.inf)).min(axis=0)),
                       np.maximum(self.high, (rows if whole else np.where(there, rows, -np.inf)).max(axis=0)))

    @property
    def mean(self) -> Array:
        """NaN where nothing is present."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return np.asarray(self.shift + self.total / self.present)

    @property
    def m2(self) -> Array:
        """Sum of squared distances from the mean."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return np.maximum(self.squares - self.total * self.total / np.maximum(self.present, 1), 0.0)

    @property
    def std(self) -> Array:
        """Of the rows as a whole (divided by their count)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.sqrt(self.m2 / self.present))

    def merge(self, other: "Moments") -> "Moments":
        """Of the rows of both (Chan et al. 1979)."""
        present = self.present + other.present
        share = other.present / np.maximum(present, 1)
        shift = np.where(np.isnan(self.shift), other.shift, self.shift)
        mine, theirs = np.nan_to_num(self.mean), np.nan_to_num(other.mean)
        apart = theirs - mine
        m2 = self.m2 + other.m2 + apart * apart * self.present * share
        total = np.where(present > 0, present * (mine + apart * share - np.nan_to_num(shift)), 0.0)
        return Moments(present, self.missing + other.missing, shift, total,
                       m2 + total * total / np.maximum(present, 1), np.fmin(self.low, other.low),
                       np.fmax(self.high, other.high))

    def columns(self, places: list[int | None], missing: int) -> "Moments":
        """Columns at these places of ours; None is a new one, missing from all `missing` rows so far."""
        empty = replace(Moments.none(len(places)), missing=np.full(len(places), float(missing)))
        here = [index for index, place in enumerate(places) if place is not None]
        chosen = [place for place in places if place is not None]
        parts = []
        for name in _PARTS:
            part = getattr(empty, name).copy()
            part[here] = getattr(self, name)[chosen]
            parts.append(part)
        return Moments(*parts)

    def to_bytes(self) -> bytes:
        return np.stack([getattr(self, name) for name in _PARTS]).astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, columns: int) -> "Moments":
        """Raises ValueError when the bytes are not of so many columns."""
        return cls(*np.frombuffer(data, "<f8").reshape(len(_PARTS), columns))


def _on_from(carried: Array, added: Array) -> Array:
    """`carried` plus every row of `added` in turn; `added` is used up."""
    added[0] += carried
    return np.asarray(np.add.accumulate(added, axis=0, out=added)[-1].copy())
