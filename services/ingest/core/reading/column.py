"""A field's values of a batch while they are read: as they are kept, what is wrong, and what was changed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.reading.columns import REPAIRS_TYPE

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Wholes = np.ndarray[Any, np.dtype[np.int64]]

MAX_BEFORE_CHARS = 64


@dataclass(frozen=True, slots=True)
class Problem:
    """Rows, by a mask, whose value is not accepted; `code` and `message` as of a single event."""

    rows: Mask
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Change:
    """Values that are not kept as they came: which rows, `what` was done, and the text of each before."""

    rows: Wholes
    what: str
    before: Sequence[str]


@dataclass(slots=True)
class Read:
    """A column as it is kept; what stands at a row that has a problem does not matter."""

    values: pa.Array
    problems: list[Problem] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def refuse(self, rows: pa.Array | Mask, code: str, message: str) -> None:
        mask = rows if isinstance(rows, np.ndarray) else truth(rows)
        if mask.any():
            self.problems.append(Problem(mask, code, message))

    def change(self, rows: Mask, values: pa.Array, what: str, before: Sequence[str]) -> None:
        """Keep `values` from now on; `before` is by changed row."""
        self.values = values
        self.changes.append(Change(np.flatnonzero(rows), what, [text[:MAX_BEFORE_CHARS] for text in before]))


def truth(found: pa.Array) -> Mask:
    """A column of bools as a mask; missing is false."""
    if found.null_count:
        found = pc.fill_null(found, False)
    mask: Mask = found.to_numpy(zero_copy_only=False)
    return mask


def repairs_of(changes: Sequence[tuple[int, Change]], size: int) -> pa.Array | None:
    """The `_repairs` of so many rows from (field index, change) pairs, in their order; None when nothing changed."""
    if not changes:
        return None
    rows = np.concatenate([change.rows for _, change in changes])
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=size)
    ends = np.zeros(size + 1, np.int32)
    np.cumsum(counts, out=ends[1:])
    fields = np.concatenate([np.full(len(change.rows), place, np.int16) for place, change in changes])
    whats = [change.what for _, change in changes for _ in change.before]
    befores = [text for _, change in changes for text in change.before]
    entries = pa.StructArray.from_arrays(
        [pa.array(fields[order]), pa.array(whats, pa.string()).take(pa.array(order)),
         pa.array(befores, pa.string()).take(pa.array(order))], fields=list(REPAIRS_TYPE.value_type))
    return pa.ListArray.from_arrays(pa.array(ends), entries, mask=pa.array(counts == 0))
