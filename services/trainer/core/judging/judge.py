"""The judgement of one candidate beside its own metrics, all from what files answer on the same held-out rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.trainer.core.dataset import HELD_OUT, Target
from services.trainer.core.export.session import Session, align
from services.trainer.core.judging import comparison
from services.trainer.core.judging.answered import Answered, Array
from services.trainer.core.judging.calibration import Calibration, calibration
from services.trainer.core.judging.comparison import Comparison
from services.trainer.core.judging.folds import Folds
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.rows import Inputs

JUDGED = frozenset({"regression", "classification"})
"""Tasks whose answers can be told right or wrong, row by row."""
LAST_VALUE = "last_value_"


@dataclass(frozen=True, slots=True)
class Judged:
    """`answered` is None for a task whose answers have no single truth; so is then all but `last_value`."""

    answered: Answered | None = None
    calibration: Calibration | None = None
    comparison: Comparison | None = None
    folds: Folds | None = None
    last_value: dict[str, float] | None = None

    def metrics(self) -> dict[str, float]:
        """Figures for the manifest: `last_value_...`, `calibration_error`, `brier`, `champion_...`, `folds_...`."""
        found = dict(self.last_value or {})
        if self.calibration is not None:
            found |= {"calibration_error": self.calibration.error, "brier": self.calibration.brier}
        if (one := self.comparison) is not None:
            found |= {"champion_lead": one.lead, "champion_lead_low": one.low, "champion_lead_high": one.high,
                      "champion_chance": one.chance, "champion_paired_chance": one.paired_chance}
        if self.folds is not None:
            for name, (mean, error) in self.folds.summary().items():
                found |= {f"folds_{name}": mean, f"folds_{name}_error": error}
        return found


def judge(plan: Plan, target: Target, held: tuple[Inputs, Array], running: Session, champion: Session | None,
          folds: Folds | None, last_value: dict[str, float]) -> Judged:
    """`held` are the held-out rows and their encoded labels. The same arguments give the same figures."""
    if target.task not in JUDGED:
        return Judged()
    answered = answers_of(running, *held, target, target.classes)
    compared = None
    if champion is not None and plan.champion is not None:
        theirs = answers_of(champion, *held, target, plan.champion.classes)
        compared = comparison.compare(answered, theirs, plan.gate.metric, plan.gate.beat_champion_by)
    return Judged(answered, calibration(answered) if target.classes else None, compared, folds, last_value)


def answers_of(running: Session, inputs: Inputs, truth: Array, target: Target, classes: Sequence[str]) -> Answered:
    """What a version with these classes answers on the rows, in the target's terms."""
    answers = running.answers(inputs)
    if target.task == "regression":
        return Answered(np.asarray(answers["prediction"], dtype=np.float64), truth)
    return Answered(align(answers["probabilities"], classes, target.classes), truth, target.classes)


def last_value(task: str, truth: Array, roles: Array) -> dict[str, float]:
    """What repeating the label of the row before, in order of time, reaches on held-out rows.

    It is the naive forecast (Hyndman and Athanasopoulos, *Forecasting: Principles and Practice*, 5.2), and for classes
    the no-change classifier (Bifet et al. 2013). Empty where no held-out row has one before it.
    """
    rows = np.flatnonzero(roles == HELD_OUT)
    rows = rows[rows > 0]
    if task not in JUDGED or not len(rows):
        return {}
    before, now = truth[rows - 1], truth[rows]
    if task == "classification":
        return {f"{LAST_VALUE}accuracy": float((before == now).mean())}
    found = Answered(before.astype(np.float64), now).metrics()
    return {f"{LAST_VALUE}{name}": found[name] for name in ("mse", "rmse", "mae")}
