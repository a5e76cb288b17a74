"""What one run will do, complete before it starts: command, pipeline and snapshot resolved into one frozen document."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ValidationError

from lepton.contracts.modelling.blocks import Evaluate, Explain, Export, Parameters, Roles, Transfer
from lepton.contracts.modelling.families import CLASS_TASKS, CLASSES_ONLY, FAMILIES, Family, fitting, foreign, takers
from lepton.contracts.modelling.serving import Rollout, Trial
from lepton.contracts.modelling.training_blocks import Adversarial, Augment, Scale, Stream, check_scale
from lepton.contracts.modelling.transforms import Transform
from lepton.contracts.pb import models_pb2, training_pb2
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import (
    Block,
    Categories,
    Gate,
    LabelType,
    Outliers,
    Search,
    Task,
)
from services.trainer.core.failure import bad_parameter
from services.trainer.core.preparing.field import PlannedField, picture_of

MODEL_TASKS: dict[str, models_pb2.ModelTask.ValueType] = {
    "regression": models_pb2.MODEL_TASK_REGRESSION, "classification": models_pb2.MODEL_TASK_CLASSIFICATION,
    "ranking": models_pb2.MODEL_TASK_RANKING, "policy": models_pb2.MODEL_TASK_POLICY,
    "anomaly": models_pb2.MODEL_TASK_ANOMALY}
"""Tasks as the manifest numbers them."""


class Range(Block):
    """Offsets `[first, next)` of one partition of a stream, exactly as they are stored in segments."""

    stream: str
    pipeline: str
    generation: int = 1
    partition: int
    first: int
    next: int
    digests: tuple[str, ...]
    """SHA-256 of each segment, in offset order."""


class Snapshot(Block):
    """A row set that never changes: the same ranges hold the same bytes."""

    ranges: tuple[Range, ...]

    def digest(self) -> str:
        """SHA-256 over place and digest of every segment, lower-case hex; independent of how ranges are listed."""
        lines = sorted(f"{one.stream}:{one.pipeline}:g{one.generation}:{one.partition}:{one.first}:{one.next}:"
                       f"{','.join(one.digests)}" for one in self.ranges)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Rival(Block):
    """A published version the run starts from or is measured against; its file lies beside the plan."""

    version: int
    classes: tuple[str, ...] = ()
    model: str = ""
    """Model it is a version of; empty: the plan's."""


class Imported(Block):
    """A file that was trained elsewhere and lies beside the plan: whose classes its probabilities are, what it was."""

    classes: tuple[str, ...] = ()
    """In the order of its probabilities; empty: the Pipeline's order."""
    origin: str = "onnx"


class Plan(Block):
    """Everything the worker needs besides the rows; `parent` and `champion` are absent where there is none."""

    run_id: str
    command_id: str
    model: str
    data_pipeline: str
    generation: int
    spec_version: int
    spec_digest: str
    input_schema_digest: str
    task: Task
    label: str
    label_type: LabelType | None = None
    label_categories: Categories | None = None
    """What an answer is chosen from, where it is declared: classes, items or actions."""
    roles: Roles = Roles()
    fields: tuple[PlannedField, ...]
    outliers: Outliers
    transforms: tuple[Transform, ...] = ()
    fixed_columns: bool = False
    """Whether a search leaves transforms alone: runs of the Pipeline go on from others, with the same
    columns, or from a stream, where transforms may not stand."""
    augment: Augment | None = None
    adversarial: Adversarial | None = None
    scale: Scale = Scale()
    device: Literal["cpu", "cuda"] = "cpu"
    """What the run learns on."""
    family: Family
    parameters: Parameters
    search: Search | None = None
    """What is tried before anything is learnt; family and parameters are then where it begins."""
    found: str = ""
    """A `lepton.v1.Search` as JSON: how family and parameters were found; empty where they were given."""
    gate: Gate
    interval: float | None = None
    """Share of rows whose number is to lie between the bounds answered beside it."""
    rollout: Rollout = "immediate"
    trial: Trial = Trial()
    export: Export | None = None
    evaluate: Evaluate = Evaluate()
    explain: Explain = Explain()
    rows: int
    """Labelled rows beside the plan, the held-out ones included."""
    counted_rows: int = 0
    """Labelled rows the pipeline had when these were taken; 0 where they are others than its newest."""
    snapshot: Snapshot
    parent: Rival | None = None
    transfer: Transfer | None = None
    """How the run goes on from its parent; absent: from the same model, with all that it learnt."""
    champion: Rival | None = None
    champion_version: int = 0
    """Who answered when this was planned, comparable or not: the verdict holds only while that is so."""
    promote: bool
    reason: str
    stream: Stream | None = None
    """Of a candidate of the stream's learner: there are no rows beside the plan then, but its state."""
    imported: Imported | None = None
    """Of a run that learns nothing and publishes a file that was brought."""
    memory_mb: int = 0
    """Private memory the worker may use; 0: as much as there is."""
    limit_s: float = 3600.0
    """Seconds of its process after which the run fails."""

    @property
    def validated(self) -> bool:
        """Whether rows are set apart from those learnt from: to say when it is enough, or how far bounds lie."""
        return self.parameters.patience > 0 or self.interval is not None

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Plan":
        return cls.model_validate_json(text)


