"""How a missing number follows from the row's other numbers: ridge regressions, frozen in the training rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Penalty on the weights of standardised numbers (Hoerl and Kennard 1970): next to nothing for many rows, and what keeps
# few rows, or numbers that say the same, from giving weights without bounds.
PENALTY = 1.0


@dataclass(frozen=True, slots=True)
class Imputer:
    """All in standardised units: the field is `offset` plus `weights` (one a number, 0 for the field itself) times the
    row's numbers, with their own constants in gaps, kept within what training rows had."""

    field: str
    weights: tuple[float, ...]
    offset: float
    low: float
    high: float


def fit(field: str, place: int, standard: Array, absent: Array) -> Imputer:
    """From rows [rows, numbers] that have the field; the mean stands in where there are none."""
    have = np.flatnonzero(~absent[:, place])
    if not len(have):
        return Imputer(field, (0.0,) * standard.shape[1], 0.0, 0.0, 0.0)
    wanted = standard[have, place]
    given = standard[have].copy()
    given[:, place] = 0.0
    middle, mean = given.mean(axis=0), float(wanted.mean())
    apart = given - middle
    weights = np.linalg.solve(apart.T @ apart + PENALTY * np.eye(given.shape[1]), apart.T @ (wanted - mean))
    weights[place] = 0.0
    return Imputer(field, tuple(weights.tolist()), mean - float(middle @ weights), float(wanted.min()),
                   float(wanted.max()))


def impute(imputers: Sequence[Imputer], names: Sequence[str], standard: Array, absent: Array) -> Array:
    """The numbers [rows, numbers] with the gaps of the imputers' fields filled; all are read before any is filled."""
    filled = standard.copy()
    for one in imputers:
        place = names.index(one.field)
        value = np.clip(standard @ np.array(one.weights) + one.offset, one.low, one.high)
        filled[:, place] = np.where(absent[:, place], value, standard[:, place])
    return filled
