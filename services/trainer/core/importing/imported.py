"""An import as one function: the Pipeline's rows and a foreign file in, a candidate with its figures out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from services.trainer.core.dataset import HELD_OUT, TRAIN, VALIDATION, Target, roles
from services.trainer.core.export import session
from services.trainer.core.export.graph import Exported
from services.trainer.core.importing.fitted import fitted
from services.trainer.core.importing.opened import opened, unfit
from services.trainer.core.judging.judge import JUDGED, Case, judge
from services.trainer.core.judging.report import About, report
from services.trainer.core.lessons.choosing import lesson_of
from services.trainer.core.lessons.ready import champion_metrics, held_of, prepared, usable_of
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs

_SUM = 1e-3
"""How far probabilities of a row may be from 1 in sum: what 32 bits lose over a thousand classes."""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A candidate that learnt nothing here; see `Learned` for what its parts are."""

    exported: Exported
    preparation: Preparation
    target: Target
    about: About
    report: dict[str, Any]


def take_in(plan: Plan, rows: pa.Table, rival: bytes | None, file: bytes) -> TakenIn:
    """Raises RunFailed with the reason. Nothing is learnt but how missing values are filled."""
    if plan.imported is None or plan.task not in JUDGED:
        raise unfit(f"a model for {plan.task} cannot be imported", "import a regression or a classification")
    # Transforms are for what learns here; of a field only what stands where it is missing is needed.
    lesson = lesson_of(plan.model_copy(update={"transforms": ()}))
    usable = usable_of(plan, rows)
    split, preparation, target = prepared(lesson, usable, roles(lesson.owners(usable.table), plan.gate.held_out), None)
    held = held_of(split)
    exported = fitted(opened(file), preparation, target, plan.imported.classes or target.classes)
    running = _running(exported.data, held.inputs, preparation, target)
    champion = session.Session(rival) if rival is not None and plan.champion is not None else None
    judged = judge(Case(plan, target, running, held, champion))
    plainest = lesson.baseline(split.part(TRAIN, VALIDATION), (held.inputs, held.truth), preparation, target)
    metrics = {**lesson.measure(running, held.inputs, held.truth, target), **plainest, **judged.metrics}
    about = About(metrics, champion_metrics(lesson, champion, held.inputs, held.truth, target),
                  ("it was trained elsewhere: whether it has seen the rows it is measured on is not known here",), {},
                  int((split.roles != HELD_OUT).sum()), len(held.truth), 0)
    return TakenIn(exported, preparation, target, about, report(plan, target, about, judged.figures))


def _running(data: bytes, held: Inputs, preparation: Preparation, target: Target) -> session.Session:
    """The file as it runs, once it answers real and strange rows as the platform promises."""
    try:
        running = session.Session(data)
        found = [running.answers(one) for one in (held, held.take(np.array([0])), session.adversarial(preparation))]
    except Exception as error:  # onnxruntime's own errors share no other base
        raise unfit(f"the model does not run: {str(error).splitlines()[0][-300:]}",
                    "export it for any number of rows, with operators that onnxruntime has") from error
    for answered in found:
        values = answered["prediction" if target.task == "regression" else "probabilities"].astype(np.float64)
        if not np.isfinite(values).all():
            raise unfit("the model answers numbers that are not finite", "correct it, or export it in 32 bits")
        if target.task != "regression" and ((values < -_SUM).any() or (np.abs(values.sum(axis=1) - 1) > _SUM).any()):
            raise unfit("the model answers scores, not probabilities", "let it end with a softmax")
    return running
