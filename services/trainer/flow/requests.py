"""What others may ask of the trainer: a run, its end, a roll back, a healing run; each harmless when asked twice."""

from lepton.clock import Clock
from lepton.contracts.modelling.blocks import ModelSpec
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.pb.training_pb2 import TrainingCommand, TrainingKind
from lepton.contracts.pipeline import Pipeline
from lepton.errors import Invalid, Missing, Refused
from lepton.store.registry.states import Why
from lepton.store.runs import run_id_of
from services.trainer.core.continuing.beginning import beginning, named_version
from services.trainer.core.failure import RunFailed, bad_parameter
from services.trainer.core.plan import family_and_parameters, scale_of
from services.trainer.core.searching.asking import asked
from services.trainer.core.searching.usual import tuning
from services.trainer.flow.planning import parsed
from services.trainer.flow.ports import RECOVERY, Pipelines, Stores, Tell
from services.trainer.flow.registry.changes import Changes

ROWS = "rows"
# What a person asks for goes before what rows call for, and what heals goes before either.
ROWS_PRIORITY, RECOVERY_PRIORITY = -10, 50
_RECOVERY_PREFIX = "recovery-"
_WAITING = (training_pb2.RUN_STATE_QUEUED, training_pb2.RUN_STATE_RUNNING)
_QUEUED = (training_pb2.TRAINING_KIND_TRAIN, training_pb2.TRAINING_KIND_FINE_TUNE,
           training_pb2.TRAINING_KIND_IMPORT)


def recovery_command_id(command: TrainingCommand) -> str:
    """The recovery command a training was queued for."""
    return command.command_id.removeprefix(_RECOVERY_PREFIX)


