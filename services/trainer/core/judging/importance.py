"""What a model looks at, over all rows: how much worse it gets without a field, and how far fields move its answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.contracts.pipeline_blocks import LOWER_IS_BETTER
from services.trainer.core.judging.answered import Answered
from services.trainer.core.preparing.rows import Inputs

Array = npt.NDArray[Any]

REPEATS = 3
MIN_ROWS, MAX_ROWS = 50, 500
# Rows asked of the model in all: bounds the time, whatever the number of fields.
_ASKED_ROWS = 150_000
MAX_FIELDS = 200
_SEED = 20_260_102


@dataclass(frozen=True, slots=True)
class Importance:
    """`drop` is how much worse the metric gets when the field's values are shuffled over the rows (Breiman 2001;
    Fisher, Rudin and Dominici 2019), mean and spread of the repeats; `moves` the mean absolute attribution, None where
    rows are not attributed."""

    field: str
    drop: float | None
    spread: float | None
    moves: float | None


def permuted(fields: Sequence[str], held: Inputs, ask: Callable[[Inputs, Array], Answered],
             metric: str) -> dict[str, tuple[float, float]]:
    """Drop and spread by field; empty for more fields than can be asked about. `ask` answers rows; the second argument
    are their numbers in `held`."""
    if not fields or len(fields) > MAX_FIELDS:
        return {}
    chance = np.random.default_rng(_SEED)
    wanted = int(np.clip(_ASKED_ROWS // (REPEATS * len(fields)), MIN_ROWS, MAX_ROWS))
    rows = np.sort(chance.permutation(held.rows)[:wanted])
    some = held.take(rows)
    whole = ask(some, rows).metrics().get(metric)
    if whole is None:
        return {}
    found = {}
    for place, name in enumerate(fields):
        drops = []
        for _ in range(REPEATS):
            order = chance.permutation(len(rows))
            missing = some.missing.copy()
            missing[:, place] = missing[order, place]
            shuffled = Inputs({**some.values, name: some.values[name][order]}, missing)
            value = ask(shuffled, rows).metrics().get(metric, whole)
            drops.append(value - whole if metric in LOWER_IS_BETTER else whole - value)
        found[name] = (round(float(np.mean(drops)), 9), round(float(np.std(drops)), 9))
    return found


def ranked(fields: Sequence[str], drops: dict[str, tuple[float, float]],
           moves: dict[str, float]) -> list[Importance]:
    """The most important first: by drop where it is known, else by how far they move answers."""
    found = []
    for name in fields:
        drop, spread = drops.get(name, (None, None))
        found.append(Importance(name, drop, spread, moves.get(name)))
    return sorted(found, key=lambda one: (-(one.drop if one.drop is not None else 0.0), -(one.moves or 0.0), one.field))
