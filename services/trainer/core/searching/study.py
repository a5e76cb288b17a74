"""What was tried so far, as plain data, and what optuna makes of it: the next trial, and whether one falls behind."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from services.trainer.core.plan import Plan
from services.trainer.core.searching.space import Space

State = Literal["complete", "pruned", "failed"]
_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
# Odd and large, so that the seeds of neighbouring studies and trials do not meet.
_SEED_STEP = 7_368_787
# Trials drawn by chance before the sampler learns from them, and trials that end before one is compared with them.
DRAWN_FIRST, COMPARED_FROM = 8, 4


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of a trial: the mean of its folds' losses, the error of that (0 of a single fold), and how many."""

    loss: float
    standard_error: float = 0.0
    folds: int = 1


AfterEpoch = Callable[[int, int, float], None]
"""Fold, epoch, and what that fold's loss would be if it ended here; may raise Pruned."""
Attempt = Callable[[Plan, AfterEpoch], Judged]
"""Tries a plan. Raises RunFailed where training diverges."""


class Pruned(Exception):
    """The trial is behind the others, or its time is over."""


@dataclass(frozen=True, slots=True)
class Trial:
    """`number` counts from 1; `drawn` are optuna's values; `course` is the first fold's loss after each epoch."""

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
        trials, finals = (tuple(Trial(**{**one, "course": tuple(one["course"])}) for one in told.get(name, ()))
                          for name in ("trials", "finals"))
        return cls(trials, told["ended"], finals)


def begin(space: Space, seed: int, epochs: int, ended: Sequence[Trial]) -> optuna.Trial:
    """The trial after `ended`: a function of its arguments alone, whatever processes the others ran in.

    Tree-structured Parzen estimator (Bergstra et al. 2011) and the median stopping rule (Golovin et al. 2017).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    starts = space.starts()
    study = optuna.create_study(
        sampler=TPESampler(seed=(seed + (1 + len(ended)) * _SEED_STEP) % 2**32, n_startup_trials=DRAWN_FIRST),
        # What is known to do well may begin slowly, and is there to be compared with.
        pruner=MedianPruner(n_startup_trials=max(COMPARED_FROM, len(starts)), n_warmup_steps=epochs // 5))
    for one in ended:
        study.add_trial(create_trial(
            state=_STATES[one.state], value=one.loss if one.state == "complete" else None, params=one.drawn,
            distributions=space.distributions(one.drawn),
            intermediate_values=dict(enumerate(one.course, start=1))))
    if len(ended) < len(starts):
        study.enqueue_trial(starts[len(ended)])
    return study.ask()
