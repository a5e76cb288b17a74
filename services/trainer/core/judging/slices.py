"""How a model does on parts of the rows: by the values of a field, and between groups that are to be treated alike."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from services.trainer.core.judging.answered import Answered

Array = npt.NDArray[Any]

MISSING, REST = "(missing)", "(others)"
# A field with more values is told by its most frequent ones.
MAX_SLICES = 12
# What fewer rows say of a group is chance.
MIN_ROWS = 10
# Two-sided 95 % of a normal distribution.
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows with one value of a field, and what the model reaches on them.

    `low` and `high` bound the share of right answers at 95 % (Wilson 1927), for classes only.
    """

    field: str
    value: str
    rows: int
    metrics: dict[str, float]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Rates by name among the rows of one group: `answered` (share answered so), `found` (of those that are so),
    `wrongly` (of those that are not), `accuracy`; or `error`, the mean absolute one in units of the label's spread.
    A rate over too few rows is left out."""

    field: str
    value: str
    rows: int
    rates: dict[str, float]


@dataclass(frozen=True, slots=True)
class Fairness:
    """`gap` is the largest difference between two groups of one field by the criterion; None: too few rows to tell."""

    criterion: str
    gap: float | None
    groups: tuple[Group, ...] = field(default=())


def parts_of(column: pa.ChunkedArray) -> list[str]:
    """Which part each row of a field's column belongs to: its value, or for numbers the quarter it falls into."""
    if pa.types.is_floating(column.type) or (pa.types.is_integer(column.type) and pc.count_distinct(
            column).as_py() > MAX_SLICES):
        return _quarters(np.asarray(column.cast(pa.float64()).fill_null(float("nan")).to_numpy()))
    texts = [MISSING if one is None else str(one).lower() if isinstance(one, bool) else str(one)
             for one in column.to_pylist()]
    kept = {value for value, _ in sorted(Counter(texts).items(), key=lambda one: (-one[1], one[0]))[:MAX_SLICES]}
    return [text if text in kept else REST for text in texts]


def slices(name: str, column: pa.ChunkedArray, answered: Answered) -> list[Slice]:
    """The parts of a field with their metrics, the largest first."""
    parts = np.array(parts_of(column), dtype=object)
    found = []
    for value, rows in sorted(Counter(parts.tolist()).items(), key=lambda one: (-one[1], one[0])):
        some = answered.take(np.flatnonzero(parts == value))
        bounds = wilson(int((some.said == some.truth).sum()), rows) if answered.classes else (None, None)
        found.append(Slice(name, value, rows, some.metrics(), *bounds))
    return found


def wilson(right: int, rows: int) -> tuple[float, float]:
    """95 % bounds of a share."""
    share, square = right / rows, _Z ** 2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    reach = _Z * float(np.sqrt(share * (1 - share) / rows + square / (4 * rows ** 2))) / (1 + square / rows)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def fairness(columns: Sequence[tuple[str, pa.ChunkedArray]], answered: Answered, criterion: str,
             spread: float) -> Fairness:
    """Rates by group and the largest gap. `spread` is the unit of errors of numbers.

    With more than two classes each is judged against the rest, and the class with the widest gap counts.
    """
    groups, gaps = [], []
    for name, column in columns:
        parts = np.array(parts_of(column), dtype=object)
        of_field = [(str(value), np.flatnonzero(parts == value)) for value in sorted(set(parts.tolist()))]
        told = [Group(name, value, len(rows), _rates(answered.take(rows), _shown(answered), spread))
                for value, rows in of_field]
        groups += told
        for one in ([1] if len(answered.classes) == 2 else range(max(1, len(answered.classes)))):
            rates = [_rates(answered.take(rows), one, spread) for value, rows in of_field if value != MISSING]
            gaps += [_apart(rates, what) for what in _COMPARED[criterion if answered.classes else "error"]]
    known = [gap for gap in gaps if gap is not None]
    return Fairness(criterion, max(known) if known else None, tuple(groups))


_COMPARED = {"demographic_parity": ("answered",), "equal_opportunity": ("found",),
             "equalised_odds": ("found", "wrongly"), "accuracy": ("accuracy",), "error": ("error",)}


def _shown(answered: Answered) -> int:
    """The class whose rates are told: the second of two, else the last."""
    return max(0, len(answered.classes) - 1)


def _rates(answered: Answered, one: int, spread: float) -> dict[str, float]:
    if not answered.classes:
        errors = np.abs(answered.values - answered.truth) / spread
        return {"error": float(errors.mean())} if len(answered) >= MIN_ROWS else {}
    said, true = answered.said == one, answered.truth == one
    counted = {"answered": (said, np.ones(len(said), dtype=bool)), "found": (said, true), "wrongly": (said, ~true),
               "accuracy": (answered.said == answered.truth, np.ones(len(said), dtype=bool))}
    return {name: float(what[among].mean()) for name, (what, among) in counted.items() if among.sum() >= MIN_ROWS}


def _apart(rates: Sequence[dict[str, float]], name: str) -> float | None:
    told = [one[name] for one in rates if name in one]
    return max(told) - min(told) if len(told) > 1 else None


def _quarters(numbers: Array) -> list[str]:
    present = numbers[np.isfinite(numbers)]
    if not len(present):
        return [MISSING] * len(numbers)
    edges = np.unique(np.quantile(present, [0.25, 0.5, 0.75]))
    texts = [f"up to {edges[0]:.4g}", *(f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)),
             f"above {edges[-1]:.4g}"]
    places = np.searchsorted(edges, numbers, side="left")
    return [texts[place] if finite else MISSING for place, finite in zip(places, np.isfinite(numbers), strict=True)]
