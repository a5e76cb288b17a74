"""One record of an Arrow stream: its rows as typed columns, those not accepted with the reason, those that stray."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
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


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is not accepted."""

    row: int
    code: str
    message: str
    field: str | None


@dataclass(slots=True)
class Rows:
    """What a record holds: index i of every column is the same accepted row, `numbers` its place in the record."""

    table: pa.Table
    numbers: Wholes
    ids: list[str]
    entities: list[str]
    times: pa.Array
    """Microseconds since the epoch, null where the row says none."""
    values: list[pa.Array]
    labels: list[Any]
    traces: list[str | None] | None
    repairs: pa.Array | None = None
    """What was changed in each row, as in a features batch; None when nothing was."""
    refused: list[Refused] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)


class RecordReader:
    """Reads records for one Pipeline version in a topic of so many partitions."""

    def __init__(self, pipeline: Pipeline, partitions: int) -> None:
        self._members = columns.members_of(pipeline)
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

    def read(self, value: bytes, partition: int, *, split_before: bool) -> Rows:
        """Every row is in the answer once: accepted, refused, or a stray.

        A row of a record that was `split_before` cannot stray again: it is refused. Raises Invalid, with the column
        where it is about one, when nothing of the record can be accepted.
        """
        table = stream.read_table(value)
        columns.check_columns(table.schema, self._members)
        told = {name: columns.dense(table.column(name), name) for name in table.column_names}
        size = table.num_rows
        judged = _Judged(size)
        entities = self._name(self._events.entity_member, told, judged)
        strays = self._strays(table, entities, partition, split_before, judged)
        ids = entities
        if self._events.id != self._events.entity_member:
            ids = self._name(self._events.id, told, judged)
        times = self._times(told, size, judged)
        values = [self._column(name, told, kind, read, required, size, judged)
                  for name, required, kind, read in self._fields]
        label = self._labels(told, judged)
        traces = told.get(TRACEPARENT) if TRACEPARENT not in self._events.fields else None
        self._bound(table, told, judged)
        kept = np.flatnonzero(~judged.taken)
        repairs = repairs_of([(self._places[name], change) for name, change in judged.changes], size)
        if len(kept) < size:
            indexes = pa.array(kept)
            ids, entities, times = ids.take(indexes), entities.take(indexes), times.take(indexes)
            values = [column.take(indexes) for column in values]
            repairs = repairs.take(indexes) if repairs is not None else None
            label = label.take(indexes) if label is not None else None
            traces = traces.take(indexes) if traces is not None else None
        id_list = _objects(ids)
        return Rows(table, kept, id_list, id_list if ids is entities else _objects(entities), times, values,
                    label.to_pylist() if label is not None else [], traces.to_pylist() if traces is not None else None,
                    repairs, judged.refused, strays)

    def _name(self, member: str, told: dict[str, pa.Array], judged: "_Judged") -> pa.Array:
        """The texts of ids or entities; an integer stands for its digits."""
        names = texts_of(told[member])
        for rows, code, message in wrong_names(names):
            judged.refuse_where(rows, code, message, member)
        return names

    def _strays(self, table: pa.Table, entities: pa.Array, partition: int, split_before: bool,
                judged: "_Judged") -> list[Stray]:
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
        found: list[Stray] = []
        for place in np.unique(places[elsewhere]).tolist():
            mine = np.flatnonzero(elsewhere & (places == place))
            pieces, too_large = stream.write_pieces(table.take(pa.array(mine)), MAX_PIECE_BYTES, MAX_PIECE_ROWS)
            found += [Stray(place, rows, data) for rows, data in pieces]
            for row in too_large:
                judged.refused.append(Refused(int(mine[row]), "out_of_range", "is too large to be moved", None))
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

    def _bound(self, table: pa.Table, told: dict[str, pa.Array], judged: "_Judged") -> None:
        if sum(column.nbytes for column in told.values()) <= MAX_ROW_BYTES:
            return
        sizes = np.zeros(table.num_rows, np.int64)
        for column in told.values():
            sizes += _row_bytes(column)
        judged.refuse(sizes > MAX_ROW_BYTES, "out_of_range", f"is larger than {MAX_ROW_BYTES} bytes", None)


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


def originals(table: pa.Table, rows: Sequence[int]) -> Iterator[bytes]:
    """Each of these rows as it came: a JSON object, or where JSON has no word for a value, a stream of one row."""
    chosen = table.take(pa.array(rows, pa.int64())).combine_chunks()
    try:
        told: Sequence[dict[str, Any] | None] = _plain(chosen).to_pylist()
    except (ValueError, OverflowError, LookupError, pa.ArrowException):  # no such time, no such zone
        told = [None] * len(rows)
    for number, row in enumerate(told):
        text = _as_json(row) if row is not None else None
        alone = chosen.slice(number, 1).combine_chunks()
        yield text if text is not None else stream.write_table(alone, for_events=True)


def _plain(table: pa.Table) -> pa.Table:
    """With times in microseconds, as far as Python's go."""
    return table.cast(pa.schema([
        pa.field(one.name, pa.timestamp("us", one.type.tz)) if pa.types.is_timestamp(one.type) else one
        for one in table.schema]), safe=False)


def _as_json(row: dict[str, Any]) -> bytes | None:
    present = {name: value for name, value in row.items() if value is not None}
    if all(map(_fits_json, present.values())):
        return msgspec.json.encode(present)
    return None


def _fits_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_fits_json, value))
    if isinstance(value, dict):
        return all(map(_fits_json, value.values()))
    return True


def _objects(names: pa.Array) -> list[str]:
    found: list[str] = names.to_numpy(zero_copy_only=False).tolist()
    return found


def _row_bytes(column: pa.Array) -> Wholes:
    """Bytes of each value, about."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind) \
            or pa.types.is_large_binary(kind):
        return np.asarray(pc.fill_null(pc.binary_length(column), 0), np.int64)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return np.asarray(pc.fill_null(pc.list_value_length(column), 0), np.int64) * 8
    return np.full(len(column), 8, np.int64)
