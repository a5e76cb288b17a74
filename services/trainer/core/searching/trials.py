"""One trial: a short training of the run's own lesson, judged by rows it did not learn from."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from services.trainer.core import handlers, loop
from services.trainer.core.dataset import HELD_OUT, TRAIN, Target, roles, shares
from services.trainer.core.failure import RunFailed, bad_parameter
from services.trainer.core.lessons.choosing import lesson_of
from services.trainer.core.lessons.ready import along_of, begun, exactly, prepared, rows_of, usable_of
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.searching.study import AfterEpoch, Attempt

# With fewer rows a fifth says too little: each row is then judged once, by the trial that did not see it.
ROWS_FOR_ONE_FOLD, FOLDS = 2000, 5


@dataclass(frozen=True, slots=True)
class Fold:
    """Prepared rows to learn from and to be judged by, with what was frozen in the former."""

    preparation: Preparation
    target: Target
    training: loop.Rows
    judging: loop.Rows


def folds_of(plan: Plan, rows: pa.Table) -> list[Fold]:
    """The plan's training rows in folds, by a hash of what each row is owned by; held-out rows take no part.

    Raises RunFailed where nothing can be learnt from the rows at all.
    """
    lesson = lesson_of(plan)
    usable = usable_of(plan, rows)
    usable = usable.take(np.flatnonzero(roles(lesson.owners(usable.table), plan.gate.held_out) != HELD_OUT))
    parts = shares(lesson.owners(usable.table), FOLDS)
    found: list[Fold] = []
    unfit: RunFailed | None = None
    for number in range(1 if len(parts) >= ROWS_FOR_ONE_FOLD else FOLDS):
        try:
            split, preparation, target = prepared(lesson, usable, np.where(parts == number, HELD_OUT, TRAIN), None)
        except RunFailed as error:
            # Too few rows, or all of one class, by the chance of this fold.
            unfit = error
        else:
            training, judging = (rows_of(lesson, split, role, preparation, target) for role in (TRAIN, HELD_OUT))
            found.append(Fold(preparation, target, training, judging))
    if not found and unfit is not None:
        raise unfit
    return found


def attempts(plan: Plan, rows: pa.Table) -> Attempt:
    """What tries a plan on the folds of `rows`, which are prepared once for each way in which families read them.

    Raises RunFailed where nothing can be learnt from the rows at all.
    """
    exactly()
    folds = {along_of(plan): folds_of(plan, rows)}

    def attempt(plan: Plan, after_epoch: AfterEpoch) -> tuple[float, float]:
        losses = []
        if (along := along_of(plan)) not in folds:
            folds[along] = folds_of(plan, rows)
        for number, fold in enumerate(folds[along]):
            work, _ = begun(lesson_of(plan), fold.preparation, fold.target, (fold.training, fold.judging))
            judge = _Judge(partial(after_epoch, number))
            loop.run(work, [handlers.StopOnNaN(), handlers.EarlyStop(plan.parameters.patience), judge])
            losses.append(judge.least)
        error = statistics.stdev(losses) / math.sqrt(len(losses)) if len(losses) > 1 else 0.0
        return statistics.fmean(losses), error

    return attempt


class _Judge:
    """The least loss on the judging rows."""

    def __init__(self, after_epoch: Callable[[int, float], None]) -> None:
        self._after_epoch = after_epoch
        self.least = math.inf

    def epoch_done(self, loop: loop.Loop) -> None:
        if not math.isfinite(loop.validation_loss):
            raise bad_parameter(f"the loss is {loop.validation_loss} after epoch {loop.epoch}", "lower learning_rate",
                                "nan_loss")
        self.least = min(self.least, loop.validation_loss)
        self._after_epoch(loop.epoch, self.least)
