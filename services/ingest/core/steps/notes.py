"""How it is noted in a row what ingest changed of it, and how often that was by field."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts import features


@dataclass(frozen=True, slots=True)
class Note:
    """That one field was changed in these rows, and what it was there before, as text."""

    field: int | None
    """Place among the fields; None is the event's time."""
    what: str
    rows: Sequence[int]
    before: Sequence[str]


def with_repairs(batch: pa.RecordBatch, notes: Sequence[Note]) -> pa.RecordBatch:
    """The batch with these notes behind those its rows have already."""
    if not notes:
        return batch
    index = batch.schema.get_field_index(features.REPAIRS)
    column = batch.column(index)
    lists: list[list[dict[str, Any]] | None] = [None] * len(column) if column.null_count == len(column) \
        else column.to_pylist()
    for note in notes:
        for row, before in zip(note.rows, note.before, strict=True):
            lists[row] = [*(lists[row] or ()), {"field": note.field, "what": note.what, "before": before}]
    return batch.set_column(index, batch.schema.field(index), pa.array(lists, column.type))


def repaired(batch: pa.RecordBatch, fields: Sequence[str]) -> dict[str, int]:
    """By field, in how many of its rows a value was changed, however often. `fields` in the Pipeline's order."""
    column = batch.column(features.REPAIRS)
    if column.null_count == len(column):
        return {}
    places = pc.struct_field(pc.list_flatten(column), 0)
    rows = pc.list_parent_indices(column)
    known = places.is_valid()
    found = np.stack((rows.filter(known).to_numpy(zero_copy_only=False).astype(np.int64),
                      places.filter(known).to_numpy(zero_copy_only=False).astype(np.int64)), axis=1)
    each, counts = np.unique(np.unique(found, axis=0)[:, 1], return_counts=True)
    return {fields[place]: count for place, count in zip(each.tolist(), counts.tolist(), strict=True)}
