"""What others may ask of the trainer: a run, its end, a roll back, a retraining; each harmless when asked twice."""

from lepton.clock import Clock
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.pb.training_pb2 import TrainingCommand
from lepton.errors import Invalid, Missing, Refused
from lepton.store.registry.states import Why
from lepton.store.runs import run_id_of
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
    """The recovery command a retraining was queued for."""
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
        model = _model_of(command)
        state = self._announced().get(model)
        if state is None or state.deleted:
            raise Missing(f"there is no pipeline {model}", field="target")
        spec = parsed(state.spec_json).model
        if spec is None:
            raise Refused(f"pipeline {model} has no model to train", field="target")
        newest = min(spec.train.window_rows, max(spec.train.first_rows, spec.train.every_rows))
        wanted = TrainingCommand(
            command_id=f"{_RECOVERY_PREFIX}{command.command_id}", kind=training_pb2.TRAINING_KIND_TRAIN, model=model,
            max_rows=_number(command, "max_rows") or newest, promote=True, issuer=command.issuer, reason=RECOVERY,
            incident_id=command.incident_id, traceparent=traceparent, priority=RECOVERY_PRIORITY)
        wanted.issued_at.FromDatetime(self._clock.now())
        await self._cancel_row_runs(model)
        await self._stores.runs.enqueue(wanted)
        return run_id_of(wanted.command_id)

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


def _number(command: RecoveryCommand, argument: str) -> int:
    text = command.arguments.get(argument, "0")
    if not text.isdecimal():
        raise Invalid(f"{text!r} is no number of rows", field=argument)
    return int(text)
