"""How far the figures of one run can be trusted: the same plan learnt anew with one part after another held out.

Random parts are stratified k-fold cross-validation (Kohavi 1995); parts by time are a rolling origin (Tashman 2000).
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.trainer.core.dataset import HELD_OUT, MIN_HELD_OUT_ROWS, MIN_TRAIN_ROWS
from services.trainer.core.failure import bad_data

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One fold: rows in use (all, or those up to the held-out ones in time), and which of them are held out."""

    rows: Array
    held_out: Array


@dataclass(frozen=True, slots=True)
class Folds:
    """Metrics of each fold, in order; `mean` and `standard_error` of each metric that every fold defines."""

    by: str
    folds: tuple[dict[str, float], ...]

    def summary(self) -> dict[str, tuple[float, float]]:
        """Name to mean and standard error."""
        names = set.intersection(*(set(one) for one in self.folds))
        values = {name: np.array([one[name] for one in self.folds]) for name in sorted(names)}
        return {name: (float(one.mean()), float(one.std(ddof=1) / np.sqrt(len(one)))) for name, one in values.items()}


def parts_of(by: str, labels: Array, count: int, seed: int) -> list[Part]:
    """What each fold holds out of rows in order of time. Raises RunFailed(data) for too few rows."""
    return by_time(len(labels), count) if by == "time" else by_chance(labels, count, seed)


def by_chance(labels: Array, count: int, seed: int) -> list[Part]:
    """Random parts of equal size with equal shares of each class.

    Numbers to predict are spread by their order, which evens their means out too.
    """
    _check(len(labels), count)
    chance = np.random.default_rng(seed)
    shuffled = chance.permutation(len(labels))
    _, codes = np.unique(labels, return_inverse=True)
    ordered = shuffled[np.argsort(codes[shuffled], kind="stable")]
    part_of = np.empty(len(labels), dtype=np.int64)
    part_of[ordered] = np.arange(len(labels)) % count
    everything = np.arange(len(labels))
    return [Part(everything, part_of == one) for one in range(count)]


def by_time(rows: int, count: int) -> list[Part]:
    """`count` equal stretches after a first one: each is held out from what was learnt of everything before it."""
    _check(rows, count + 1)
    edges = np.linspace(0, rows, count + 2).astype(np.int64)
    return [Part(np.arange(end), np.arange(end) >= start) for start, end in itertools.pairwise(edges[1:])]


def roles_of(part: Part, roles: Array) -> Array:
    """`roles` of the rows in use, of which none is held out but those of the part."""
    found = roles[part.rows].copy()
    found[part.held_out] = HELD_OUT
    return found


def _check(rows: int, parts: int) -> None:
    each = rows // parts
    if each < MIN_HELD_OUT_ROWS or rows - each < MIN_TRAIN_ROWS:
        raise bad_data(f"{rows} rows are too few for {parts} parts",
                       "lower model.evaluate.folds, or wait for more labels")
