"""Records that are Arrow streams: their rows as typed columns, those not accepted with the reason, those that stray."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.arrow import columns, stream
from lepton.contracts.arrow.entities import partitions_of, texts_of, wrong_names
from lepton.contracts.envelope import TRACEPARENT
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import FieldSpec
from services.ingest.core.reading.column import Change, Mask, Read, Wholes, repairs_of, truth
from services.ingest.core.reading.fields import KINDS, ReadColumn, read_times, reader_of
from services.ingest.core.reading.intake import Stray

# What a split record may be at most: a quarter of what the events topic takes, in no more rows than this.
MAX_PIECE_BYTES = 1024 * 1024
MAX_PIECE_ROWS = 100_000
# No single row is larger than what a record of one event may be.
MAX_ROW_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Refused:
    """A row that is not accepted."""

    row: int
    code: str
    message: str
    field: str | None


@dataclass(slots=True)
class Rows:
    """What records hold: index i of every column is the same accepted row, `numbers` its place among all rows."""

    numbers: Wholes
    ids: pa.StringArray
    entities: pa.StringArray
    """The very same array as `ids` where one member is both."""
    times: pa.Array
    """Microseconds since the epoch, null where the row says none."""
    values: list[pa.Array]
    labels: list[Any]
    traces: list[str | None] | None
    repairs: pa.Array | None
    """What was changed in each row, as in a features batch; None when nothing was."""
    refused: list[Refused]
    strays: list[tuple[int, Stray]]
    """With the record each comes from."""


class RecordReader:
    """Reads records for one Pipeline version in a topic of so many partitions."""

    def __init__(self, pipeline: Pipeline, partitions: int, passed_over: Collection[str] = ()) -> None:
        """`passed_over`: columns that may be there and are not read."""
        self._passed_over = passed_over
        self._members = columns.members_of(pipeline)
        self._good: pa.Schema | None = None
        self._partitions = partitions
        self._events = pipeline.events
        self._fields = [(name, spec.required, KINDS[spec.type], reader_of(spec))
                        for name, spec in pipeline.fields.items()]
        self._places = {name: place for place, name in enumerate(pipeline.fields)}
        label = self._events.label
        self._label: tuple[str, ReadColumn] | None = None
        if label is not None and label.arrives == "with_event":
            spec = FieldSpec(type=pipeline.label_type, categories=pipeline.label_categories)  # type: ignore[arg-type]
            self._label = (label.field, reader_of(self._events.fields.get(label.field, spec)))

    def open(self, value: bytes) -> "Opened":
        """A record whose columns are what they may be. Raises Invalid, with the column where it is about one."""
        table = stream.read_table(value)
        # Streams mostly have the columns of the one before.
        if self._good is None or not table.schema.equals(self._good):
            columns.check_columns(pa.schema([one for one in table.schema if one.name not in self._passed_over]),
                                  self._members)
            self._good = table.schema
        return Opened(table, {name: columns.dense(table.column(name), name) for name in table.column_names
                              if name not in self._passed_over})

    def read(self, records: "Sequence[Opened]", partition: int, *, split_before: bool) -> Rows:
        """Of records of the same columns, every row is in the answer once: accepted, refused, or a stray.

        A row of records that were `split_before` cannot stray again: it is refused.
        """
        told = records[0].told if len(records) == 1 else {
            name: pa.concat_arrays([record.told[name] for record in records]) for name in records[0].told}
        size = sum(record.table.num_rows for record in records)
        judged = _Judged(size)
        entities = self._name(self._events.entity_member, told, judged)
        strays = self._strays(records, entities, partition, split_before, judged)
        ids = entities
        if self._events.id != self._events.entity_member:
            ids = self._name(self._events.id, told, judged)
        times = self._times(told, size, judged)
        values = [self._column(name, told, kind, read, required, size, judged)
                  for name, required, kind, read in self._fields]
        label = self._labels(told, judged)
        traces = told.get(TRACEPARENT) if TRACEPARENT not in self._events.fields else None
        self._bound(records, told, judged)
        repairs = repairs_of([(self._places[name], change) for name, change in judged.changes], size)
        kept = np.flatnonzero(~judged.taken)
        if len(kept) == size:
            chosen: Callable[[pa.Array], pa.Array] = _all
        else:
            # Most rows are kept. A filter copies what is between two others at once, in a third of the time to take it.
            chosen = partial(_where, pa.array(~judged.taken))
        kept_ids = chosen(ids)
        return Rows(kept, kept_ids, kept_ids if ids is entities else chosen(entities), chosen(times),
                    [chosen(column) for column in values],
                    chosen(label).to_pylist() if label is not None else [],
                    chosen(traces).to_pylist() if traces is not None and traces.null_count < size else None,
                    chosen(repairs) if repairs is not None else None, judged.refused, strays)

    def _name(self, member: str, told: dict[str, pa.Array], judged: "_Judged") -> pa.Array:
        """The texts of ids or entities; an integer stands for its digits."""
        names = texts_of(told[member])
        for rows, code, message in wrong_names(names):
            judged.refuse_where(rows, code, message, member)
        return names

    def _strays(self, records: "Sequence[Opened]", entities: pa.Array, partition: int, split_before: bool,
                judged: "_Judged") -> list[tuple[int, Stray]]:
        known = ~judged.taken
        if self._partitions == 1 or not known.any():
            return []
        # What cannot be hashed was refused above, and stays here.
        hashable = entities if known.all() else pc.if_else(pa.array(known), entities, "")
        places = partitions_of(hashable, self._partitions)
        elsewhere = (places != partition) & known
        if not elsewhere.any():
            return []
        if split_before:
            judged.refuse(elsewhere, "wrong_partition", "its entity belongs elsewhere, though it was moved before",
                          self._events.entity_member)
            return []
        judged.taken |= elsewhere
        found: list[tuple[int, Stray]] = []
        first = 0
        for number, record in enumerate(records):
            stop = first + record.table.num_rows
            rows = np.flatnonzero(elsewhere[first:stop])
            moved, too_large = _moved(record.table, rows, places[first:stop][rows])
            found += [(number, stray) for stray in moved]
            judged.refused += [Refused(first + row, "out_of_range", "is too large to be moved", None)
                               for row in too_large]
            first = stop
        return found

    def _times(self, told: dict[str, pa.Array], size: int, judged: "_Judged") -> pa.Array:
        column = told.get(self._events.time)
        if column is None or pa.types.is_null(column.type):
            return pa.nulls(size, pa.int64())
        return judged.take(read_times(column), self._events.time)

    def _column(self, name: str, told: dict[str, pa.Array], kind: pa.DataType, read: ReadColumn, required: bool,
                size: int, judged: "_Judged") -> pa.Array:
        column = told.get(name)
        if column is None or pa.types.is_null(column.type):
            column = pa.nulls(size, kind)
        else:
            column = judged.take(read(column), name)
        if required and column.null_count:
            judged.refuse_where(column.is_null(), "missing", "is missing", name)
        return column

    def _labels(self, told: dict[str, pa.Array], judged: "_Judged") -> pa.Array | None:
        if self._label is None:
            return None
        name, read = self._label
        column = told.get(name)
        if column is None or pa.types.is_null(column.type):
            return pa.nulls(len(judged.taken), pa.bool_())
        return judged.take(read(column), name)

    def _bound(self, records: "Sequence[Opened]", told: dict[str, pa.Array], judged: "_Judged") -> None:
        if all(record.size_bytes <= MAX_ROW_BYTES for record in records):
            return
        sizes = np.zeros(len(judged.taken), np.int64)
        for column in told.values():
            sizes += _row_bytes(column)
        judged.refuse(sizes > MAX_ROW_BYTES, "out_of_range", f"is larger than {MAX_ROW_BYTES} bytes", None)


@dataclass(slots=True)
class Opened:
    """A record as it came, and its columns in one piece each, without dictionaries."""

    table: pa.Table
    told: dict[str, pa.Array]
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.size_bytes = sum(column.nbytes for column in self.told.values())


class _Judged:
    """Which rows of a record are spoken for: refused, each for its first reason, or strays."""

    def __init__(self, size: int) -> None:
        self.taken: Mask = np.zeros(size, np.bool_)
        self.refused: list[Refused] = []
        self.changes: list[tuple[str, Change]] = []

    def refuse(self, rows: Mask, code: str, message: str, member: str | None) -> None:
        fresh = rows & ~self.taken
        self.refused += [Refused(row, code, message, member) for row in np.flatnonzero(fresh).tolist()]
        self.taken |= fresh

    def refuse_where(self, rows: pa.Array | None, code: str, message: str, member: str) -> None:
        if rows is not None and pc.any(rows).as_py():
            self.refuse(truth(rows), code, message, member)

    def take(self, read: Read, member: str) -> pa.Array:
        for problem in read.problems:
            self.refuse(problem.rows, problem.code, problem.message, member)
        self.changes += [(member, change) for change in read.changes]
        return read.values


def _all(column: pa.Array) -> pa.Array:
    return column


def _where(mask: pa.BooleanArray, column: pa.Array) -> pa.Array:
    return column.filter(mask)


def _moved(table: pa.Table, rows: Wholes, places: Wholes) -> tuple[list[Stray], list[int]]:
    """These rows on their way to these partitions, and those too large for it."""
    found: list[Stray] = []
    left: list[int] = []
    for place in np.unique(places).tolist():
        mine = rows[places == place]
        pieces, too_large = stream.write_pieces(table.take(pa.array(mine)), MAX_PIECE_BYTES, MAX_PIECE_ROWS)
        found += [Stray(place, count, data) for count, data in pieces]
        left += mine[list(too_large)].tolist()
    return found, left


def _row_bytes(column: pa.Array) -> Wholes:
    """Bytes of each value, about."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind) \
            or pa.types.is_large_binary(kind):
        return np.asarray(pc.fill_null(pc.binary_length(column), 0), np.int64)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return np.asarray(pc.fill_null(pc.list_value_length(column), 0), np.int64) * 8
    return np.full(len(column), 8, np.int64)
