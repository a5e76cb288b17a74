"""The judgement of one candidate beside its own metrics, all from what files answer on the same held-out rows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from services.trainer.core.dataset import HELD_OUT, Target
from services.trainer.core.export.session import Session, align
from services.trainer.core.judging import comparison, curves, importance, slices
from services.trainer.core.judging.answered import Answered, Array
from services.trainer.core.judging.calibration import calibration
from services.trainer.core.judging.folds import Folds
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.rows import Inputs

JUDGED = frozenset({"regression", "classification"})
"""Tasks whose answers can be told right or wrong, row by row."""
LAST_VALUE = "last_value_"
# Classes drawn as curves, and points drawn of numbers.
MAX_CURVES, MAX_DRAWN = 8, 400


@dataclass(frozen=True, slots=True)
class Held:
    """Held-out rows as the model takes them, as they are stored, and their encoded labels."""

    inputs: Inputs
    table: pa.Table
    truth: Array


@dataclass(frozen=True, slots=True)
class Case:
    """What there is to judge by: the file to serve, the champion's where it is comparable, folds where they ran."""

    plan: Plan
    target: Target
    running: Session
    held: Held
    champion: Session | None = None
    folds: Folds | None = None
    last_value: dict[str, float] = field(default_factory=dict)
    explained: int = 0
    """So many rows have what each field did averaged; 0 where the file does not say it."""
    said: Answered | None = None
    """What was answered to the held-out rows before their labels were seen; None: the file has never seen them."""
    theirs: Answered | None = None
    """What the champion answers to them, where that is known already."""


@dataclass(frozen=True, slots=True)
class Judged:
    """`metrics` go into the manifest beside the model's own; `figures` are plain data for the card."""

    metrics: dict[str, float]
    figures: dict[str, Any]


def judge(case: Case) -> Judged:
    """The same case gives the same figures; none for a task whose answers have no single truth."""
    if case.target.task not in JUDGED:
        return Judged({}, {})
    plan, held = case.plan, case.held
    answered = case.said if case.said is not None else answers_of(
        case.running, held.inputs, held.truth, case.target, case.target.classes)
    metrics = dict(case.last_value)
    figures = _quality(answered) | _parts(plan, answered, held, case.target) | _importance(case)
    if answered.classes:
        found = calibration(answered)
        metrics |= {"calibration_error": found.error, "brier": found.brier}
        figures["calibration"] = asdict(found)
    theirs = case.theirs
    if case.champion is not None and plan.champion is not None:
        theirs = answers_of(case.champion, held.inputs, held.truth, case.target, plan.champion.classes)
    if theirs is not None and (one := comparison.compare(answered, theirs, plan.gate.metric,
                                                         plan.gate.beat_champion_by)):
        metrics |= one.metrics()
        figures["comparison"] = asdict(one)
    if case.folds is not None:
        for name, (mean, error) in case.folds.summary().items():
            metrics |= {f"folds_{name}": mean, f"folds_{name}_error": error}
        figures["folds"] = {**asdict(case.folds), "summary": case.folds.summary()}
    if (gap := figures.get("fairness", {}).get("gap")) is not None:
        metrics["fairness_gap"] = gap
    return Judged(metrics, figures)


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


def _quality(answered: Answered) -> dict[str, Any]:
    if not answered.classes:
        drawn = np.unique(np.linspace(0, len(answered) - 1, min(len(answered), MAX_DRAWN)).astype(np.int64))
        apart = np.abs(answered.values - answered.truth)
        return {"answers": {"true": answered.truth[drawn].tolist(), "said": answered.values[drawn].tolist()},
                "errors": {f"q{place}": float(np.quantile(apart, place / 100)) for place in (50, 90, 99)}}
    shown = curves.by_class(answered, MAX_CURVES)
    return {"confusion": curves.confusion(answered).tolist(),
            "roc": [asdict(one) for name, scores, true in shown if (one := curves.roc(scores, true, name))],
            "precision_recall": [asdict(one) for name, scores, true in shown
                                 if (one := curves.precision_recall(scores, true, name))]}


def _parts(plan: Plan, answered: Answered, held: Held, target: Target) -> dict[str, Any]:
    """By slice and between groups; a field that a frozen snapshot does not have is left out."""
    wanted, found = plan.evaluate, dict[str, Any]()
    present = held.table.column_names
    if told := [one for name in wanted.slices if name in present
                for one in slices.slices(name, held.table.column(name), answered)]:
        found["slices"] = [asdict(one) for one in told]
    if wanted.fairness is not None:
        columns = [(name, held.table.column(name)) for name in wanted.fairness.groups if name in present]
        judged = slices.fairness(columns, answered, wanted.fairness.criterion, target.std)
        found["fairness"] = {**asdict(judged), "at_most": wanted.fairness.at_most}
    return found


def _importance(case: Case) -> dict[str, Any]:
    fields = list(case.held.inputs.values)
    drops = importance.permuted(fields, case.held.inputs, lambda some, rows: answers_of(
        case.running, some, case.held.truth[rows], case.target, case.target.classes), case.plan.gate.metric)
    moves: dict[str, float] = {}
    if case.explained:
        some = case.held.inputs.take(np.arange(min(case.held.inputs.rows, case.explained)))
        did = case.running.attributions(some)
        moves = dict(zip(fields, np.abs(did).mean(axis=0).tolist(), strict=True))
    if not drops and not moves:
        return {}
    return {"importance": [asdict(one) for one in importance.ranked(fields, drops, moves)]}
