"""How accepted rows become the columns of a features batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lepton.contracts import features
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.reading.columns import REPAIRS_TYPE
from services.ingest.core.reading.columnar import offsets_of
from services.ingest.core.reading.intake import RawEvent
from services.ingest.core.reading.lot import Lot

# Half of what the features topic takes in a record.
MAX_BYTES = 8 * 1024 * 1024


class Columns:
    """Puts the columns of rows of one Pipeline version together, in the order of `features_schema`."""

    def __init__(self, pipeline: Pipeline, spec_version: int) -> None:
        self.schema = features.features_schema(pipeline, spec_version)
        self.fields = tuple(pipeline.fields)
        self._windowed = pipeline.window_columns
        self.first_field = len(self.schema) - len(self.fields) - len(self._windowed)
        """Where the fields begin in a batch."""

    def batch(self, lot: Lot, events: Sequence[RawEvent], outlying: "np.ndarray[Any, np.dtype[np.bool_]] | None",
              occurred: pa.Array) -> pa.RecordBatch:
        """The batch of all rows; `_traceparent` is empty until spans are known (`with_traces`)."""
        size = len(lot)
        return pa.RecordBatch.from_arrays([
            lot.ids,
            lot.entities,
            occurred,
            lot.sources,
            pa.nulls(size, pa.string()),
            pa.array(offsets_of(events)[lot.positions]),
            outliers(outlying, size),
            lot.repairs if lot.repairs is not None else pa.nulls(size, REPAIRS_TYPE),
            *lot.values,
            *(pa.nulls(size, pa.float64()) for _ in self._windowed),
        ], schema=self.schema)


def with_traces(batch: pa.RecordBatch, traces: Sequence[str | None]) -> pa.RecordBatch:
    """The batch with the traceparent of each row's own span; null where a row is not sampled."""
    index = batch.schema.get_field_index(features.TRACEPARENT)
    return batch.set_column(index, batch.schema.field(index), pa.array(traces, pa.string()))


def encoded(batch: pa.RecordBatch, limit_bytes: int = MAX_BYTES) -> list[bytes]:
    """The batch as records of at most `limit_bytes` each, halved as often as that takes; a row is never cut."""
    data = features.encode_batch(batch)
    if len(data) <= limit_bytes or batch.num_rows == 1:
        return [data]
    half = batch.num_rows // 2
    return [*encoded(batch.slice(0, half), limit_bytes), *encoded(batch.slice(half), limit_bytes)]


def outliers(outlying: "np.ndarray[Any, np.dtype[np.bool_]] | None", size: int) -> pa.Array:
    """For each row the indexes of its outlying fields."""
    if outlying is None or not outlying.any():
        ends = np.zeros(size + 1, np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), pa.array([], pa.int16()))
    rows = np.flatnonzero(outlying.any(axis=1))
    mine = outlying[rows]
    counts = np.zeros(size, np.int32)
    counts[rows] = mine.sum(axis=1)
    ends = np.zeros(size + 1, np.int32)
    np.cumsum(counts, out=ends[1:])
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.nonzero(mine)[1].astype(np.int16)))
