"""Models as the registry announces them, and the commands that train, promote and roll them back."""

import json
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lepton.bus.commands.audit import Audit
from lepton.bus.producer import Producer
from lepton.clock import Clock
from lepton.contracts.pb.models_pb2 import ModelState, RolloutState
from lepton.contracts.pb.training_pb2 import RunState, TrainingCommand, TrainingCourse, TrainingKind, TrainingProgress
from lepton.contracts.pipeline import Pipeline, from_json
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Missing, Refused
from lepton.store.datasets.snapshots import Snapshots
from lepton.store.runs import WAITING, Run, Runs, run_id_of
from services.gateway.core.auth import Caller
from services.gateway.flow.pipelines import Catalogue
from services.gateway.flow.registry.parents import check_parent

__all__ = ["Asked", "Models", "Run", "Training"]

# Runs asked for here that the trainer may not have queued yet, and how long it may take to.
MAX_ASKED = 1000
ASKED_S = 60.0
_ENDED = {"cancelled": "was cancelled", "rejected": "did not pass its gate"}
KINDS = {"train": TrainingKind.TRAINING_KIND_TRAIN, "fine_tune": TrainingKind.TRAINING_KIND_FINE_TUNE}


@dataclass(frozen=True, slots=True)
class Training:
    """What a client may say of a run; what is left empty is the Pipeline's."""

    kind: str = "train"
    family: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    data_pipeline: str = ""
    snapshot: str = ""
    parent_version: int = 0
    parent_model: str = ""
    transfer: Mapping[str, Any] = field(default_factory=dict)
    max_rows: int = 0
    promote: bool = True
    priority: int = 0
    command_id: str = ""


