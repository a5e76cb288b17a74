"""Rows of a table as a preparation and the exported graph take them: one array a field, and what is absent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lepton.contracts.arrow.lists import padded
from services.trainer.core.preparing.field import PlannedField

Array = npt.NDArray[Any]

ARROW_TYPES: dict[str, pa.DataType] = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(),
                                       "category": pa.string(), "text": pa.string(),
                                       "vector": pa.list_(pa.float32()), "sequence": pa.list_(pa.float64())}
LISTS: dict[str, np.dtype[Any]] = {"vector": np.dtype(np.float32), "sequence": np.dtype(np.float64)}
"""Types of field whose values are lists of numbers, and of which type these are."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A field as the graph takes it: a tensor [rows, *tail] of its type."""

    name: str
    type: str
    tail: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Inputs:
    """Values by field, in the order of the columns of `missing` [rows, fields], which says what is absent."""

    values: dict[str, Array]
    missing: Array

    @property
    def rows(self) -> int:
        return len(self.missing)

    def take(self, which: Array) -> "Inputs":
        return Inputs({name: values[which] for name, values in self.values.items()}, self.missing[which])

    def absent(self, names: Sequence[str]) -> Array:
        """Columns of `missing` for these fields: [rows, names]."""
        places = {name: place for place, name in enumerate(self.values)}
        columns: Array = self.missing[:, [places[name] for name in names]]
        return columns


def inputs_of(fields: Sequence[PlannedField], rows: pa.Table) -> Inputs:
    """Rows of a table as the graph takes them; an absent value is a neutral one and True in `missing`."""
    values, missing = {}, np.zeros((rows.num_rows, len(fields)), dtype=bool)
    for place, field in enumerate(fields):
        column = rows.column(field.name)
        if column.type != ARROW_TYPES[field.type]:
            column = column.cast(ARROW_TYPES[field.type])
        if column.null_count:
            missing[:, place] = column.is_null().to_numpy()
        if field.type in LISTS:
            values[field.name], lengths = padded(column.combine_chunks(), field.tail[0], LISTS[field.type])
            # A vector has all its numbers or says nothing; a sequence ends where it ends.
            missing[:, place] |= (field.type == "vector") & (lengths != field.tail[0])
            continue
        neutral: Any = {"float": float("nan"), "int": 0, "bool": False}.get(field.type, "")
        filled = (column.fill_null(neutral) if column.null_count else column).to_numpy()
        values[field.name] = filled.astype(object) if ARROW_TYPES[field.type] == pa.string() else filled
        if field.type == "float":
            missing[:, place] |= ~np.isfinite(filled)
    return Inputs(values, missing)
