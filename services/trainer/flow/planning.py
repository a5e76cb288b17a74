"""From a claimed command to a folder a worker can work in: spec, rows, parent and champion, fixed for the run."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, cast

import pyarrow as pa
from pydantic import ValidationError

from lepton.clock import Clock
from lepton.contracts import pipeline as pipelines
from lepton.contracts.modelling.blocks import ModelSpec, Transfer
from lepton.contracts.modelling.families import Family
from lepton.contracts.modelling.serving import Trial
from lepton.contracts.modelling.training_blocks import Scale
from lepton.contracts.pb.models_pb2 import ModelState, ModelVersion
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.training_pb2 import TRAINING_KIND_IMPORT, TrainingCommand
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import Gate, LabelType, Task
from lepton.contracts.signing import TrustStore, verify_manifest
from lepton.errors import Invalid, Missing, Refused, Unavailable
from lepton.store.pipelines import generations_of
from lepton.store.runs import ClaimedRun
from services.trainer.core.continuing.beginning import beginning, named_version
from services.trainer.core.dataset import MIN_HELD_OUT_ROWS, MIN_TRAIN_ROWS, check_enough
from services.trainer.core.failure import bad_parameter, no_resource
from services.trainer.core.lessons.columns import categories_of
from services.trainer.core.plan import (
    MODEL_TASKS,
    Imported,
    Plan,
    Range,
    Rival,
    Snapshot,
    check_module,
    family_and_parameters,
    planned_fields,
    scale_of,
)
from services.trainer.core.searching.asking import Known, as_parent, asked, goes_on
from services.trainer.core.streaming.course import course_digest, stream_of
from services.trainer.core.weights import unpack
from services.trainer.flow import snapshots
from services.trainer.flow.ports import Bounds, Folder, Pipelines, Stores, Tell

PLAN, DATA, PARENT, CHAMPION = "plan.json", "data.arrow", "parent.npz", "champion.onnx"
STREAM, IMPORTED = "stream.npz", "imported.onnx"
# A command may overtake the announcement of the pipeline it is about.
ANNOUNCED_WITHIN_S, LOOK_EVERY_S = 5.0, 0.1
# So many pipelines are kept parsed; beyond it one is parsed again.
_KEPT_SPECS = 256
_UNTRUSTED = {
    "parent": "name another version, restore the registry from a backup, or put its signer's key into LEPTON_TRUST_DIR",
    "champion": "promote a version that is as it was signed, restore the registry from a backup, or put its signer's "
                "key into LEPTON_TRUST_DIR"}


@lru_cache(maxsize=_KEPT_SPECS)
def parsed(spec_json: str) -> Pipeline:
    return pipelines.from_json(spec_json)


class Planner:
    """Makes plans. All that one needs is copied into the run's folder, so that the run can be resumed as it was."""

    def __init__(self, stores: Stores, announced: Pipelines, trust: TrustStore, bounds: Bounds, tell: Tell,
                 clock: Clock) -> None:
        self._stores = stores
        self._trust = trust
        self._announced = announced
        self._bounds = bounds
        self._tell = tell
        self._clock = clock

    async def plan(self, run: ClaimedRun, folder: Folder) -> Plan:
        """The run's plan: the one in its folder, else a new one, written last. Raises RunFailed or Unavailable."""
        kept = await folder.read(PLAN)
        if kept is not None:
            try:
                plan = Plan.from_json(kept)
                check_module(plan.parameters.module, self._bounds.modules)
                return plan
            except ValidationError as error:
                # Left by another release; what else is in the folder was made for it.
                self._tell.trouble("plan_unreadable", str(error), run.run_id)
                await folder.remove()
        command = run.command
        state = await self._pipeline(command.model)
        spec = parsed(state.spec_json)
        family, parameters = family_and_parameters(spec, command)
        check_module(parameters.module, self._bounds.modules)
        data_state = await self._pipeline(command.data_pipeline) if command.data_pipeline else state
        data = _same_form(spec, parsed(data_state.spec_json))
        model, gate = _learnable(spec)
        if command.snapshot_id:
            taken = await self._frozen(command, spec, data)
        elif command.stream_sha256:
            taken = await self._streamed(command, state, folder)
        else:
            taken = await snapshots.take(self._stores.segments, data, generations_of(data_state),
                                         command.max_rows or model.train.window_rows)
        if not taken.learnt and taken.rows.num_rows < MIN_TRAIN_ROWS + MIN_HELD_OUT_ROWS:
            check_enough(taken.rows.num_rows, 0)
        registry = await self._registry(command.model)
        champion = await self._champion(registry, spec, folder)
        imported = await self._brought(command, folder)
        search = None if imported else asked(spec, command, family)
        # What a stream's learner knows began with nothing but its rows.
        parent, transfer = (None, None) if command.stream_sha256 or imported else await self._parent(
            command, family, spec, registry, taken.rows.num_rows, folder)
        own = _version(registry.versions, parent.version) if parent is not None and not parent.model else None
        known = (Known(family, parameters, spec.features.transforms, "") if own is None
                 else as_parent(spec, parameters, command, own))
        search = None if parent is not None else search
        scale = Scale() if imported or taken.learnt else scale_of(model.train, known.family, search is not None,
                                                                  self._bounds.device)
        plan = Plan(
            run_id=run.run_id, command_id=command.command_id, model=command.model, data_pipeline=data.name,
            generation=data_state.generation, spec_version=state.version, spec_digest=state.spec_digest,
            input_schema_digest=spec.input_schema_digest(), task=cast(Task, spec.task), label=spec.label_field or "",
            label_type=cast(LabelType | None, spec.label_type), label_categories=categories_of(spec), roles=model.roles,
            fields=planned_fields(spec), outliers=spec.clean.outliers, transforms=known.transforms,
            fixed_columns=model.transfer is not None or model.train.stream is not None,
            augment=model.train.augment, adversarial=model.train.adversarial, scale=scale, device=self._bounds.device,
            family=known.family, parameters=known.parameters, gate=gate, search=search, rollout=spec.serve.rollout,
            trial=spec.serve.trial or Trial(), interval=spec.serve.interval, found=known.found, export=model.export,
            evaluate=model.evaluate, explain=model.explain, rows=taken.learnt or taken.rows.num_rows,
            counted_rows=0 if command.max_rows or command.data_pipeline else taken.counted, snapshot=taken.snapshot,
            stream=model.train.stream if command.stream_sha256 else None, parent=parent, transfer=transfer,
            champion=champion, champion_version=registry.champion, imported=imported, promote=command.promote,
            reason=command.reason, memory_mb=self._bounds.memory_mb, limit_s=self._bounds.limit_s)
        await folder.write(DATA, _file(taken.rows))
        await folder.write(PLAN, plan.to_json().encode())
        return plan

    async def _frozen(self, command: TrainingCommand, spec: Pipeline, data: Pipeline) -> snapshots.Taken:
        """The rows of the snapshot the command names, all of them unless it says how many."""
        try:
            frozen = await self._stores.snapshots.get(command.snapshot_id)
        except Missing as error:
            raise bad_parameter(error.message, "take one with `lepton datasets snapshot`") from error
        if frozen.pipeline != data.name:
            raise bad_parameter(f"snapshot {frozen.id} is of {frozen.pipeline}, not of {data.name}",
                                "name the snapshot's pipeline as `data_pipeline`")
        taken_under = _same_form(spec, parsed(frozen.spec_json))
        return await snapshots.take_frozen(self._stores.snapshots, frozen, taken_under, command.max_rows)

    async def _brought(self, command: TrainingCommand, folder: Folder) -> Imported | None:
        """The file of an import beside the plan, and what is said of it; None for a run that learns."""
        if command.kind != TRAINING_KIND_IMPORT:
            return None
        try:
            about = Imported.model_validate_json(command.about_json or "{}")
            await folder.write(IMPORTED, await self._stores.artifacts.get(command.artifact_sha256))
        except (ValidationError, Invalid) as error:
            raise bad_parameter(f"what is said of the file cannot be read: {error}", "import it again") from error
        except Missing as error:
            raise no_resource("the file to import is gone", "import it again") from error
        return about

    async def _streamed(self, command: TrainingCommand, state: PipelineState, folder: Folder) -> snapshots.Taken:
        """What a stream's learner knew, beside the plan instead of rows, and the offsets it was learnt from."""
        spec = parsed(state.spec_json)
        try:
            data = await self._stores.artifacts.get(command.stream_sha256)
        except Missing as error:
            raise no_resource("the state of the stream is gone", "wait for the next candidate") from error
        about = unpack(data)[1]
        if stream_of(spec) is None or about["course"] != course_digest(spec, state.generation):
            raise bad_parameter("the stream is learnt anew, under another Pipeline", "wait for the next candidate")
        await folder.write(STREAM, data)
        places = [(key.partition(":")[0], int(key.partition(":")[2]), *offsets)
                  for key, offsets in sorted(about["offsets"].items())]
        return snapshots.Taken(pa.table({}), Snapshot(ranges=tuple(
            Range(stream=stream, pipeline=state.name, generation=state.generation, partition=partition, first=first,
                  next=end, digests=()) for stream, partition, first, end in places)), learnt=int(about["seen"]))

    async def _pipeline(self, name: str) -> PipelineState:
        until = self._clock.monotonic() + ANNOUNCED_WITHIN_S
        while (state := self._announced().get(name)) is None or state.deleted:
            if self._clock.monotonic() >= until:
                raise bad_parameter(f"there is no pipeline {name}", "apply it first")
            await self._clock.sleep(LOOK_EVERY_S)
        return state

    async def _registry(self, model: str) -> ModelState:
        try:
            return await self._stores.models.state(model)
        except Missing:
            return ModelState(model=model)

    async def _champion(self, registry: ModelState, spec: Pipeline, folder: Folder) -> Rival | None:
        """The champion beside the plan, where it can be measured on the same rows."""
        version = _version(registry.versions, registry.champion)
        if version is None:
            return None
        # Before anything it says is believed: by a form that is not its own it would escape the comparison.
        self._verify(version, registry.model, "champion")
        if version.manifest.input_schema_digest != spec.input_schema_digest():
            return None
        if version.manifest.task != MODEL_TASKS[spec.task or ""]:
            return None
        try:
            await folder.write(CHAMPION, await self._stores.artifacts.get(version.manifest.sha256))
        except (Missing, Unavailable) as error:
            # Its bytes are damaged or gone. The candidate is then the way out, and must not wait for them.
            self._tell.trouble("champion_unreadable", str(error), f"{registry.model} version {version.version}")
            return None
        return Rival(version=version.version, classes=tuple(version.manifest.classes))

    async def _parent(self, command: TrainingCommand, family: Family, spec: Pipeline, registry: ModelState, rows: int,
                      folder: Folder) -> tuple[Rival | None, Transfer | None]:
        """The version the run begins with, its weights beside the plan, and how it goes on from it."""
        begun = beginning(command, spec, family, registry, rows)
        if begun is None or not (begun.asked or goes_on(asked(spec, command, family),
                                                        _version(registry.versions, begun.version))):
            return None, None
        theirs = registry if begun.model == registry.model else await self._registry(begun.model)
        version = named_version(begun, theirs, family)
        self._verify(version, begun.model, "parent")
        try:
            await folder.write(PARENT, await self._stores.artifacts.get(version.manifest.lineage.weights_sha256))
        except (Missing, Unavailable) as error:
            if begun.asked:
                raise no_resource(f"the weights of version {version.version} of {begun.model} cannot be read: "
                                  f"{error.message}", "train without it, or restore the artefact",
                                  "parent_unreadable") from error
            self._tell.trouble("weights_unreadable", str(error), f"{begun.model} version {version.version}")
            return None, None
        foreign = "" if begun.model == registry.model else begun.model
        return Rival(version=version.version, classes=tuple(version.manifest.classes), model=foreign), begun.transfer

    def _verify(self, version: ModelVersion, model: str, part: Literal["parent", "champion"]) -> None:
        """Raises RunFailed unless a trainer trusted here signed what the registry says of `model`'s version, the
        digests of its files among it: the store gives bytes of a digest, the database says which digest."""
        try:
            if version.model != model:
                raise Refused("it is a version of another model", place=version.model)
            verify_manifest(self._trust, version, self._clock.now())
        except Refused as error:
            where = f" ({error.place})" if error.place else ""
            raise no_resource(f"the {part}, version {version.version} of {model}, is not as a trusted trainer signed "
                              f"it: {error.message}{where}", _UNTRUSTED[part], f"untrusted_{part}") from error


def _learnable(spec: Pipeline) -> tuple[ModelSpec, Gate]:
    if spec.model is None or spec.gate is None or spec.task is None:
        raise bad_parameter(f"pipeline {spec.name} has no label to learn", "add events.label to the Pipeline")
    return spec.model, spec.gate


def _same_form(spec: Pipeline, data: Pipeline) -> Pipeline:
    if (data.input_schema_digest(), data.label_type, data.task) != (
            spec.input_schema_digest(), spec.label_type, spec.task):
        raise bad_parameter(f"rows of {data.name} have another form than {spec.name} takes",
                            "name a pipeline with the same fields and label, in the same order")
    return data


def _version(versions: Sequence[ModelVersion], number: int) -> ModelVersion | None:
    return next((one for one in versions if one.version == number), None) if number else None


def _file(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    data: bytes = sink.getvalue().to_pybytes()
    return data
