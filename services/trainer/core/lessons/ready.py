"""From stored rows to a network before its first step: rows in their roles, what is frozen in them, first weights."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from lepton.contracts.modelling.families import SHAPED
from services.trainer.core import loop
from services.trainer.core.continuing.parent import Parent
from services.trainer.core.dataset import HELD_OUT, TRAIN, Target, check_enough, no_rows
from services.trainer.core.export.session import Session
from services.trainer.core.failure import bad_data
from services.trainer.core.judging.judge import Held
from services.trainer.core.lessons.lesson import Lesson
from services.trainer.core.networks import zoo
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs, inputs_of
from services.trainer.core.preparing.words import Along
from services.trainer.core.sharing.gradient import Means
from services.trainer.core.teaching.disturbing import disturbing
from services.trainer.core.teaching.objective import objective
from services.trainer.core.transforming.fitting import fit
from services.trainer.core.transforming.shaping import Shaping, signals_of

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Usable:
    """Rows that are complete where the Pipeline drops incomplete ones: as the graph takes them, and as stored."""

    inputs: Inputs
    table: pa.Table

    def take(self, which: Array) -> "Usable":
        return Usable(self.inputs.take(which), self.table.take(pa.array(which)))


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of a run with their truth and their roles: TRAIN, VALIDATION or HELD_OUT."""

    rows: Usable
    truth: Array
    roles: Array
    head: Literal["own", "parent"] = "own"
    """Whose last layer the network begins with."""

    def part(self, *wanted: int) -> tuple[Inputs, Array]:
        which = np.flatnonzero(np.isin(self.roles, wanted))
        return self.rows.inputs.take(which), self.truth[which]


def exactly() -> None:
    """Have torch of this process give the same bits whenever it is given the same."""
    torch.set_num_threads(1)
    # The other way to ask for this, use_deterministic_algorithms, imports the compiler: four seconds for nothing.
    torch.set_deterministic_debug_mode("error")


def usable_of(plan: Plan, rows: pa.Table) -> Usable:
    """Rows that can be learnt from. Raises RunFailed where there are none."""
    if rows.num_rows == 0:
        raise no_rows()
    inputs = inputs_of(plan.fields, rows)
    dropping = [field.missing.kind == "drop" for field in plan.fields]
    keep = np.flatnonzero(~inputs.missing[:, dropping].any(axis=1))
    return Usable(inputs.take(keep), rows.take(pa.array(keep)).combine_chunks())


def prepared(lesson: Lesson, usable: Usable, role: Array,
             parent: Parent | None) -> tuple[Split, Preparation, Target]:
    """Rows that teach, statistics and target frozen in those not held out (or the parent's). Raises RunFailed."""
    plan, inputs = lesson.plan, usable.inputs
    training = role != HELD_OUT
    check_enough(int(training.sum()), int((~training).sum()))
    head: Literal["own", "parent"] = "own"
    if parent and parent.taken_whole:
        preparation, target, head = parent.preparation, parent.target, "parent"
    else:
        target = lesson.target(usable.table, training)
        preparation = fit(plan.fields, plan.outliers, inputs.take(np.flatnonzero(training)), along_of(plan),
                          _shaping(lesson, usable, role, target))
        if parent:
            preparation = parent.prepared(preparation)
            target, kept = parent.headed(target)
            head = "parent" if kept else "own"
    truth = lesson.truth(usable.table, inputs, target)
    if head == "parent":
        lesson.check_known(target, truth, training)
    keep = lesson.teaches(truth, training)
    if plan.outliers.action == "quarantine":
        keep = keep & ~(preparation.outside(inputs) & training)
    if not keep.all():
        usable, truth, role = usable.take(np.flatnonzero(keep)), truth[keep], role[keep]
        check_enough(int((role != HELD_OUT).sum()), int((role == HELD_OUT).sum()))
    lesson.check(target, truth[role != HELD_OUT])
    return Split(usable, truth, role, head), preparation, target


def along_of(plan: Plan) -> Along | None:
    """How the plan's family reads texts; None for one that takes them as plain columns."""
    return Along(plan.parameters.vocabulary, plan.parameters.tokens) if plan.family in SHAPED else None


def _shaping(lesson: Lesson, usable: Usable, role: Array, target: Target) -> Shaping:
    """What the Pipeline's transforms are fitted with: means of labels know none of the rows that judge an epoch."""
    transforms = lesson.plan.transforms
    if not any(one.kind == "target_encoding" for one in transforms):
        return Shaping(transforms)
    truth = lesson.truth(usable.table, usable.inputs, target)
    learners = np.flatnonzero(role[role != HELD_OUT] == TRAIN)
    return Shaping(transforms, signals_of(truth[role == TRAIN], target), learners)


def rows_of(lesson: Lesson, split: Split, role: int, preparation: Preparation, target: Target) -> loop.Rows:
    """The rows of a role as a network takes them; of those it learns from no column tells of a row's own label."""
    inputs, truth = split.part(role)
    columns = (preparation.taught(inputs, signals_of(truth, target)) if role == TRAIN and lesson.plan.transforms
               else preparation.transform(inputs))
    return loop.Rows(torch.from_numpy(columns), lesson.tensor(truth, preparation, target))


def begun(lesson: Lesson, preparation: Preparation, target: Target, rows: tuple[loop.Rows, loop.Rows],
          parent: Parent | None = None, head: Literal["own", "parent"] = "own") -> tuple[loop.Work, tuple[str, ...]]:
    """A network before its first step, with the rows it will learn from and those it is judged by, and what it has
    of a parent's weights. Raises RunFailed."""
    plan, (training, judging) = lesson.plan, rows
    carried: tuple[str, ...] = ()
    network = zoo.build(plan.family, plan.task, preparation.layout, target.outputs, plan.parameters)
    network.objective = objective(plan.parameters, training.truth.numpy(), len(target.classes))
    constant = (training.inputs == training.inputs[:1]).all(dim=0).numpy()
    if constant.size and constant.all() and plan.task in ("classification", "regression"):
        # One such field is warned of; where all are, only the label is left. A policy may know no more than that.
        raise bad_data("no field varies in the training rows: each has the same value in all of them, or none",
                       "send fields that differ from event to event, or look into their cleaning", "constant_fields")
    if parent:
        carried = parent.begin(network, preparation.layout, head == "parent", constant)
    else:
        network.ignore(constant)
    changed = disturbing(plan.augment, plan.adversarial, plan.parameters.image, preparation.layout, preparation.takes,
                         training.inputs)
    means = Means(plan.scale.processes, plan.scale.precision, plan.device)
    return loop.Work(network, plan.parameters, training, judging, changed, means), carried


def held_of(split: Split) -> Held:
    """What the candidate is measured on."""
    which = np.flatnonzero(split.roles == HELD_OUT)
    rows = split.rows.take(which)
    return Held(rows.inputs, rows.table, split.truth[which])


def champion_metrics(lesson: Lesson, champion: Session | None, held: Inputs, truth: Array,
                     target: Target) -> dict[str, float] | None:
    """The champion's figures on the same rows; None where it is not comparable."""
    if champion is None or lesson.plan.champion is None:
        return None
    return lesson.measure(champion, held, truth, target, lesson.plan.champion.classes)
