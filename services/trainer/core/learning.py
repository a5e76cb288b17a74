"""A whole run as one function: rows in, a checked model with its figures out. The worker adds only files around it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from google.protobuf import json_format

from lepton.contracts.pb.models_pb2 import (
    Lineage,
    ModelManifest,
    Search,
    Shrinking,
    SnapshotRange,
    TensorSpec,
)
from services.trainer.core import handlers, loop
from services.trainer.core.continuing.parent import Parent, transforms_of
from services.trainer.core.dataset import (
    HELD_OUT,
    TRAIN,
    VALIDATION,
    Target,
    roles,
)
from services.trainer.core.explaining.checking import check, explained
from services.trainer.core.export import session
from services.trainer.core.export.graph import Exported, export
from services.trainer.core.failure import RunFailed
from services.trainer.core.judging.folds import Folds, parts_of, roles_of
from services.trainer.core.judging.history import History
from services.trainer.core.judging.judge import JUDGED, Case, judge, last_value
from services.trainer.core.judging.report import About, report
from services.trainer.core.lessons.choosing import lesson_of
from services.trainer.core.lessons.lesson import Lesson
from services.trainer.core.lessons.ready import (
    Split,
    Usable,
    begun,
    champion_metrics,
    exactly,
    held_of,
    prepared,
    rows_of,
    usable_of,
)
from services.trainer.core.networks.network import Network
from services.trainer.core.plan import MODEL_TASKS, Plan
from services.trainer.core.preparing.preparation import Preparation, constant_fields
from services.trainer.core.preparing.rows import Inputs
from services.trainer.core.sharing.crew import ALONE, Crew
from services.trainer.core.shrinking.shipping import Shipped, Trial, ship
from services.trainer.core.weights import pack

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Given:
    """What lies beside the plan: the rows, and files of the versions it names."""

    rows: pa.Table
    parent: bytes | None = None
    champion: bytes | None = None
    checkpoint: bytes | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    """A candidate. `metrics` are of held-out rows as the file to serve answers them, `champion_metrics` likewise."""

    exported: Exported
    """The file to serve."""
    weights: bytes
    preparation: Preparation
    target: Target
    metrics: dict[str, float]
    champion_metrics: dict[str, float] | None
    warnings: tuple[str, ...]
    train_rows: int
    held_out_rows: int
    epochs: int
    shrinking: Shrinking | None = None
    """What that file was made smaller by, and what it cost; None where nothing was asked."""
    carried: tuple[str, ...] = ()
    """Weights taken over from the parent, each with how much of it where that is not all."""
    report: dict[str, Any] = field(default_factory=dict)
    """What its card tells, as plain data."""


def manifest(plan: Plan, learned: Learned, code_version: str) -> ModelManifest:
    """What the registry is to say of the candidate; version and time are given when it is published."""
    lineage = Lineage(
        run_id=plan.run_id, command_id=plan.command_id, pipeline=plan.data_pipeline, spec_version=plan.spec_version,
        spec_digest=plan.spec_digest, parent_version=plan.parent.version if plan.parent and learned.carried else 0,
        snapshot_digest=plan.snapshot.digest(), train_rows=learned.train_rows, held_out_rows=learned.held_out_rows,
        parent_model=plan.parent.model if plan.parent and learned.carried else "", carried=learned.carried,
        code_version=code_version, seed=plan.parameters.seed,
        weights_sha256=sha256(learned.weights).hexdigest() if learned.weights else "",
        ranges=[SnapshotRange(stream=one.stream, pipeline=one.pipeline, generation=one.generation,
                              partition=one.partition,
                              first_offset=one.first, next_offset=one.next) for one in plan.snapshot.ranges])
    images = {one.name: one.image for one in plan.fields}
    inputs = [TensorSpec(name=one.name, datatype=one.datatype, shape=one.shape, optional=one.optional,
                         padded=one.padded, image=images.get(one.name, ())) for one in learned.exported.inputs]
    return ModelManifest(
        model=plan.model, sha256=sha256(learned.exported.data).hexdigest(), size_bytes=len(learned.exported.data),
        family="imported" if plan.imported else plan.family if plan.stream is None else "stream",
        task=MODEL_TASKS[plan.task],
        inputs=inputs, outputs=learned.exported.outputs, classes=learned.target.named_classes,
        input_schema_digest=plan.input_schema_digest, metrics=learned.metrics,
        champion_metrics=learned.champion_metrics or {}, lineage=lineage, statistics=learned.preparation.statistics,
        origin=plan.imported.origin if plan.imported else "",
        operators=learned.exported.operators, shrinking=learned.shrinking,
        search=json_format.Parse(plan.found, Search()) if plan.found else None)


@dataclass(frozen=True, slots=True)
class _Taught:
    """A network that has learnt for so many epochs, what its answers mean, and what it had from its parent."""

    network: Network
    target: Target
    epochs: int
    carried: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A run before its network: its rows in their roles, and what is frozen in them or was by its parent."""

    lesson: Lesson
    usable: Usable
    split: Split
    preparation: Preparation
    target: Target
    parent: Parent | None
    anew: tuple[str, ...] = ()


