"""From a stream learner's state to a candidate: exported, checked against torch, judged on what it answered unseen."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from services.trainer.core import metrics
from services.trainer.core.dataset import Target
from services.trainer.core.export import session
from services.trainer.core.export.graph import Exported, export
from services.trainer.core.failure import bad_data, bad_parameter
from services.trainer.core.judging.answered import Answered
from services.trainer.core.judging.judge import Case, Held, Judged, judge
from services.trainer.core.judging.report import About, report
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import ARROW_TYPES, LISTS, Inputs
from services.trainer.core.streaming.course import Course
from services.trainer.core.streaming.crowd import Crowd
from services.trainer.core.streaming.learner import StreamLearner, under
from services.trainer.core.streaming.record import Record
from services.trainer.core.streaming.trial import Trial
from services.trainer.core.weights import pack, unpack

Array = npt.NDArray[Any]

PREQUENTIAL = "prequential_"
"""Before the names of figures over the whole stream, in the manifest."""


@dataclass(frozen=True, slots=True)
class Graduated:
    """A candidate, as `core/learning.py::Learned` is one."""

    exported: Exported
    weights: bytes
    preparation: Preparation
    target: Target
    about: About
    report: dict[str, Any]
    """What its card tells, as plain data."""


def graduate(plan: Plan, state: bytes, champion: bytes | None) -> Graduated:
    """The candidate that the state is; its weights are the state without the rows that wait. Raises RunFailed.

    Its metrics are of the trial's rows by the answers that were given before their labels were seen, each by what the
    learner knew then; the champion's file answers the same rows. What the fields do is asked of the file, which has
    learnt from these rows by now. The same state gives the same bytes.
    """
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")
    arrays, about = unpack(state)
    learner = _learner(plan, arrays, about)
    trial, record = Trial(), Record(plan.task)
    trial.load(under(arrays, "trial"))
    record.load(under(arrays, "record"))
    classes = tuple(about["classes"])
    if plan.task == "classification" and len(classes) < 2:
        raise bad_data("all rows of the stream have the same label", "wait for labels of at least two classes",
                       "one_class")
    if learner.preparation is None or not trial.rows:
        raise bad_data("no row of the stream has met its label", "send labels for its events", "no_rows")
    target = Target(plan.task, plan.label_type or "", classes, learner.standard.label_center,
                    learner.standard.label_scale)
    network = Crowd(learner, plan.task == "classification")
    exported = export(learner.preparation, network, target)
    running = session.Session(exported.data)
    _check_parity(plan, running, learner, network, target, trial.inputs)
    theirs = _champion_scores(plan, champion, trial, target)
    judged = _judged(plan, target, running, trial, theirs)
    said = About(
        {**measured(plan.task, trial.scores, trial.truth, target), **judged.metrics,
         **{PREQUENTIAL + name: value for name, value in record.figures().items()}},
        None if theirs is None else measured(plan.task, theirs, trial.truth, target), _untold(plan), {}, learner.seen,
        trial.rows, epochs=0)
    return Graduated(exported, _weights(arrays, about), learner.preparation, target, said, report(
        plan, target, said, judged.figures | {"stream": {
            "figures": record.figures(), "course": record.course(), "times_anew": learner.times_anew}}))


def _weights(arrays: dict[str, Array], about: dict[str, Any]) -> bytes:
    kept = {name: some for name, some in arrays.items() if name.split("/")[0] in ("learner", "record")}
    return pack(kept, {"learner": about["learner"], "classes": about["classes"]})


def measured(task: str, scores: Array, truth: Array, target: Target) -> dict[str, float]:
    """Figures as every run's are named."""
    if task == "regression":
        numbers = metrics.Regression()
        numbers.update(scores[:, 0], truth)
        return numbers.compute()
    measure = metrics.Classification(len(target.classes))
    width = len(target.classes) - scores.shape[1]
    measure.update(np.pad(scores, ((0, 0), (0, width))), truth.astype(np.int64))
    return measure.compute()


def _learner(plan: Plan, arrays: dict[str, Array], about: dict[str, Any]) -> StreamLearner:
    stream = plan.stream
    if stream is None:
        raise bad_parameter("this plan is of no stream", "train instead")
    learner = StreamLearner(Course(plan.fields, plan.outliers, plan.task, 1, plan.parameters.seed, stream.width,
                                   stream.replay_rows))
    learner.load(under(arrays, "learner"), about["learner"])
    return learner


def _judged(plan: Plan, target: Target, running: session.Session, trial: Trial, theirs: Array | None) -> Judged:
    """By the answers given unseen, and how they lead those of the champion's file on the same rows."""
    said, other = (None if scores is None else _answered(scores, trial.truth, target)
                   for scores in (trial.scores, theirs))
    truth = trial.truth if target.task == "regression" else trial.truth.astype(np.int64)
    return judge(Case(plan, target, running, Held(trial.inputs, _table(plan, trial.inputs), truth), said=said,
                      theirs=other))


def _table(plan: Plan, inputs: Inputs) -> pa.Table:
    """The rows as they are stored, as far as a value tells them apart."""
    return pa.table({field.name: pa.array(inputs.values[field.name], ARROW_TYPES[field.type],
                                          mask=inputs.missing[:, place])
                     for place, field in enumerate(plan.fields) if field.type not in LISTS})


def _untold(plan: Plan) -> tuple[str, ...]:
    wanted = plan.evaluate
    fields = dict.fromkeys((*wanted.slices, *(wanted.fairness.groups if wanted.fairness else ())))
    gone = [name for name in fields if name not in {one.name for one in plan.fields}]
    return (f"it is not told apart by {', '.join(gone)}: of its rows a stream keeps the model's inputs alone",
            ) if gone else ()


def _answered(scores: Array, truth: Array, target: Target) -> Answered:
    if target.task == "regression":
        return Answered(scores[:, 0].astype(np.float64), truth.astype(np.float64))
    width = len(target.classes) - scores.shape[1]
    return Answered(np.pad(scores, ((0, 0), (0, width))), truth.astype(np.int64), target.classes)


def _champion_scores(plan: Plan, champion: bytes | None, trial: Trial, target: Target) -> Array | None:
    if champion is None or plan.champion is None:
        return None
    answers = session.Session(champion).answers(trial.inputs)
    if plan.task == "regression":
        return np.asarray(answers["prediction"]).reshape(-1, 1)
    return session.align(answers["probabilities"], plan.champion.classes or target.classes, target.classes)


def _check_parity(plan: Plan, running: session.Session, learner: StreamLearner, network: Crowd, target: Target,
                  held: Inputs) -> None:
    assert learner.preparation is not None
    strange = session.adversarial(learner.preparation)
    for what, rows in {"held-out rows": held, "adversarial rows": strange,
                       "a single row": strange.take(np.array([0]))}.items():
        with torch.no_grad():
            scores = network(torch.from_numpy(learner.preparation.transform(rows))).numpy()
        session.check_parity(running.answers(rows), scores, target, what)
