"""Rows that wait for their labels and labels that wait for their rows, until the two meet by event id."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts import features
from lepton.contracts.features import EVENT_ID
from services.trainer.core.dataset import join, rows_of_partition

Array = npt.NDArray[Any]

_ROWS, _LABELS = "rows", "labels"


class WaitingRoom:
    """At most `capacity` of each; the oldest is given up first. An event leaves it once."""

    def __init__(self, fields: Mapping[str, pa.DataType], capacity: int) -> None:
        self._fields = dict(fields)
        self._capacity = capacity
        self._tables: dict[str, pa.Table] = {}
        self.given_up = 0

    @property
    def waiting(self) -> dict[str, int]:
        return {name: self._tables[name].num_rows if name in self._tables else 0 for name in (_ROWS, _LABELS)}

    def add_rows(self, partition: int, batch: bytes) -> None:
        """Raises Invalid for bytes that are no features batch."""
        table = pa.Table.from_batches([features.decode_batch(batch)])
        self._add(_ROWS, rows_of_partition(partition, table, list(self._fields)))

    def add_labels(self, outcomes: pa.Table) -> None:
        """As `features.outcome_table` makes them."""
        self._add(_LABELS, outcomes.replace_schema_metadata(None))

    def leave(self) -> pa.Table:
        """Rows that have met their label, in order of time: event id, fields, `_label`."""
        rows, labels = self._tables.get(_ROWS), self._tables.get(_LABELS)
        joined = join(rows, labels, self._fields)
        if joined.num_rows and rows is not None and labels is not None:
            if joined.num_rows == rows.num_rows == labels.num_rows:
                # All have met, each its own: the rule where labels come with their rows.
                self._tables = {}
                return joined
            gone = joined.column(EVENT_ID).combine_chunks()
            self._tables = {_ROWS: rows.filter(pc.invert(pc.is_in(rows.column(EVENT_ID), value_set=gone))),
                            _LABELS: labels.filter(pc.invert(pc.is_in(labels.column("event_id"), value_set=gone)))}
        for name, table in self._tables.items():
            self.given_up += max(0, table.num_rows - self._capacity)
            self._tables[name] = table.slice(max(0, table.num_rows - self._capacity)).combine_chunks()
        return joined

    def arrays(self) -> dict[str, Array]:
        return {"given_up": np.array(self.given_up),
                **{name: np.frombuffer(features.encode_table(table), dtype=np.uint8)
                   for name, table in self._tables.items()}}

    def load(self, arrays: Mapping[str, Array]) -> None:
        self.given_up = int(arrays["given_up"])
        self._tables = {name: features.decode_table(arrays[name].tobytes()) for name in (_ROWS, _LABELS)
                        if name in arrays}

    def _add(self, name: str, table: pa.Table) -> None:
        before = self._tables.get(name)
        self._tables[name] = table if before is None else pa.concat_tables([before, table],
                                                                           promote_options="default")
