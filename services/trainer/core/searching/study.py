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


AfterEpoch = Callable[[int, int, float], None]
"""Fold, epoch, and the least loss of that fold so far; may raise Pruned."""
Attempt = Callable[[Plan, AfterEpoch], tuple[float, float]]
"""A plan to the mean over the folds of the least loss on their rows, and its standard error (0 for a single fold).

Raises RunFailed where training diverges.
"""


class Pruned(Exception):
    """The trial is behind the others, or its time is over."""


@dataclass(frozen=True, slots=True)
class Trial:
    """`number` counts from 1; `drawn` are optuna's values; `course` is the first fold's least loss after each epoch."""

    number: int
    family: str
    drawn: dict[str, Any]
    parameters: dict[str, Any]
    state: State
    loss: float | None
    standard_error: float
    course: tuple[float, ...]
    seconds: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """All that a search must remember. `ended`: no trial follows, whatever time says when it is looked at again."""

    trials: tuple[Trial, ...] = ()
    ended: bool = False

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Kept":
        """Raises ValueError, KeyError or TypeError for bytes that are none of ours."""
        told = json.loads(data)
        return cls(tuple(Trial(**{**one, "course": tuple(one["course"])}) for one in told["trials"]), told["ended"])


def begin(space: Space, seed: int, epochs: int, ended: Sequence[Trial]) -> optuna.Trial:
    """The trial after `ended`: a function of its arguments alone, whatever processes the others ran in.

    Tree-structured Parzen estimator (Bergstra et al. 2011) and the median stopping rule (Golovin et al. 2017).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=TPESampler(seed=(seed + (1 + len(ended)) * _SEED_STEP) % 2**32, n_startup_trials=DRAWN_FIRST),
        pruner=MedianPruner(n_startup_trials=max(COMPARED_FROM, len(space.families)), n_warmup_steps=epochs // 5))
    for one in ended:
        study.add_trial(create_trial(
            state=_STATES[one.state], value=one.loss if one.state == "complete" else None, params=one.drawn,
            distributions=space.distributions(one.drawn),
            intermediate_values=dict(enumerate(one.course, start=1))))
    starts = space.starts()
    if len(ended) < len(starts):
        study.enqueue_trial(starts[len(ended)])
    return study.ask()