class Requests:
    """The verbs behind the trainer's doors."""

    def __init__(self, stores: Stores, announced: Pipelines, tell: Tell, clock: Clock) -> None:
        self._stores = stores
        self._announced = announced
        self._tell = tell
        self._clock = clock
        self._changes = Changes(stores, tell)

    async def receive(self, command: TrainingCommand) -> bool:
        """Queue a run, cancel one, or change the registry; False when the command was received before.

        Raises Invalid for a kind that is none, Missing when the run to cancel is not known.
        """
        if command.kind == training_pb2.TRAINING_KIND_CANCEL:
            await self._stores.runs.cancel(command.cancel_run_id)
            return True
        if self._changes.takes(command):
            return await self._changes.carry_out(command)
        if command.kind not in _QUEUED:
            raise Invalid(f"there is no training of kind {command.kind}", field="kind")
        return await self._stores.runs.enqueue(command)

    async def roll_back(self, command: RecoveryCommand) -> str:
        """Leave the version the command names (or the champion) for the one before it; the evidence.

        Runs by row count are cancelled first: they began from the version that is left. Raises Refused or Missing.
        """
        model = _model_of(command)
        leaving = await self._version_to_leave(model, command.arguments.get("from_version", ""))
        await self._cancel_row_runs(model)
        state = await self._stores.models.roll_back(model, leaving, why=Why(command.issuer, command.cause))
        self._tell.announce()
        return f"{model}: version {leaving} left, version {state.champion} answers since revision {state.revision}"

    async def retrain(self, command: RecoveryCommand, traceparent: str) -> str:
        """Queue a cold start on the newest rows, ahead of runs by row count; returns the run's id.

        Argument `max_rows` says how many rows; without it as many as the Pipeline wants before a first run or between
        two, so that rows from before the trouble weigh little. Raises Refused, Missing or Invalid.
        """
        spec, model = self._learnt(command)
        return await self._heal(command, spec, model, TrainingCommand(traceparent=traceparent))

    async def tune(self, command: RecoveryCommand, traceparent: str) -> str:
        """The same with parameters the run searches for first, in `seconds` (an argument) or four minutes at most.

        Raises Refused also where nothing can be searched for, which the next step need not wait for a run to learn.
        """
        spec, model = self._learnt(command)
        search = tuning(model, _number(command, "seconds"))
        wanted = TrainingCommand(traceparent=traceparent, search_json=search.model_dump_json(exclude_none=True))
        return await self._heal(command, spec, model, wanted)

    async def fine_tune(self, command: RecoveryCommand, traceparent: str) -> str:
        """The same from the champion's weights on. Raises Refused also where they cannot be continued."""
        spec, model = self._learnt(command)
        wanted = TrainingCommand(traceparent=traceparent, kind=training_pb2.TRAINING_KIND_FINE_TUNE)
        return await self._heal(command, spec, model, wanted)

    async def cancel(self, command: RecoveryCommand) -> str:
        """End the training that the recovery command named in `command_id` was for; the evidence. One that has ended
        stays as it is. Raises Invalid without a name, Missing where the model has no such training.
        """
        named, model = command.arguments.get("command_id", ""), _model_of(command)
        if not named:
            raise Invalid("the command must name the recovery command whose training is to end", field="command_id")
        run_id = run_id_of(f"{_RECOVERY_PREFIX}{named}")
        try:
            found = (await self._stores.runs.get(run_id)).command.model
        except Missing:
            found = ""
        if found != model:
            raise Missing(f"{model} has no training that recovery command {named} asked for", field="command_id")
        state = await self._stores.runs.cancel(run_id)
        told = {training_pb2.RUN_STATE_RUNNING: "is to end", training_pb2.RUN_STATE_CANCELLED: "cancelled"}
        ended = training_pb2.RunState.Name(state).removeprefix("RUN_STATE_").lower()
        return f"{run_id} {told.get(state, f'had {ended} already')}"

    def _learnt(self, command: RecoveryCommand) -> tuple[Pipeline, ModelSpec]:
        """The Pipeline a command is about, and what it says of its model."""
        state = self._announced().get(_model_of(command))
        if state is None or state.deleted:
            raise Missing(f"there is no pipeline {_model_of(command)}", field="target")
        spec = parsed(state.spec_json)
        if spec.model is None:
            raise Refused(f"pipeline {spec.name} has no model to train", field="target")
        return spec, spec.model

    async def _heal(self, command: RecoveryCommand, spec: Pipeline, model: ModelSpec, wanted: TrainingCommand) -> str:
        train = model.train
        newest = min(train.window_rows, max(train.first_rows, train.every_rows))
        wanted.MergeFrom(TrainingCommand(
            command_id=f"{_RECOVERY_PREFIX}{command.command_id}", kind=wanted.kind or TrainingKind.TRAINING_KIND_TRAIN,
            model=spec.name, max_rows=_number(command, "max_rows") or newest, promote=True, issuer=command.issuer,
            reason=RECOVERY, incident_id=command.incident_id, priority=RECOVERY_PRIORITY))
        wanted.issued_at.FromDatetime(self._clock.now())
        try:
            _check(wanted, spec, model, await self._state(spec.name))
        except RunFailed as error:
            raise Refused(error.message, field="action", remedy=error.remedy) from error
        await self._cancel_row_runs(spec.name)
        await self._stores.runs.enqueue(wanted)
        return run_id_of(wanted.command_id)

    async def _state(self, model: str) -> ModelState:
        try:
            return await self._stores.models.state(model)
        except Missing:
            return ModelState(model=model)

    async def _version_to_leave(self, model: str, named: str) -> int:
        state: ModelState = await self._stores.models.state(model)
        if not named:
            if not state.champion:
                raise Refused(f"{model} has no champion to leave", field="from_version")
            return state.champion
        if not named.isdecimal() or not int(named):
            raise Invalid(f"{named!r} is no version", field="from_version")
        return int(named)

    async def _cancel_row_runs(self, model: str) -> None:
        for run in await self._stores.runs.list(model, limit=20):
            if run.command.reason == ROWS and run.progress.state in _WAITING:
                await self._stores.runs.cancel(run.run_id)


def _model_of(command: RecoveryCommand) -> str:
    return command.target.partition(":")[2]


def _check(wanted: TrainingCommand, spec: Pipeline, model: ModelSpec, registry: ModelState) -> None:
    """Raises RunFailed for a run that would fail by what is known without its rows."""
    if wanted.kind == training_pb2.TRAINING_KIND_TRAIN and not wanted.search_json:
        return
    family, _ = family_and_parameters(spec, wanted)
    if wanted.search_json:
        asked(spec, wanted, family)
        scale_of(model.train, family, search=True, device="")
        return
    # Where a fine-tune begins elsewhere for want of a champion, it is none of this model.
    begun = beginning(wanted, spec, family, registry, 0)
    if begun is None or begun.model != spec.name:
        raise bad_parameter(f"{spec.name} has no champion to fine-tune", "train the model first")
    named_version(begun, registry, family)


def _number(command: RecoveryCommand, argument: str) -> int:
    text = command.arguments.get(argument, "0")
    if not text.isdecimal():
        raise Invalid(f"{text!r} is no number of {argument.removeprefix('max_')}", field=argument)
    return int(text)
