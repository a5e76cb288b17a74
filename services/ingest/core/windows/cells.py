"""One window over one batch: the panes its entities had, the batch's rows, the columns of the rows and the panes left.

A cell is one pane of one entity. Every row looks at the cells of its window as they were when it was accepted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lepton.contracts.pipeline_blocks import Window
from services.ingest.core.windows import distinct, partials
from services.ingest.core.windows.panes import Layout, Placed, place_by_clock, place_in_sessions
from services.ingest.core.windows.partials import Partial
from services.ingest.core.windows.runs import Array, Bools, Floats, Ints, Runs, grouped

SET = "set"
"""Column of the smallest hashes of the distinct values in each pane (see distinct)."""
# Panes looked at together when windows are merged; bounds the memory of a batch.
_AT_ONCE = 1 << 19
_FIRST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Cells:
    """`owner`: number of the entity (or of its life within a batch); columns of equal length."""

    owner: Ints
    pane: Ints
    columns: Partial

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, which: Array) -> "Cells":
        return Cells(self.owner[which], self.pane[which], {name: one[which] for name, one in self.columns.items()})

    def owned_by(self, owner: Ints) -> "Cells":
        return Cells(owner, self.pane, self.columns)

    @classmethod
    def none(cls, columns: Sequence[str]) -> "Cells":
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), {
            name: np.empty(0, object if name == SET else partials.kind_of(name)) for name in columns})

    @classmethod
    def joined(cls, parts: Sequence["Cells"]) -> "Cells":
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([part.owner for part in parts]), np.concatenate([part.pane for part in parts]),
                   {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns})


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a batch by life of an entity, in the order accepted within each."""

    lives: Runs
    times: Ints
    latest: Ints
    """The life's newest event time before the row; NEVER for its first."""


@dataclass(frozen=True, slots=True)
class Folded:
    answers: dict[str, Floats]
    """A column an aggregate, NaN where there is none."""
    cells: Cells
    """What is kept of every life, by life and pane."""
    touched: Bools
    """Those of `cells` that the batch changed."""


