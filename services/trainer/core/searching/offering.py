"""Which transforms a search may try for fields that none is declared for, by their type and what the rows hold."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.modelling.families import AUTO
from lepton.contracts.modelling.transforms import (
    Hashing,
    OneHot,
    QuantileBins,
    Scale,
    TargetEncoding,
    Tfidf,
)
from services.trainer.core.dataset import HELD_OUT, LABEL, roles
from services.trainer.core.lessons.choosing import lesson_of
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.choices import MAX_CATEGORIES, MIN_CATEGORY_ROWS
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.searching.menu import PLAIN, Entry, Menu

BINS, COLUMNS, BUCKETS, TERMS, DIRECTIONS = 10, 1024, 256, 1000, 50
MEANS_FROM = 10
"""A category with no more values has few columns one-hot, and what its means could say is in them."""
MAX_VALUES = 12_500_000
"""Rows of all folds times columns of an entry: 100 MB while they are prepared. What needs more is not on the menu."""
_OF = 256
"""So many fields one transform may name."""


def menu_of(plan: Plan, rows: pa.Table, folds: int = 1) -> Menu:
    """What `auto` may try; of a family that somebody chose nothing. Held-out rows take no part.

    The rows are prepared once in each of `folds`. The same plan and rows give the same menu.
    """
    if plan.family != AUTO or plan.fixed_columns or not rows.num_rows:
        return PLAIN
    declared = {name for one in plan.transforms for name in one.of}
    free = [field for field in plan.fields
            if field.name not in declared and not field.coded and field.type in ("float", "int", "category", "text")]
    if not free:
        return PLAIN
    learnt = _Learnt(plan, rows, free, folds)
    kinds = (_numbers(plan, free, learnt), _categories(free, learnt), _texts(free, learnt))
    return Menu(tuple(entries for entries in kinds if entries))


class _Learnt:
    """Values of the rows that are not held out."""

    def __init__(self, plan: Plan, rows: pa.Table, free: Sequence[PlannedField], folds: int) -> None:
        lesson, self._folds = lesson_of(plan), folds
        learnt = pa.array(roles(lesson.owners(rows), plan.gate.held_out) != HELD_OUT)
        self._rows = rows.select([field.name for field in free]).filter(learnt)
        self.signals = 1
        """Of a label, how many numbers a mean of it is."""
        if plan.task == "classification" and plan.label_type != "bool":
            self.signals = int(pc.count_distinct(rows.column(LABEL).filter(learnt)).as_py())

    def distinct(self, field: PlannedField) -> int:
        return int(pc.count_distinct(self._rows.column(field.name)).as_py())

    def known(self, field: PlannedField) -> int:
        """Values of a category that would have a column, if there were one for each."""
        if field.categories:
            return len(field.categories)
        counts = pc.value_counts(self._rows.column(field.name).drop_null()).field("counts").to_numpy()
        return int(np.count_nonzero(counts >= MIN_CATEGORY_ROWS))

    def fit(self, columns: int) -> bool:
        return 0 < columns * int(self._rows.num_rows) * self._folds <= MAX_VALUES


def _numbers(plan: Plan, free: Sequence[PlannedField], learnt: _Learnt) -> tuple[Entry, ...]:
    """Bins say where a number lies among the others, however far out; beside the number itself they bend its line."""
    if (plan.augment is not None and plan.augment.noise) or plan.adversarial is not None:
        return ()  # noise and attacks move numbers, and are meant to
    names = [field.name for field in free if field.type in ("float", "int") and learnt.distinct(field) > BINS]
    if not learnt.fit(len(names) * (BINS + 1)):
        return ()
    bins = [QuantileBins(of=some, bins=BINS) for some in _parts(names)]
    return (Entry("quantile_bins", tuple(bins)),
            Entry("scale+quantile_bins", (*(Scale(of=some) for some in _parts(names)), *bins)))


def _categories(free: Sequence[PlannedField], learnt: _Learnt) -> tuple[Entry, ...]:
    """By how many values they have: the label's mean for each, or more columns than there are by themselves."""
    known = {field.name: learnt.known(field) for field in free if field.type == "category"}
    # Declared ones have a column each already.
    open_ = {field.name for field in free if not field.categories}
    many = [name for name, count in known.items() if count > MEANS_FROM]
    wide = [name for name in many if MAX_CATEGORIES < known[name] <= COLUMNS and name in open_]
    wider = [name for name in many if known[name] > COLUMNS and name in open_]
    found = []
    if learnt.fit(len(many) * learnt.signals):
        found.append(Entry("target_encoding", tuple(TargetEncoding(of=some) for some in _parts(many))))
    if learnt.fit(sum(known[name] + 1 for name in wide) + len(wider) * (BUCKETS + 1)):
        found.append(Entry("+".join([*(["one_hot"] if wide else []), *(["hashing"] if wider else [])]), (
            *(OneHot(of=some, max_categories=COLUMNS) for some in _parts(wide)),
            *(Hashing(of=some, buckets=BUCKETS) for some in _parts(wider)))))
    return tuple(found)


def _texts(free: Sequence[PlannedField], learnt: _Learnt) -> tuple[Entry, ...]:
    """By their words, where there are more texts than could have a column each; of many rows in fewer directions."""
    names = [field.name for field in free if field.type == "text" and learnt.distinct(field) > MAX_CATEGORIES]
    for name, columns, components in (("tfidf", TERMS, None), ("tfidf_directions", DIRECTIONS, DIRECTIONS)):
        if learnt.fit(len(names) * columns):
            return (Entry(name, tuple(Tfidf(of=some, max_terms=TERMS, components=components)
                                      for some in _parts(names))),)
    return ()


def _parts(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(names[start:start + _OF]) for start in range(0, len(names), _OF)]