def attend(plan: Plan, given: Given, crew: Crew) -> None:
    """Take part in a run as one of several processes; what comes of it is the first one's to say.

    Raises RunFailed or PeerLost.
    """
    run = _begin(plan, given)
    _taught(run.lesson, run.split, run.preparation, run.target, [], (run.parent, given.checkpoint), crew)


def learn(plan: Plan, given: Given, attached: list[object], crew: Crew = ALONE) -> Learned:
    """Raises RunFailed with the reason. `attached` are handlers besides early stop and stop on NaN.

    The same plan and rows give the same bytes, with a checkpoint or without, by one process or by several. PeerLost
    when another process of `crew` is gone; this one is the crew's first.
    """
    run = _begin(plan, given)
    lesson, usable, split, preparation, parent = run.lesson, run.usable, run.split, run.preparation, run.parent
    history = History()
    taught = _taught(lesson, split, preparation, run.target, [history, *attached], (parent, given.checkpoint), crew)
    network, target, held = taught.network, taught.target, held_of(split)
    why = explained(plan, network, preparation, target, split.part(TRAIN)[0])
    shipped = _shipped(lesson, export(preparation, network, target, why.how if why else None), network, split,
                       preparation, target)
    running = session.Session(shipped.exported.data)
    told = check(running, why, held.inputs, session.adversarial(preparation)) if why else {}
    champion = session.Session(given.champion) if given.champion is not None and plan.champion is not None else None
    folds, untold = _folds(lesson, usable, attached)
    judged = judge(Case(plan, target, running, held, champion, folds,
                        last_value(target.task, split.truth, split.roles), why.rows if why else 0))
    metrics = {**shipped.metrics, **lesson.baseline(split.part(TRAIN, VALIDATION), (held.inputs, held.truth),
                                                    preparation, target), **judged.metrics}
    about = About(metrics, champion_metrics(lesson, champion, held.inputs, held.truth, target),
                  (*run.anew, *_warnings(preparation, shipped.shrinking), *_unbounded(plan, target),
                   *_unexplained(plan, why is not None), *untold),
                  history.losses,
                  int((split.roles != HELD_OUT).sum()), len(held.truth), taught.epochs)
    return Learned(
        shipped.exported, pack(network.arrays(), {
            "preparation": preparation.to_data(), "target": target.to_data(), "transforms": transforms_of(plan)}),
        preparation, target, metrics, about.champion_metrics, about.warnings, about.train_rows, about.held_out_rows,
        taught.epochs, shipped.shrinking, taught.carried, report(plan, target, about, judged.figures | told))


def _begin(plan: Plan, given: Given) -> _Begun:
    exactly()
    parent = Parent.of(plan, given.parent) if given.parent is not None else None
    anew: tuple[str, ...] = ()
    if parent and not parent.shaped_alike:
        anew, parent = (f"{parent.name} has other columns: learning began with nothing",), None
    lesson = lesson_of(plan)
    usable = usable_of(plan, given.rows)
    role = roles(lesson.owners(usable.table), plan.gate.held_out, plan.validated)
    split, preparation, target = prepared(lesson, usable, role, parent)
    return _Begun(lesson, usable, split, preparation, target, parent, anew)


def _taught(lesson: Lesson, split: Split, preparation: Preparation, target: Target, attached: Sequence[object],
            from_: tuple[Parent | None, bytes | None] = (None, None), crew: Crew = ALONE) -> _Taught:
    """`from_` are a parent and a checkpoint, where there are."""
    parameters, (parent, checkpoint) = lesson.plan.parameters, from_
    learnt, judging = (rows_of(lesson, split, role, preparation, target) for role in (TRAIN, VALIDATION))
    work, carried = begun(lesson, preparation, target, (learnt, judging), parent, split.head)
    network = work.network
    adapters = parent.adapters(network, split.head == "parent") if parent else None
    early = [handlers.EarlyStop(parameters.patience)] if lesson.stops_early and parameters.patience else []
    watchers = [handlers.StopOnNaN(), *early, *attached]
    ended = loop.run(work, watchers, crew) if checkpoint is None else loop.resume(work, checkpoint, watchers, crew)
    if adapters:
        adapters.merge(work.training.inputs)
    calibrated = lesson.calibrated(target, network, work.training.inputs)
    return _Taught(network, lesson.bounded(calibrated, network, (judging.inputs, judging.truth)), ended.epoch, carried)