class Folding:
    """The arithmetic of one window of a Pipeline."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.layout = Layout.of(window)
        self.distinct = "distinct" in window.aggregates
        self._session = window.kind == "session"
        self._own = partials.columns_for(window.aggregates) + (("start",) if self._session else ())
        self.columns = (*self._own, SET) if self.distinct else self._own
        """Columns of its cells; none when nothing has to be kept but the entity's newest event time."""

    @property
    def inline(self) -> bool:
        """Whether its cells are few and small enough to lie in the record of their entities."""
        return self.layout.slots == 1 and not self.distinct

    def newest(self, cells: Cells) -> Cells:
        """Without panes that are older than what is kept of their owner."""
        owners, of = np.unique(cells.owner, return_inverse=True)
        current = np.full(len(owners), np.iinfo(np.int64).min)
        np.maximum.at(current, of, cells.pane)
        return cells.take(np.flatnonzero(cells.pane > current[of] - self.layout.kept))

    def fold(self, rows: Rows, stored: Cells, values: Floats, hashes: "distinct.Hashes | None") -> Folded:
        """`stored`: owned by life, sorted by life and pane. `values`: NaN where there is none."""
        placed = self._place(rows, stored)
        live = np.flatnonzero(placed.taken)
        if not len(live):
            nothing = np.full(len(rows.times), np.nan)
            return Folded(dict.fromkeys(self.window.aggregates, nothing), stored, np.zeros(len(stored), np.bool_))
        owner, pane = rows.lives.of_row[live], placed.pane[live]
        panes, ranks = np.unique(np.concatenate([pane, stored.pane]), return_inverse=True)
        key = np.concatenate([owner, stored.owner]) * len(panes) + ranks
        table = _Table.of(key[:len(live)], key[len(live):])
        cells, answers = self._cells(table, rows, live, stored, values)
        answers = self._across(table, cells, answers, owner, pane, panes)
        final = Cells(table.keys // max(1, len(panes)), panes[table.keys % max(1, len(panes))], table.final(cells))
        if self.distinct and hashes is not None:
            sets = np.full(len(final), None, object)
            sets[table.stored_at] = stored.columns[SET]
            answers["distinct"] = distinct.count(
                self.layout.reach, (final.owner, final.pane, sets), table.cell_of, pane, hashes.take(live))
            final.columns[SET] = sets
        left = final.pane > placed.current[final.owner] - self.layout.kept
        kept = final.take(np.flatnonzero(left))
        if self._session:
            kept = Cells(kept.owner, np.zeros_like(kept.pane), kept.columns)
        return Folded({name: _spread(found, live, len(rows.times)) for name, found in answers.items()}, kept,
                      table.touched[left])

    def _place(self, rows: Rows, stored: Cells) -> Placed:
        before = np.full(len(rows.lives.starts), np.iinfo(np.int64).min)
        if not self._session:
            # Panes rise within an owner, so the last one written stays.
            before[stored.owner] = stored.pane
            return place_by_clock(self.layout, rows.times, rows.lives, before)
        begun = np.full(len(before), _FIRST)
        begun[stored.owner] = stored.columns["start"]
        return place_in_sessions(self.layout, rows.times, rows.lives, rows.latest, begun)

    def _cells(self, table: "_Table", rows: Rows, live: Ints, stored: Cells,
               values: Floats) -> tuple["_Versions", dict[str, Floats]]:
        """Every version of the table's cells: as stored, and after each row; and the answers from the row's own."""
        begun = partials.empty(self._own, len(table.keys))
        for name in self._own:
            begun[name][table.stored_at] = stored.columns[name]
        own = live if table.order is None else live[table.order]
        mine = values[own]
        counts = np.isfinite(mine) if self.window.of is not None else np.ones(len(own), np.bool_)
        after = partials.running(table.runs, {name: one[table.grown] for name, one in begun.items()}, rows.times[own],
                                 np.where(counts, mine, np.nan), counts)
        versions = _Versions(begun, after)
        if self.layout.reach > 1:
            return versions, {}
        return versions, {name: table.as_given(found)
                          for name, found in partials.answers(after, self.window.aggregates).items()}

    def _across(self, table: "_Table", versions: "_Versions", answers: dict[str, Floats], owner: Ints, pane: Ints,
                panes: Ints) -> dict[str, Floats]:
        """Answers of windows of several panes; nothing to do for one."""
        if self.layout.reach == 1 or not len(owner) or not self._own:
            return answers
        oldest = owner * len(panes) + np.searchsorted(panes, pane - (self.layout.reach - 1))
        parts = []
        for chunk, at, starts in table.windows(oldest):
            found = partials.merged(versions.at(at), starts)
            parts.append((chunk, partials.answers(found, self.window.aggregates)))
        return {name: np.concatenate([found[name] for _, found in parts]) for name in parts[0][1]}


@dataclass(frozen=True, slots=True)
class _Versions:
    """Cells before the batch, and after each row (in the table's order)."""

    begun: Partial
    after: Partial

    def at(self, which: Ints) -> Partial:
        """Below the number of cells: as begun; from there on: after that row."""
        size = len(next(iter(self.begun.values())))
        early = which < size
        found = {}
        for name, begun in self.begun.items():
            after = self.after[name]
            found[name] = np.where(early, begun[np.where(early, which, 0)], after[np.where(early, 0, which - size)])
        return found


@dataclass(frozen=True, slots=True)
class _Table:
    """All cells a batch deals with, by key (owner, then pane), and how rows and stored cells lie in it."""

    keys: Ints
    order: Ints | None
    """Order in which rows come by key; None: they do already."""
    runs: Runs
    """Rows in that order, a group a cell."""
    grown: Ints
    """For each group its cell."""
    stored_at: Ints
    """For each stored cell its place."""
    cell_of: Ints
    """For each row, as given, its cell."""
    touched: Bools

    @classmethod
    def of(cls, rows: Ints, stored: Ints) -> "_Table":
        order, runs = grouped(rows) if len(rows) else (None, Runs(np.empty(0, np.int64), 0))
        groups = (rows if order is None else rows[order])[runs.starts]
        keys = np.union1d(groups, stored)
        grown = np.searchsorted(keys, groups)
        touched = np.zeros(len(keys), np.bool_)
        touched[grown] = True
        in_order = grown[runs.of_row]
        cell_of = in_order if order is None else _inverse(order, in_order)
        return cls(keys, order, runs, grown, np.searchsorted(keys, stored), cell_of, touched)

    def as_given(self, by_key: Floats) -> Floats:
        return by_key if self.order is None else _inverse(self.order, by_key)

    def final(self, versions: _Versions) -> Partial:
        found = {name: one.copy() for name, one in versions.begun.items()}
        for name, one in found.items():
            one[self.grown] = versions.after[name][self.runs.last]
        return found

    def windows(self, oldest: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """For rows as given, some at a time: their numbers, which versions of cells their windows hold (see
        `_Versions.at`), and where each window starts among those. `oldest`: key of the first pane of the window."""
        low = np.searchsorted(self.keys, oldest)
        lengths = self.cell_of - low + 1
        ends = np.cumsum(lengths)
        position = np.arange(len(oldest)) if self.order is None else _inverse(self.order, np.arange(len(oldest)))
        first = 0
        while first < len(oldest):
            reached = ends[first - 1] if first else 0
            until = max(first + 1, int(np.searchsorted(ends, reached + _AT_ONCE)))
            chunk = np.arange(first, until)
            yield (chunk, *self._versions(chunk, low[chunk], lengths[chunk], position))
            first = until

    def _versions(self, chunk: Ints, low: Ints, lengths: Ints, position: Ints) -> tuple[Ints, Ints]:
        row = np.repeat(chunk, lengths)
        start = np.cumsum(lengths) - lengths
        cell = np.arange(len(row)) - np.repeat(start - low, lengths)
        group = np.searchsorted(self.grown, cell)
        grew = self.touched[cell]
        group[~grew] = 0
        taken = np.arange(len(position)) if self.order is None else self.order
        # Usually all rows of an older pane were accepted before this row.
        newest = self.runs.last[group]
        own = cell == self.cell_of[row]
        newest[own] = position[row[own]]
        odd = np.flatnonzero(grew & (taken[newest] > row))
        if not len(odd):
            return np.where(grew, len(self.keys) + newest, cell), start
        rows = len(position)
        newest[odd] = np.searchsorted(self.runs.of_row * rows + taken, group[odd] * rows + row[odd], side="right") - 1
        none = np.zeros(len(cell), np.bool_)
        none[odd] = newest[odd] < self.runs.starts[group[odd]]
        at = np.where(grew & ~none, len(self.keys) + newest, cell)
        stored = np.zeros(len(self.keys), np.bool_)
        stored[self.stored_at] = True
        # A cell that came to be later was not there for this row: left out, not added as zero, since even that would
        # change how the sums are rounded.
        left = ~none | stored[cell]
        return at[left], (np.cumsum(left) - left)[start]


def _inverse(order: Ints, values: Array) -> Array:
    found = np.empty_like(values)
    found[order] = values
    return found


def _spread(found: Floats, live: Ints, rows: int) -> Floats:
    if len(found) == rows:
        return found
    spread = np.full(rows, np.nan)
    spread[live] = found
    return spread