def family_and_parameters(pipeline: Pipeline, command: training_pb2.TrainingCommand) -> tuple[Family, Parameters]:
    """What to train: the Pipeline's model block, overridden by the command. Raises RunFailed(parameter)."""
    if pipeline.model is None or pipeline.task is None or pipeline.gate is None:
        raise bad_parameter(f"pipeline {pipeline.name} has no label to learn", "add events.label to the Pipeline")
    family = command.family or pipeline.model.family
    if family not in FAMILIES:
        raise bad_parameter(f"there is no model family `{family}`", f"use one of {', '.join(FAMILIES)}")
    if pipeline.task not in FAMILIES[family].tasks:
        kind = f"the label `{pipeline.label_field}` is {pipeline.label_type}"
        raise bad_parameter(f"{family} does not fit {pipeline.task} ({kind})",
                            f"use {' or '.join(fitting(pipeline.task))}")
    given = given_parameters(command.parameters_json)
    merged = {**pipeline.model.parameters.model_dump(exclude_none=True), **given}
    for name in foreign(family, [name for name, value in given.items() if value and name in Parameters.model_fields]):
        raise bad_parameter(f"{family} has no parameter `{name}`",
                            " or ".join(["remove it", *(f"use {one}" for one in takers(name))]))
    for name in sorted(CLASSES_ONLY & set(given)) if pipeline.task not in CLASS_TASKS else ():
        if given[name] not in (None, Parameters.model_fields[name].default):
            raise bad_parameter(f"`{name}` is for classes, and {pipeline.task} has none", "remove it")
    for name in foreign(family, set(merged) & set(Parameters.model_fields)):
        merged.pop(name)  # the Pipeline's, for its own family
    if family == "cnn" and "image" not in merged and (image := picture_of(pipeline.inputs.values())):
        merged["image"] = image
    try:
        return family, Parameters.model_validate(merged)  # type: ignore[return-value]  # membership was checked above
    except ValidationError as error:
        first = error.errors()[0]
        raise bad_parameter(f"parameter {'.'.join(str(part) for part in first['loc'])}: {first['msg']}",
                            f"known parameters: {', '.join(Parameters.model_fields)}") from error


def scale_of(train: Scale, family: str, search: bool, device: str) -> Scale:
    """What `train` says of it. Raises RunFailed(parameter) where a command or a device does not go with it."""
    if train.precision == "float16" and device == "cpu":
        raise bad_parameter("float16 is for GPUs: not every CPU can compute every layer so",
                            "use bfloat16 or float32, or set LEPTON_TRAINER_DEVICE=cuda", "no_float16_here")
    for _, message, remedy in check_scale(train, family, search, stream=False):
        raise bad_parameter(message, remedy, "one_process_only")
    return Scale(processes=train.processes, precision=train.precision)


def check_module(path: str | None, allowed: Sequence[str]) -> None:
    """Raises RunFailed(parameter) unless `path`, `package.module:name`, is allowed: as it is, or its whole module.

    To import a module is to run it, with everything the trainer may do.
    """
    if path is not None and path not in allowed and path.partition(":")[0] not in allowed:
        raise bad_parameter(f"`{path}` is not among the modules this trainer may import",
                            "add it to LEPTON_TRAINER_MODULES, if whoever wrote it may do what the trainer may",
                            "module_not_allowed")


def runs_due(rows: int, first_rows: int, every_rows: int) -> int:
    """How many runs the count of labelled rows has called for since the pipeline began."""
    if rows < first_rows:
        return 0
    return 1 + ((rows - first_rows) // every_rows if every_rows else 0)


def planned_fields(pipeline: Pipeline) -> tuple[PlannedField, ...]:
    return tuple(PlannedField(name=name, type=spec.type, missing=pipeline.missing_policy(name),
                              categories=spec.categories,
                              tail=spec.tail, image=spec.image or (),
                              coded=pipeline.model is not None and name == pipeline.model.roles.user)
                 for name, spec in pipeline.inputs.items())


def given_parameters(text: str) -> dict[str, Any]:
    """Parameters a command gives. Raises RunFailed(parameter)."""
    if not text:
        return {}
    try:
        given = json.loads(text)
    except ValueError as error:
        raise bad_parameter(f"parameters are not JSON: {error}", "send a JSON object") from error
    if not isinstance(given, dict):
        raise bad_parameter("parameters must be a JSON object", 'send for example {"epochs": 20}')
    return given