@dataclass(frozen=True, slots=True)
class Brought:
    """A file that was trained elsewhere: the classes of its probabilities in their order, and what it was."""

    digest: str
    classes: tuple[str, ...] = ()
    origin: str = "onnx"
    promote: bool = True
    command_id: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that is durable on its way to the trainer, and the run it is about."""

    command_id: str
    run_id: str


class Models:
    """Verbs on models. The registry belongs to the trainer: everything here is a question or a command."""

    def __init__(self, registry: Mapping[str, ModelState], runs: Runs, snapshots: Snapshots, catalogue: Catalogue,
                 producer: Producer, audit: Audit, clock: Clock) -> None:
        self._registry = registry
        self._runs = runs
        self._snapshots = snapshots
        self._catalogue = catalogue
        self._producer = producer
        self._audit = audit
        self._clock = clock
        self._asked: OrderedDict[str, TrainingCommand] = OrderedDict()

    def all(self) -> list[ModelState]:
        return [self._registry[name] for name in sorted(self._registry)]

    def get(self, model: str) -> ModelState:
        if model not in self._registry:
            raise Missing(f"there is no model {model}", remedy=f"train one, or wait until its first run has succeeded: "
                                                                   f"`lepton models wait {model}`")
        return self._registry[model]

    async def train(self, caller: Caller, model: str, wanted: Training) -> Asked:
        """Ask for one run; returns once the command is durable. The same `command_id` again starts nothing new.

        Raises Missing for an unknown pipeline, InvalidPipeline for family or parameters that cannot be, Refused when
        the rows to learn from have another form than the model takes or the version to begin with another family.
        """
        pipeline = await self.check_label(model)
        await self._check_data(pipeline, wanted.data_pipeline)
        await self._check_snapshot(wanted.data_pipeline or model, wanted.snapshot)
        if wanted.family or wanted.parameters or wanted.search or wanted.transfer:
            _check_model(pipeline, wanted)
        self._check_parent(model, wanted)
        if wanted.kind == "fine_tune":
            check_parent(self._registry, pipeline, wanted.family, (wanted.parent_model, wanted.parent_version))
        command = self._command(caller, model, KINDS[wanted.kind], wanted.command_id)
        command.family = wanted.family
        command.parameters_json = json.dumps(wanted.parameters, sort_keys=True) if wanted.parameters else ""
        command.search_json = json.dumps(wanted.search, sort_keys=True) if wanted.search else ""
        command.data_pipeline = wanted.data_pipeline
        command.snapshot_id = wanted.snapshot
        command.parent_version, command.parent_model = wanted.parent_version, wanted.parent_model
        command.transfer_json = json.dumps(wanted.transfer, sort_keys=True) if wanted.transfer else ""
        command.max_rows = wanted.max_rows
        command.promote = wanted.promote
        command.priority = wanted.priority
        await self._send(caller, f"model.{wanted.kind}", command)
        return self._remembered(command)

    async def promote(self, caller: Caller, model: str, version: int, note: str = "") -> Asked:
        """Ask the trainer to make a kept version champion; `note` goes into the champions' history."""
        command = self._command(caller, model, TrainingKind.TRAINING_KIND_PROMOTE)
        command.parent_version, command.note = version, note
        return await self._change(caller, "model.promote", command)

    async def end_rollout(self, caller: Caller, model: str, *, promote: bool, note: str = "") -> Asked:
        """Ask for the end of the rollout under way: its candidate is promoted, or the champion answers alone again.

        Raises Missing when none is under way.
        """
        rollout = self.get(model).rollout
        if rollout.state != RolloutState.ROLLOUT_STATE_RUNNING:
            raise Missing(f"no candidate of {model} is tried", field="rollout", remedy="see `lepton rollout status`")
        if promote:
            return await self.promote(caller, model, rollout.candidate, note)
        command = self._command(caller, model, TrainingKind.TRAINING_KIND_ABORT_ROLLOUT)
        command.note = note
        return await self._change(caller, "model.abort_rollout", command)

    async def tag(self, caller: Caller, model: str, version: int, tags: Mapping[str, str]) -> Asked:
        """Ask for tags of a kept version; an empty value takes one away. Raises Missing."""
        command = self._command(caller, model, TrainingKind.TRAINING_KIND_TAG)
        command.parent_version = version
        command.tags.update(tags)
        return await self._change(caller, "model.tag", command)

    async def retire(self, caller: Caller, model: str, version: int, note: str) -> Asked:
        """Ask for a kept version to be taken out of use for good. Raises Missing."""
        command = self._command(caller, model, TrainingKind.TRAINING_KIND_RETIRE)
        command.parent_version, command.note = version, note
        return await self._change(caller, "model.retire", command)

    async def collect(self, caller: Caller, model: str) -> Asked:
        """Ask for retired versions to be forgotten and for bytes nothing refers to to be removed. Raises Missing."""
        self.get(model)
        return await self._change(caller, "model.collect",
                                  self._command(caller, model, TrainingKind.TRAINING_KIND_COLLECT))

    async def check_label(self, model: str) -> Pipeline:
        """The pipeline, which has something to answer. Raises Missing or Invalid."""
        pipeline = await self._catalogue.spec(model)
        if pipeline.task is None:
            raise Invalid(f"pipeline {model} has no label to learn", field="events.label", remedy="declare one")
        return pipeline

    async def import_file(self, caller: Caller, model: str, file: Brought) -> Asked:
        """Ask for a version of a file; returns once the command is durable. The same `command_id` does it once."""
        command = self._command(caller, model, TrainingKind.TRAINING_KIND_IMPORT, file.command_id)
        command.artifact_sha256, command.promote = file.digest, file.promote
        command.about_json = json.dumps({"classes": file.classes, "origin": file.origin})
        await self._send(caller, "model.import", command)
        return self._remembered(command)

    async def cancel(self, caller: Caller, run_id: str) -> Asked:
        """Ask for the end of a run that waits or runs. Raises Missing, or Refused when it is over."""
        run = await self.run(run_id)
        if run.progress.state not in WAITING:
            state = RunState.Name(run.progress.state).removeprefix("RUN_STATE_").lower()
            raise Refused(f"run {run_id} is over: it {_ENDED.get(state, state)}", field="run_id",
                          remedy="leave its version with `lepton rollback`, if it is in production")
        command = self._command(caller, run.command.model, TrainingKind.TRAINING_KIND_CANCEL)
        command.cancel_run_id = run_id
        await self._send(caller, "run.cancel", command)
        return Asked(command.command_id, run_id)

    async def runs(self, model: str | None, count: int) -> list[Run]:
        """Newest first."""
        return await self._runs.list(model, count)

    async def run(self, run_id: str) -> Run:
        """A run asked for here is known at once, also before the trainer has queued it. Raises Missing."""
        try:
            return await self._runs.get(run_id)
        except Missing:
            command = self._asked.get(run_id)
            now_s = self._clock.now().timestamp()
            if command is None or now_s - command.issued_at.ToNanoseconds() / 1e9 > ASKED_S:
                raise
        progress = TrainingProgress(run_id=run_id, command_id=command.command_id, model=command.model,
                                    state=RunState.RUN_STATE_QUEUED, at=command.issued_at)
        return Run(run_id, command, progress, owner="", fence=0, cancel_requested=False)

    async def course(self, run_id: str) -> TrainingCourse:
        """How the run went so far. Raises Missing."""
        await self.run(run_id)
        return await self._runs.course(run_id)

    async def _change(self, caller: Caller, action: str, command: TrainingCommand) -> Asked:
        """Send a command about one version, or about the model as a whole. Raises Missing when it is not kept."""
        if command.parent_version:
            self._check_version(command.model, command.parent_version)
        await self._send(caller, action, command)
        return self._remembered(command)

    async def _check_data(self, pipeline: Pipeline, data_pipeline: str) -> None:
        if not data_pipeline:
            return
        data = await self._catalogue.spec(data_pipeline)
        if (data.input_schema_digest(), data.label_type) != (pipeline.input_schema_digest(), pipeline.label_type):
            raise Refused(f"rows of {data_pipeline} have another form than {pipeline.name} takes",
                          field="data_pipeline", remedy="its fields and label must have the same names and types")

    async def _check_snapshot(self, pipeline: str, snapshot_id: str) -> None:
        if snapshot_id and (await self._snapshots.get(snapshot_id)).pipeline != pipeline:
            raise Missing(f"pipeline {pipeline} has no snapshot {snapshot_id}", field="snapshot",
                          remedy="see `lepton datasets snapshots`")

    def _check_parent(self, model: str, wanted: Training) -> None:
        if wanted.kind == "train" and (wanted.parent_model or wanted.parent_version or wanted.transfer):
            raise Invalid("a run of kind train begins with no version", field="kind", remedy="let kind be fine_tune")
        if "from" in wanted.transfer:
            raise Invalid("`from` is the Pipeline's", field="transfer.from",
                          remedy="say parent_model and parent_version instead")
        if wanted.parent_model not in ("", *self._registry):
            raise Missing(f"there is no model {wanted.parent_model}", field="parent_model",
                          remedy="see `lepton models`")
        if wanted.parent_version:
            self._check_version(wanted.parent_model or model, wanted.parent_version, "parent_version")

    def _check_version(self, model: str, version: int, field: str = "version") -> None:
        if version not in {kept.version for kept in self.get(model).versions}:
            raise Missing(f"version {version} of {model} is not kept", field=field,
                          remedy=f"see `lepton models {model}`")

    def _command(self, caller: Caller, model: str, kind: TrainingKind.ValueType, command_id: str = "",
                 ) -> TrainingCommand:
        command = TrainingCommand(command_id=command_id or f"request-{secrets.token_hex(8)}", kind=kind, model=model,
                                  issuer=caller.key_id, reason="command")
        command.issued_at.FromDatetime(self._clock.now())
        return command

    def _remembered(self, command: TrainingCommand) -> Asked:
        """Its run is known here from now on, before the trainer has taken it."""
        self._asked[run_id_of(command.command_id)] = command
        if len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        return Asked(command.command_id, run_id_of(command.command_id))

    async def _send(self, caller: Caller, action: str, command: TrainingCommand) -> None:
        await self._audit.record(caller.key_id, action, command.model, command.command_id)
        await self._producer.send(Topic.TRAINING_COMMANDS, command, key=command.model)


def _check_model(pipeline: Pipeline, wanted: Training) -> None:
    """Raises InvalidPipeline where the Pipeline with this family and these parameters could not be."""
    data = pipeline.to_data()
    model = data.get("model", {})
    family = wanted.family or model.get("family")
    # Another family starts from its own defaults: what was set for the Pipeline's may mean nothing to it.
    kept = model if family == model.get("family") else {name: model[name] for name in model.keys() - {"search"}} | {
        "parameters": {}}
    from_json(json.dumps({**data, "model": {
        **kept, "family": family, "parameters": {**kept.get("parameters", {}), **wanted.parameters},
        **({"search": dict(wanted.search)} if wanted.search else {}),
        **({"transfer": dict(wanted.transfer)} if wanted.transfer else {})}}))
