"""Windows as a step of the accept stage: a batch's rows, what was remembered, the columns and what is left."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts import features
from lepton.contracts.pipeline import Pipeline
from services.ingest.core.keys.state import StateRecord
from services.ingest.core.windows import blocks, distinct
from services.ingest.core.windows.blocks import ENTITIES, Block, Entities
from services.ingest.core.windows.cells import Cells, Folded, Folding
from services.ingest.core.windows.lives import Lives, find, lives_of, numbered, watermarks
from services.ingest.core.windows.memory import PREFIX, Changed, Head, Memory
from services.ingest.core.windows.runs import NEVER, Array, Bools, Floats, Ints

_US = 1e6


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch's rows by the life of an entity, beside what was remembered of their blocks."""

    names: Array
    """Of the batch's entities."""
    known: Ints
    """Of each of them its place among the gathered, -1 where it has none."""
    lives: Lives
    number: Ints
    """Of each life."""
    gathered: Block
    blocks: frozenset[int]


class Windows:
    """Aggregates over the windows of each row, as columns (see Step).

    An entity silent for longer than the longest window reaches, by the partition's watermark, is forgotten: its next
    event is a first one.
    """

    prefix = PREFIX

    def __init__(self, pipeline: Pipeline) -> None:
        self._memory = Memory()
        self._planned: tuple[Head, dict[int, Block]] | None = None
        self._looked_at = 0
        self.adopt(pipeline)

    def adopt(self, pipeline: Pipeline) -> None:
        """A window that is new begins empty."""
        self._foldings = [Folding(window) for window in pipeline.features.windows]
        self._keeping = [one for one in self._foldings if one.columns]
        self._span_us = max((one.layout.span_us for one in self._foldings), default=0)

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        self._planned = None
        self._memory.restore(records, self._keeping)

    def plan(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[StateRecord]]:
        if not self._foldings or not batch.num_rows:
            return batch, []
        head = self._memory.head
        times = batch.column(features.OCCURRED_AT).cast(pa.int64()).to_numpy()
        marks = watermarks(times, head.watermark, self._span_us)
        rows, following = self._read(batch, times, marks)
        # Sums may pass the largest float; such an answer is none.
        with np.errstate(over="ignore", invalid="ignore"):
            folded = {one.window.name: self._fold(one, batch, rows) for one in self._keeping}
        head = msgspec.structs.replace(head, watermark=int(marks[-1]), following=following)
        changed = self._after(head, rows, folded)
        shares, state = self._memory.successor(changed, self._keeping)
        self._planned = (changed.head, shares)
        return self._with_columns(batch, rows.lives, folded), state

    def keep(self) -> None:
        if self._planned is not None:
            self._memory.head = self._planned[0]
            self._memory.blocks |= self._planned[1]
            self._planned = None

    def drop(self) -> None:
        self._planned = None

    def _read(self, batch: pa.RecordBatch, times: Ints, marks: Ints) -> tuple[_Batch, int]:
        encoded = batch.column(features.ENTITY).dictionary_encode()
        nothing = np.full(len(encoded.dictionary), NEVER)
        named = Entities.of(encoded.dictionary.to_pylist(), nothing, nothing, nothing)
        numbers = frozenset(blocks.place(named.hash, self._memory.head.blocks).tolist()) | self._silent(int(marks[-1]))
        gathered = self._memory.gather(numbers, self._keeping)
        held, known = gathered.entities, find(named.name, gathered.entities)
        lives = lives_of(encoded.indices.to_numpy().astype(np.int64), times, marks, self._span_us,
                         _at(held.seen, known), _at(held.latest, known))
        number, following = numbered(lives, _at(held.number, known), self._memory.head.following)
        return _Batch(named.name, known, lives, number, gathered, numbers), following

    def _silent(self, mark: int) -> frozenset[int]:
        """One block a batch is looked at whether or not it has events, and taken along if it holds who is forgotten."""
        self._looked_at += 1
        number = self._looked_at % self._memory.head.blocks
        block = self._memory.blocks.get(number)
        silent = block is not None and bool((mark - block.entities.seen > self._span_us).any())
        return frozenset({number}) if silent else frozenset()

    def _fold(self, folding: Folding, batch: pa.RecordBatch, rows: _Batch) -> Folded:
        stored = _of_lives(rows.gathered.cells[folding.window.name], rows.lives, rows.number)
        order, of = rows.lives.order, folding.window.of
        column = batch.column(of) if of is not None else None
        hashes = distinct.hashes_of(column).take(order) if column is not None and folding.distinct else None
        values = _numbers(column)[order] if column is not None else np.empty(len(order))
        return folding.fold(rows.lives.rows, stored, values, hashes)

    def _after(self, head: Head, rows: _Batch, folded: Mapping[str, Folded]) -> Changed:
        """All entities and panes of the gathered blocks after the batch, and of those that must be split."""
        held = rows.gathered.entities
        entities = _entities_after(rows)
        count = head.entities - len(held) + len(entities)
        wanted = max(head.blocks, -(-count // ENTITIES))
        more = blocks.parents(head.blocks, wanted) - rows.blocks
        others = self._memory.gather(more, self._keeping)
        all_of_them = Entities.joined([entities, others.entities])
        remembered = all_of_them.take(np.flatnonzero(head.watermark - all_of_them.seen <= self._span_us))
        cells, touched = {}, {}
        for name, one in folded.items():
            mine, fresh = _cells_after(rows, one, rows.gathered.cells[name])
            cells[name] = Cells.joined([mine, others.cells[name]])
            fresh = np.concatenate([fresh, np.zeros(len(others.cells[name]), np.bool_)])
            left = np.flatnonzero(np.isin(cells[name].owner, remembered.number))
            cells[name], touched[name] = cells[name].take(left), fresh[left]
        count += len(remembered) - len(all_of_them)
        head = msgspec.structs.replace(head, blocks=wanted, entities=count)
        return Changed(head, rows.blocks | more, remembered, cells, touched)

    def _with_columns(self, batch: pa.RecordBatch, lives: Lives, folded: Mapping[str, Folded]) -> pa.RecordBatch:
        found: dict[str, Floats] = {}
        for folding in self._foldings:
            window = folding.window
            answers = folded[window.name].answers if window.name in folded else {}
            for aggregate, column in zip(window.aggregates, window.columns, strict=True):
                found[column] = _time_since(lives) if aggregate == "time_since" else answers[aggregate]
        arrays = [_column(found[name], lives.order) if name in found else batch.column(index)
                  for index, name in enumerate(batch.schema.names)]
        return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _at(column: Ints, places: Ints) -> Ints:
    found = np.full(len(places), NEVER)
    there = places >= 0
    found[there] = column[places[there]]
    return found


def _numbers(column: pa.Array) -> Floats:
    """As floats, NaN where there is no value; text has none."""
    if pa.types.is_string(column.type):
        return np.where(column.is_valid().to_numpy(zero_copy_only=False), 0.0, np.nan)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy(zero_copy_only=False))


def _of_lives(cells: Cells, lives: Lives, number: Ints) -> Cells:
    """The cells of lives that go on, owned by life, sorted by life and pane."""
    going = np.flatnonzero(lives.went_on)
    if not len(going) or not len(cells):
        return cells.take(np.empty(0, np.int64))
    order = going[np.argsort(number[going])]
    at = np.minimum(np.searchsorted(number[order], cells.owner), len(order) - 1)
    mine = np.flatnonzero(number[order][at] == cells.owner)
    life = order[at[mine]]
    sort = np.lexsort((cells.pane[mine], life))
    return cells.take(mine[sort]).owned_by(life[sort])


def _entities_after(rows: _Batch) -> Entities:
    held, lives = rows.gathered.entities, rows.lives
    last = np.flatnonzero(~lives.ended)
    place = rows.known[lives.entity[last]]
    old, new = last[place >= 0], last[place < 0]
    columns = {}
    for name, of_lives in (("number", rows.number), ("seen", lives.seen), ("latest", lives.latest)):
        column = getattr(held, name).copy()
        column[place[place >= 0]] = of_lives[old]
        columns[name] = column
    born = Entities.of(rows.names[lives.entity[new]].tolist(), rows.number[new], lives.seen[new], lives.latest[new])
    return Entities.joined([replace(held, **columns), born])


def _cells_after(rows: _Batch, folded: Folded, before: Cells) -> tuple[Cells, Bools]:
    """What the batch left, and what it did not look at."""
    last = np.flatnonzero(~rows.lives.ended[folded.cells.owner])
    now = folded.cells.take(last)
    going = rows.number[rows.lives.went_on]
    others = before.take(np.flatnonzero(~np.isin(before.owner, going)))
    return (Cells.joined([others, now.owned_by(rows.number[now.owner])]),
            np.concatenate([np.zeros(len(others), np.bool_), folded.touched[last]]))


def _time_since(lives: Lives) -> Floats:
    """Seconds since the entity's newest event before; NaN for its first, and where that event is newer than the row."""
    times, latest = lives.rows.times, lives.rows.latest
    known = (latest != NEVER) & (latest <= times)
    return np.where(known, (times - np.where(known, latest, times)) / _US, np.nan)


def _column(by_life: Floats, order: Ints) -> pa.Array:
    found = np.empty(len(order))
    found[order] = by_life
    return pa.array(found, pa.float64(), mask=~np.isfinite(found))
