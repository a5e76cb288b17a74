"""What was tried so far, as plain data, and what it means to try a plan."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from services.trainer.core.plan import Plan
from services.trainer.core.searching.menu import Names

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of a trial: the mean of its folds' losses, the error of that (0 of a single fold), and how many."""

    loss: float
    standard_error: float = 0.0
    folds: int = 1


AfterEpoch = Callable[[int, int, float], None]
"""Fold, epoch, and what that fold's loss would be if it ended here; may raise Pruned.

Epoch 0 of the first fold: the rows are ready, and nothing is learnt yet.
"""
Attempt = Callable[[Plan, AfterEpoch], Judged]
"""Tries a plan. Raises RunFailed where training diverges."""


class Pruned(Exception):
    """The trial is behind the others, or its time is over."""


@dataclass(frozen=True, slots=True)
class Trial:
    """`number` counts from 1; `drawn` are optuna's values; `course` is the first fold's loss after each epoch.

    `columns` are the menu's entries that it learnt with; `preparing_s` of its seconds went before it learnt.
    """

    number: int
    family: str
    drawn: dict[str, Any]
    parameters: dict[str, Any]
    state: State
    loss: float | None
    standard_error: float
    course: tuple[float, ...] = ()
    seconds: float = 0.0
    why: str = ""
    folds: int = 1
    columns: Names = ()
    preparing_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """All that a search must remember. `ended`: no trial follows, whatever time says when it is looked at again.

    `finals`: what came of the best of each family when tried again, under the numbers of those.
    """

    trials: tuple[Trial, ...] = ()
    ended: bool = False
    finals: tuple[Trial, ...] = ()

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Kept":
        """Raises ValueError, KeyError or TypeError for bytes that are none of ours."""
        told = json.loads(data)
        trials, finals = (tuple(Trial(**{**one, "course": tuple(one["course"]),
                                         "columns": tuple(one.get("columns", ()))}) for one in told.get(name, ()))
                          for name in ("trials", "finals"))
        return cls(trials, told["ended"], finals)
