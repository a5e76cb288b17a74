"""One run from claim to end: plan, process, verdict, version; resumed by whoever claims it next when its owner dies."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable

from lepton.clock import Clock
from lepton.contracts.pb import recovery_pb2, training_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryResult
from lepton.contracts.pb.training_pb2 import RunFailure, RunState, TrainingProgress
from lepton.errors import Busy, Missing, Refused, Unavailable
from lepton.store.runs import ClaimedRun
from services.trainer.core.failure import RunFailed, no_resource, of_error
from services.trainer.flow.following import Cancelled, Following, Stopping, progress_of
from services.trainer.flow.planning import Planner
from services.trainer.flow.ports import Bounds, Folder, Folders, Stores, Tell
from services.trainer.flow.publishing import ChampionChanged, Published, Publisher
from services.trainer.flow.requests import recovery_command_id

IDLE_S, AGAIN_S = 0.25, 1.0
# Each time the champion changes under a run, its candidate must be measured anew.
MAX_REMATCHES = 3

SUCCEEDED, REJECTED = training_pb2.RUN_STATE_SUCCEEDED, training_pb2.RUN_STATE_REJECTED
FAILED, CANCELLED = training_pb2.RUN_STATE_FAILED, training_pb2.RUN_STATE_CANCELLED
_CLASSES = {"data": training_pb2.FAILURE_CLASS_DATA, "parameter": training_pb2.FAILURE_CLASS_PARAMETER,
            "resource": training_pb2.FAILURE_CLASS_RESOURCE, "internal": training_pb2.FAILURE_CLASS_INTERNAL}


log = logging.getLogger(__name__)


class Training:
    """Claims runs and carries them out; `work` may run several times side by side."""

    def __init__(self, stores: Stores, planner: Planner, publisher: Publisher, folders: Folders, tell: Tell,
                 bounds: Bounds, clock: Clock) -> None:
        self._stores = stores
        self._planner = planner
        self._publisher = publisher
        self._folders = folders
        self._tell = tell
        self._bounds = bounds
        self._clock = clock
        self._following = Following(stores, tell, clock, bounds.grace_s)
        # Processes that may still be started. A run that would only wait for one is left to whoever has one free.
        self._free = bounds.processes

    async def work(self, owner: str, stop: asyncio.Event) -> None:
        """Claim and run until `stop`. A database or bus that is away is waited for."""
        while not stop.is_set():
            try:
                if await self._next(owner, stop):
                    continue
            except (Unavailable, Busy) as error:
                self._tell.trouble("runs_wait", str(error), "run queue")
                await self._clock.sleep(AGAIN_S)
            await self._clock.sleep(IDLE_S)

    async def _next(self, owner: str, stop: asyncio.Event) -> bool:
        """Carry out one run, if there is one for which there is room. Promotions need no process."""
        if not self._free:
            run = await self._stores.runs.claim(owner, self._bounds.lease_s, training_pb2.TRAINING_KIND_PROMOTE)
            if run is not None:
                await self._held(run, stop)
            return run is not None
        self._free -= 1
        try:
            run = await self._stores.runs.claim(owner, self._bounds.lease_s)
            if run is not None:
                await self._held(run, stop)
        finally:
            self._free += 1
        return run is not None

    async def sweep(self) -> None:
        """Remove folders of runs that are over: their last owner died after the end and before removing them."""
        for run_id in await self._folders.names():
            try:
                over = (await self._stores.runs.get(run_id)).progress.state not in (
                    training_pb2.RUN_STATE_QUEUED, training_pb2.RUN_STATE_RUNNING)
            except Missing:
                over = True
            if over:
                await self._folders.of(run_id).remove()

    async def _held(self, run: ClaimedRun, stop: asyncio.Event) -> None:
        """Carry a run out while its lease is kept."""
        folder = self._folders.of(run.run_id)
        began = self._clock.monotonic()
        with self._tell.span(run.command.traceparent, run.command.model, run.run_id):
            try:
                await self._while_leased(run, self._carry_out(run, folder, stop))
            except Stopping:
                return
            except Refused as error:
                # Another owner has the run, and the folder with it when it is on this machine.
                self._tell.trouble("run_lost", str(error), run.run_id)
                await self._publisher.discard_late(run)
                return
            await folder.remove()
        state = (await self._stores.runs.get(run.run_id)).progress.state
        self._tell.ended(run.command.model, RunState.Name(state).removeprefix("RUN_STATE_").lower(),
                         self._clock.monotonic() - began)
        await self.sweep()

    async def _while_leased(self, run: ClaimedRun, work: Awaitable[None]) -> None:
        async def everything() -> None:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(self._keep_lease(run))
                await work
                keeper.cancel()

        try:
            await everything()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _keep_lease(self, run: ClaimedRun) -> None:
        """Renew until cancelled. Raises Refused when the lease is lost."""
        while True:
            await self._clock.sleep(self._bounds.lease_s / 3)
            # A database that is away cannot give the lease to another either; the fence guards every write.
            with contextlib.suppress(Unavailable):
                await self._stores.runs.renew(run.run_id, run.fence, self._bounds.lease_s)

    async def _carry_out(self, run: ClaimedRun, folder: Folder, stop: asyncio.Event) -> None:
        """To the run's end, in whatever state; raises only what leaves it unfinished."""
        try:
            if run.command.kind == training_pb2.TRAINING_KIND_PROMOTE:
                await self._promote(run)
                return
            published = await self._patiently(run, folder, stop)
        except (Stopping, Unavailable, Busy, Refused):
            raise
        except Cancelled:
            await self._end(run, CANCELLED)
        except Exception as error:
            failure = of_error(error)
            if failure.failure_class == "internal":
                log.exception("run %s failed", run.run_id)
            await self._end(run, FAILED, RunFailure(failure_class=_CLASSES[failure.failure_class], name=failure.name,
                                                    message=failure.message, remedy=failure.remedy))
        else:
            await self._end_published(run, published)

    async def _patiently(self, run: ClaimedRun, folder: Folder, stop: asyncio.Event) -> Published:
        """Train and publish, waiting for a database that is away."""
        while True:
            try:
                return await self._train(run, folder, stop)
            except (Unavailable, Busy) as error:
                self._tell.trouble("run_waits", str(error), run.run_id)
                await self._clock.sleep(AGAIN_S)
                if stop.is_set():
                    raise Stopping from error

    async def _train(self, run: ClaimedRun, folder: Folder, stop: asyncio.Event) -> Published:
        for _ in range(MAX_REMATCHES):
            if (before := await self._publisher.published(run)) is not None:
                return before
            await self._following.heed(run, stop)
            plan = await self._planner.plan(run, folder)
            await self._following.learn(run, plan, folder, stop)
            await self._following.heed(run, stop)
            try:
                return await self._publisher.publish(run, plan, folder)
            except ChampionChanged:
                await folder.remove()
        raise no_resource("the champion changed again and again while the candidate was measured", "run it once more",
                          "champion_changed")

    async def _promote(self, run: ClaimedRun) -> None:
        model, version = run.command.model, run.command.parent_version
        try:
            await self._stores.models.promote(model, version)
        except (Missing, Refused) as error:
            raise RunFailed("parameter", error.message, error.remedy or "promote a version that is kept and passed "
                                                                        "its gate", "no_such_version") from error
        self._tell.announce()
        await self._end(run, SUCCEEDED, version=version)

    async def _end_published(self, run: ClaimedRun, published: Published) -> None:
        metrics = dict(published.version.manifest.metrics)
        found = published.version.manifest.search.explanation
        if published.reasons:
            failure = RunFailure(message="; ".join(published.reasons), name="gate_not_passed",
                                 remedy="train on more or newer rows, or move the gate")
            await self._end(run, REJECTED, failure, published.version.version, metrics, found)
        else:
            await self._end(run, SUCCEEDED, None, published.version.version, metrics, found)

    async def _end(self, run: ClaimedRun, state: RunState.ValueType, failure: RunFailure | None = None,
                   version: int = 0, metrics: dict[str, float] | None = None, explanation: str = "") -> None:
        """Tell, then finish: killed in between, the run is claimed again and told again, never left untold."""
        await self._stores.runs.renew(run.run_id, run.fence, self._bounds.lease_s)
        await self._publisher.discard(run)
        progress = progress_of(run, state, self._clock)
        reached = (await self._stores.runs.get(run.run_id)).progress
        progress.epoch, progress.epochs = reached.epoch, reached.epochs
        progress.rows, progress.counted_rows = reached.rows, reached.counted_rows
        progress.version = version
        progress.metrics.update(metrics or {})
        progress.explanation = explanation
        if failure is not None:
            progress.failure.CopyFrom(failure)
        await self._stores.runs.progress(run.run_id, run.fence, self._as_running(progress))
        await self._tell.progress(progress)
        if run.command.reason == "recovery":
            await self._answer(run, progress)
        await self._stores.runs.finish(run.run_id, run.fence, state, version, failure)

    async def _answer(self, run: ClaimedRun, ended: TrainingProgress) -> None:
        done = ended.state == SUCCEEDED
        evidence = f"{run.run_id} {RunState.Name(ended.state).removeprefix('RUN_STATE_').lower()}"
        if ended.version:
            evidence += f": version {ended.version}"
        if ended.HasField("failure"):
            evidence += f", {ended.failure.message}"
        if done and ended.explanation:
            evidence += f"; {ended.explanation}"
        result = RecoveryResult(
            command_id=recovery_command_id(run.command), target=f"model:{run.command.model}", evidence=evidence,
            outcome=recovery_pb2.RECOVERY_OUTCOME_DONE if done else recovery_pb2.RECOVERY_OUTCOME_FAILED,
            incident_id=run.command.incident_id)
        result.at.FromDatetime(self._clock.now())
        await self._tell.result(result)

    @staticmethod
    def _as_running(ended: TrainingProgress) -> TrainingProgress:
        """What the store keeps until `finish` ends it."""
        running = TrainingProgress()
        running.CopyFrom(ended)
        running.state = training_pb2.RUN_STATE_RUNNING
        return running
