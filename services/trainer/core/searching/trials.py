"""One trial: a short training of the run's own lesson, judged by rows it did not learn from."""

import math
import statistics
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from services.trainer.core import handlers, loop
from services.trainer.core.dataset import HELD_OUT, TRAIN, Target, roles
from services.trainer.core.failure import RunFailed, bad_parameter
from services.trainer.core.judging.folds import Part, by_chance
from services.trainer.core.lessons.choosing import lesson_of
from services.trainer.core.lessons.lesson import Lesson
from services.trainer.core.lessons.ready import Usable, along_of, begun, exactly, prepared, rows_of, usable_of
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.searching.offering import menu_of
from services.trainer.core.searching.search import Notes, find
from services.trainer.core.searching.study import AfterEpoch, Attempt, Judged

# With fewer rows a fifth says too little: each row is then judged once, by the trial that did not see it.
ROWS_FOR_ONE_FOLD, FOLDS = 2000, 5
# With fewer still it matters which rows are in a fold together: as many divisions by chance are averaged.
ROWS_FOR_ONE_DIVISION, DIVISIONS = 500, 3
# A family each with columns of its own, and one that is tried.
KEPT = 4
# Odd and large, so that divisions of neighbouring seeds do not meet.
_SEED_STEP = 15_485_863


@dataclass(frozen=True, slots=True)
class Fold:
    """Prepared rows to learn from and to be judged by, with what was frozen in the former."""

    preparation: Preparation
    target: Target
    training: loop.Rows
    judging: loop.Rows


def searched(plan: Plan, rows: pa.Table, notes: Notes) -> Plan:
    """The plan of what is to be learnt from `rows`, after the search it asks for, if it does. Raises RunFailed."""
    if plan.search is None:
        return plan
    return find(plan, lambda: attempts(plan, rows), notes, menu_of(plan, rows, _count_of(rows.num_rows)))


def _count_of(rows: int) -> int:
    """In how many folds so many rows are prepared."""
    return 1 if rows >= ROWS_FOR_ONE_FOLD else FOLDS * (DIVISIONS if rows < ROWS_FOR_ONE_DIVISION else 1)


def folds_of(plan: Plan, rows: pa.Table) -> list[Fold]:
    """The plan's training rows in stratified folds; held-out rows take no part.

    Raises RunFailed where nothing can be learnt from the rows at all.
    """
    lesson = lesson_of(plan)
    usable = usable_of(plan, rows)
    usable = usable.take(np.flatnonzero(roles(lesson.owners(usable.table), plan.gate.held_out) != HELD_OUT))
    found: list[Fold] = []
    unfit: RunFailed | None = None
    for part in _parts(lesson, usable):
        try:
            split, preparation, target = prepared(lesson, usable, np.where(part.held_out, HELD_OUT, TRAIN), None)
        except RunFailed as error:
            # Too few rows, or all of one class, by the chance of this fold.
            unfit = error
        else:
            training, judging = (rows_of(lesson, split, role, preparation, target) for role in (TRAIN, HELD_OUT))
            found.append(Fold(preparation, target, training, judging))
    if not found and unfit is not None:
        raise unfit
    return found


def _parts(lesson: Lesson, usable: Usable) -> list[Part]:
    everything = np.ones(usable.inputs.rows, dtype=bool)
    truth = lesson.truth(usable.table, usable.inputs, lesson.target(usable.table, everything))
    seed, rows = lesson.plan.parameters.seed, len(truth)
    count = _count_of(rows)
    divisions = max(1, count // FOLDS)
    parts = [part for division in range(divisions) for part in by_chance(truth, FOLDS, seed + division * _SEED_STEP)]
    return parts[:count]


def attempts(plan: Plan, rows: pa.Table) -> Attempt:
    """What tries a plan on the folds of `rows`, which are prepared once for each seed, each way families read them in
    and each choice of transforms; the last few of them are kept.

    Raises RunFailed where nothing can be learnt from the rows at all.
    """
    exactly()
    folds = _Folds(rows)
    folds.of(plan)

    def attempt(plan: Plan, after_epoch: AfterEpoch) -> Judged:
        losses = []
        patience = plan.parameters.patience
        ready = folds.of(plan)
        after_epoch(0, 0, math.inf)
        for number, fold in enumerate(ready):
            # It remembers the best of its fold, which is nothing to the next.
            early = [handlers.EarlyStop(patience)] if patience else []
            work, _ = begun(lesson_of(plan), fold.preparation, fold.target, (fold.training, fold.judging))
            judge = _Judge(partial(after_epoch, number), at_end=not early)
            loop.run(work, [handlers.StopOnNaN(), *early, judge])
            losses.append(judge.loss)
        # Another division of the same rows makes the mean steadier, and says nothing of other rows.
        error = statistics.stdev(losses) / math.sqrt(min(len(losses), FOLDS)) if len(losses) > 1 else 0.0
        return Judged(statistics.fmean(losses), error, len(losses))

    return attempt


class _Folds:
    """Of the same rows, by what their preparing depends on: those used last."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self._kept: dict[Hashable, list[Fold]] = {}

    def of(self, plan: Plan) -> list[Fold]:
        """Raises RunFailed where nothing can be learnt from the rows so."""
        divided = (along_of(plan), plan.parameters.seed, plan.transforms)
        found = self._kept.pop(divided, None)
        if found is None:
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            found = folds_of(plan, self._rows)
        self._kept[divided] = found
        return found


class _Judge:
    """The loss on the judging rows of the weights a run would end with: those after its last epoch, else the best."""

    def __init__(self, after_epoch: Callable[[int, float], None], at_end: bool) -> None:
        self._after_epoch = after_epoch
        self._at_end = at_end
        self.loss = math.inf

    def epoch_done(self, loop: loop.Loop) -> None:
        if not math.isfinite(loop.validation_loss):
            raise bad_parameter(f"the loss is {loop.validation_loss} after epoch {loop.epoch}", "lower learning_rate",
                                "nan_loss")
        self.loss = loop.validation_loss if self._at_end else min(self.loss, loop.validation_loss)
        self._after_epoch(loop.epoch, self.loss)
