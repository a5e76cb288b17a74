"""What an entity's field was last, to fill a gap with; forgotten after so many rows of its partition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from lepton.contracts import features
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import SCALARS
from lepton.errors import Invalid
from services.ingest.core.dedupe import CHUNK_MIN, Plan, Ring, listed
from services.ingest.core.keys.state import StateRecord
from services.ingest.core.steps.notes import Note, with_repairs

Array = np.ndarray[Any, np.dtype[Any]]
WHAT = "forward_fill"
# A value stands in for at most so many rows of its partition, of whatever entity: with more entities than this, the
# least recent ones are forgotten. The bound is on rows, so it never depends on where batches begin.
REACH_ROWS = 20_000
# A longer text is not remembered; what it replaced is forgotten.
MAX_CHARS = 200

Value = float | int | bool | str | None
Known = tuple[Value, int]
"""A value (None: too long to remember), and the number of its row."""
Entry = tuple[str, dict[str, Known]]
"""An entity, and the newest value a batch had of each of its fields."""

_ROWS = b"filled/rows"


class ForwardFillStep:
    """A `services.ingest.core.steps.step.Step`: fills gaps and says so in `_repairs`; idle where no field asks."""

    prefix = "filled"

    def __init__(self, pipeline: Pipeline) -> None:
        self._ring: Ring[list[Entry]] = Ring(REACH_ROWS, f"{self.prefix}/last", listed(Entry), CHUNK_MIN)  # type: ignore[arg-type]
        self._last: dict[str, dict[str, Known]] = {}
        self._rows = 0
        self._pending: tuple[Plan[list[Entry]], int] | None = None
        self.adopt(pipeline)

    def adopt(self, pipeline: Pipeline) -> None:
        self._places = {name: place for place, (name, spec) in enumerate(pipeline.fields.items())
                        if pipeline.missing_policy(name).kind == WHAT and spec.type in SCALARS}

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        self._pending, self._last, self._rows = None, {}, 0
        self._ring.restore([value for key, value in records.items() if key != _ROWS])
        try:
            if _ROWS in records:
                self._rows = msgspec.msgpack.decode(records[_ROWS], type=int)
        except (msgspec.MsgspecError, ValueError) as error:
            raise Invalid(f"the rows of a partition's last values cannot be read: {error}") from error
        for chunk in self._ring.chunks:
            self._learn(chunk.entries)

    def plan(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[StateRecord]]:
        if not self._places:
            return batch, []
        groups = _Groups.of(batch.column(features.ENTITY))
        news: list[dict[str, Known]] = [{} for _ in groups.entities]
        gaps = []
        for name, place in self._places.items():
            column = batch.column(name)
            sources = groups.last_present(column)
            self._note(groups, sources, name, column, news)
            filled, rows = self._filled(groups, sources, name, column)
            if rows:
                index = batch.schema.get_field_index(name)
                batch = batch.set_column(index, batch.schema.field(index), filled)
                gaps.append(Note(place, WHAT, rows, [""] * len(rows)))
        plan = self._ring.plan([(groups.entities[code], news[code]) for code in groups.by_last_row if news[code]])
        rows_after = self._rows + batch.num_rows
        self._pending = (plan, rows_after)
        return with_repairs(batch, gaps), [*plan.records, (_ROWS, msgspec.msgpack.encode(rows_after))]

    def keep(self) -> None:
        if self._pending is not None:
            plan, self._rows = self._pending
            gone = self._ring.apply(plan)
            self._learn(plan.added)
            for chunk in gone:
                self._forget(chunk.entries)
            self._pending = None

    def drop(self) -> None:
        self._pending = None

    def _note(self, groups: "_Groups", sources: Array, name: str, column: pa.Array,
              news: list[dict[str, Known]]) -> None:
        """The newest value of every entity that has one in this batch."""
        rows = sources[groups.order[groups.ends - 1]]
        codes = np.flatnonzero(rows >= 0)
        values = column.take(pa.array(rows[codes])).to_pylist()
        for code, row, value in zip(codes.tolist(), rows[codes].tolist(), values, strict=True):
            fits = not isinstance(value, str) or len(value) <= MAX_CHARS
            news[code][name] = (value if fits else None, self._rows + row)

    def _filled(self, groups: "_Groups", sources: Array, name: str, column: pa.Array) -> tuple[pa.Array, list[int]]:
        """The column without the gaps that can be filled, and which rows those were."""
        gaps: list[int] = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist()
        take = np.arange(len(column))
        remembered: list[Value] = []
        found: list[int] = []
        for gap in gaps:
            row = int(sources[gap])
            if row >= 0:
                value: Value = column[row].as_py()
                since = gap - row
                value = None if isinstance(value, str) and len(value) > MAX_CHARS else value
            else:
                value, at = self._last.get(groups.entities[groups.codes[gap]], {}).get(name, (None, 0))
                since = self._rows + gap - at
            if value is not None and since <= REACH_ROWS:
                take[gap] = len(column) + len(remembered)
                remembered.append(value)
                found.append(gap)
        if not found:
            return column, []
        return pa.concat_arrays([column, pa.array(remembered, column.type)]).take(pa.array(take)), found

    def _learn(self, entries: Sequence[Entry]) -> None:
        for entity, values in entries:
            self._last.setdefault(entity, {}).update(values)

    def _forget(self, entries: Sequence[Entry]) -> None:
        for entity, values in entries:
            mine = self._last.get(entity, {})
            for name, known in values.items():
                if mine.get(name) == known:
                    del mine[name]
            if not mine:
                self._last.pop(entity, None)


@dataclass(frozen=True, slots=True)
class _Groups:
    """Rows of a batch by entity. `order` lists the rows of each group after those of the one before, in order;
    `starts` and `ends` are by group."""

    entities: list[str]
    codes: Array
    order: Array
    starts: Array
    ends: Array

    @classmethod
    def of(cls, entities: pa.Array) -> "_Groups":
        encoded = entities.dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(encoded.dictionary)))
        return cls(encoded.dictionary.to_pylist(), codes, order, np.concatenate(([0], ends[:-1])), ends)

    @property
    def by_last_row(self) -> list[int]:
        """Groups, the one with the earliest last row first: the order in which they are to be forgotten."""
        last: list[int] = np.argsort(self.order[self.ends - 1], kind="stable").tolist()
        return last

    def last_present(self, column: pa.Array) -> Array:
        """For each row the newest row of its entity, itself included, that has a value; -1 where there is none."""
        present = column.is_valid().to_numpy(zero_copy_only=False)[self.order]
        places = np.arange(len(present))
        latest = np.maximum.accumulate(np.where(present, places, -1))
        own = latest >= np.repeat(self.starts, self.ends - self.starts)
        found = np.empty(len(present), np.int64)
        found[self.order] = np.where(own, self.order[np.maximum(latest, 0)], -1)
        return found