def _folds(lesson: Lesson, usable: Usable, attached: Sequence[object]) -> tuple[Folds | None, list[str]]:
    """The plan learnt anew part by part, from nothing even where the run goes on from a parent, which knows the rows.

    A part that cannot be learnt is told of, and keeps nothing from being published.
    """
    wanted, plan = lesson.plan.evaluate, lesson.plan
    if wanted.folds is None or plan.task not in JUDGED:
        return None, []
    found: list[dict[str, float]] = []
    warnings: list[str] = []
    try:
        target = lesson.target(usable.table, np.ones(usable.inputs.rows, dtype=bool))
        truth = lesson.truth(usable.table, usable.inputs, target)
        parts = parts_of(wanted.by, truth, wanted.folds, plan.parameters.seed)
    except RunFailed as failure:
        return None, [f"it was not learnt anew in folds: {failure.message}"]
    learners = roles(lesson.owners(usable.table), 0.0, plan.validated)
    limits = [one for one in attached if isinstance(one, handlers.TimeLimit)]
    for number, part in enumerate(parts, 1):
        try:
            found.append(_fold(lesson, usable.take(part.rows), roles_of(part, learners), limits))
        except RunFailed as failure:
            if failure.failure_class != "data":
                raise
            warnings.append(f"fold {number} of {wanted.folds} could not be learnt: {failure.message}")
    return Folds(wanted.by, tuple(found)) if len(found) > 1 else None, warnings


def _fold(lesson: Lesson, usable: Usable, role: Array, limits: Sequence[object]) -> dict[str, float]:
    split, preparation, target = prepared(lesson, usable, role, None)
    taught = _taught(lesson, split, preparation, target, limits)
    exported = export(preparation, taught.network, taught.target)
    return _shipped(lesson, exported, taught.network, split, preparation, taught.target).metrics


def _shipped(lesson: Lesson, full: Exported, network: Network, split: Split, preparation: Preparation,
             target: Target) -> Shipped:
    """The file to serve with its figures: the exported one once it answers as torch does, or a smaller one of it."""
    plan, (held, truth) = lesson.plan, split.part(HELD_OUT)
    running = session.Session(full.data)
    strange = session.adversarial(preparation)
    _check_parity(running, network, preparation, target, held, strange)

    def measure(of: session.Session) -> dict[str, float]:
        return lesson.measure(of, held, truth, target)

    return ship(full, measure(running), plan.export,
                Trial(split.part(TRAIN)[0], strange, measure, plan.gate.metric))


def _check_parity(running: session.Session, network: Network, preparation: Preparation, target: Target, held: Inputs,
                  strange: Inputs) -> None:
    network.eval()
    cases = {"held-out rows": held, "adversarial rows": strange, "a single row": strange.take(np.array([0]))}
    for what, inputs in cases.items():
        with torch.no_grad():
            scores = network(torch.from_numpy(preparation.transform(inputs))).numpy()
        session.check_parity(running.answers(inputs), scores, target, what)


def _unbounded(plan: Plan, target: Target) -> list[str]:
    if plan.interval is None or target.reach is not None:
        return []
    return ["numbers are answered without bounds: too few rows were left to judge them by"]


def _unexplained(plan: Plan, told: bool) -> list[str]:
    """A Pipeline of such a family is refused; a command may have chosen another than the Pipeline's."""
    if told or not plan.explain.rows:
        return []
    return [f"it answers without the attributions of model.explain.rows: a {plan.family} has none"]


def _warnings(preparation: Preparation, shrinking: Shrinking | None) -> list[str]:
    found = [f"{name} has the same value in every row; it is kept and has no say until it varies"
             for name in constant_fields(preparation)]
    if shrinking is not None and shrinking.shrunk_size_bytes >= shrinking.full_size_bytes:
        found.append(f"{' and '.join(shrinking.methods)} makes this file no smaller ({shrinking.full_size_bytes} to "
                     f"{shrinking.shrunk_size_bytes} bytes): the network is too small to gain by it")
    return found
