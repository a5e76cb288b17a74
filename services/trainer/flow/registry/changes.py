"""Commands that change a model's state without training: promote, end a rollout, retire, tag, collect; done at once.

They do not wait behind a run of the model: every change is a compare-and-set of its document, and a run whose champion
changed under it is measured anew. Each leaves a run that is over, so that who asked can read what became of it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from lepton.clock import Clock
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import ROLLOUT_STATE_ABORTED
from lepton.contracts.pb.training_pb2 import RunFailure, TrainingCommand, TrainingKind
from lepton.errors import Busy, Invalid, Missing, Refused, Unavailable
from lepton.runtime.loops import pause
from lepton.store.registry.garbage import Garbage
from lepton.store.registry.states import Why
from lepton.store.runs import run_id_of
from services.trainer.flow.ports import Stores, Tell

log = logging.getLogger(__name__)

Figures = dict[str, float]

_WHOLE = (training_pb2.TRAINING_KIND_COLLECT, training_pb2.TRAINING_KIND_ABORT_ROLLOUT)
"""What is not about a version."""


class Changes:
    """The verbs. A command that was carried out is not carried out again, whatever changed since."""

    def __init__(self, stores: Stores, tell: Tell) -> None:
        self._stores = stores
        self._tell = tell
        self._garbage = Garbage(stores.models.list, stores.runs, stores.artifacts)
        self._verbs: Mapping[TrainingKind.ValueType, Callable[[TrainingCommand], Awaitable[Figures]]] = {
            training_pb2.TRAINING_KIND_PROMOTE: self._promote, training_pb2.TRAINING_KIND_RETIRE: self._retire,
            training_pb2.TRAINING_KIND_ABORT_ROLLOUT: self._abort, training_pb2.TRAINING_KIND_TAG: self._tag,
            training_pb2.TRAINING_KIND_COLLECT: self._collect}

    def takes(self, command: TrainingCommand) -> bool:
        return command.kind in self._verbs

    async def carry_out(self, command: TrainingCommand) -> bool:
        """False when it was done before. Raises Invalid for a command without a version, where it needs one."""
        if command.kind not in _WHOLE and not command.parent_version:
            raise Invalid("the command must name its version", field="parent_version")
        if await self._known(command):
            return False
        state, failure, figures = training_pb2.RUN_STATE_SUCCEEDED, None, Figures()
        try:
            figures = await self._verbs[command.kind](command)
            self._tell.announce()
        except (Missing, Refused, Invalid) as error:
            state = training_pb2.RUN_STATE_FAILED
            failure = RunFailure(failure_class=training_pb2.FAILURE_CLASS_PARAMETER, message=error.message,
                                 remedy=error.remedy or "name a version that is kept and may be used so",
                                 name="not_possible")
        progress = await self._stores.runs.record(command, state, command.parent_version if failure is None else 0,
                                                  failure, figures)
        if progress is not None:
            await self._tell.progress(progress)
        return progress is not None

    async def watch(self, stop: asyncio.Event, every_s: float, clock: Clock) -> None:
        """Collect again and again until `stop`. Two trainers that do so at once do no harm."""
        while not await pause(stop, every_s, clock):
            try:
                await self.collect()
            except (Unavailable, Busy) as error:
                self._tell.trouble("not_collected", str(error), "models")

    async def collect(self) -> Figures:
        """Forget retired versions of every model, and remove bytes nothing refers to; how much that was."""
        versions = 0
        for state in await self._stores.models.list():
            versions += await self._forget(state.model)
        removed = [*await self._garbage.remove(), *await self._garbage.remove_uploads()]
        if versions:
            self._tell.announce()
        if versions or removed:
            log.info("forgot %d retired versions, removed %d files", versions, len(removed))
        return {"versions": versions, "files": len(removed), "bytes": sum(one.size_bytes for one in removed)}

    async def _known(self, command: TrainingCommand) -> bool:
        try:
            await self._stores.runs.get(run_id_of(command.command_id))
        except Missing:
            return False
        return True

    async def _promote(self, command: TrainingCommand) -> Figures:
        await self._stores.models.promote(command.model, command.parent_version, why=_why(command))
        return {}

    async def _abort(self, command: TrainingCommand) -> Figures:
        await self._stores.models.end_rollout(command.model, 0, ROLLOUT_STATE_ABORTED, _why(command))
        return {}

    async def _retire(self, command: TrainingCommand) -> Figures:
        await self._stores.models.retire(command.model, command.parent_version)
        return {}

    async def _tag(self, command: TrainingCommand) -> Figures:
        await self._stores.models.tag(command.model, command.parent_version, dict(command.tags))
        return {}

    async def _collect(self, command: TrainingCommand) -> Figures:
        await self._stores.models.state(command.model)
        return await self.collect()

    async def _forget(self, model: str) -> int:
        before = await self._stores.models.state(model)
        after = await self._stores.models.forget_retired(model, await self._garbage.waited_for(model))
        return len(before.versions) - len(after.versions)


def _why(command: TrainingCommand) -> Why:
    return Why(command.issuer, command.note)
