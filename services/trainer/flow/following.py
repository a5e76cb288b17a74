"""The life of a run's process seen from outside: launched, watched, told of, ended; started again when it dies."""

import asyncio
import contextlib
import json

from lepton.clock import Clock
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.training_pb2 import RunState, TrainingProgress
from lepton.errors import Refused, Unavailable
from lepton.store.runs import ClaimedRun
from services.trainer.core.deadline import out_of_time
from services.trainer.core.failure import RunFailed, no_resource
from services.trainer.core.plan import Plan
from services.trainer.flow.course import course_of, latest
from services.trainer.flow.ports import Folder, Stores, Tell
from services.trainer.flow.publishing import RESULT

PROGRESS, FAILURE, CHECKPOINT, SEARCH = "progress.jsonl", "failure.json", "checkpoint.npz", "search.json"
FOLLOW_S = 0.2
# A course may have a thousand points, which are kept as a whole.
KEEP_S = 2.0
# A process that dies without a word goes on from its checkpoint; the third death at one place is no accident.
MAX_DEATHS = 3


class Cancelled(Exception):
    """Somebody asked for the end of the run."""


class Stopping(Exception):
    """This process is about to end; the run is left for the next owner."""


class Following:
    """Sees to it that a run's folder holds a result, whatever its processes die of."""

    def __init__(self, stores: Stores, tell: Tell, clock: Clock, grace_s: float) -> None:
        self._stores = stores
        self._tell = tell
        self._clock = clock
        self._grace_s = grace_s

    async def learn(self, run: ClaimedRun, plan: Plan, folder: Folder, stop: asyncio.Event) -> None:
        """Have workers fill the folder with a result. Raises RunFailed, Cancelled or Stopping, the process gone.

        A worker sees by itself that its time is over, where it looks. One that does not, whatever it hangs in, is
        ended when it had the grace besides, counted over all the lives it had here.
        """
        deaths, exit_code, reached = 0, None, await _mark(folder)
        ends_at = self._clock.monotonic() + plan.limit_s + self._grace_s
        if await _settled(folder):
            return
        while deaths < MAX_DEATHS:
            exit_code = await self._follow(run, plan, folder, (stop, ends_at))
            if await _settled(folder):
                return
            if self._clock.monotonic() >= ends_at:
                self._tell.trouble("run_ended", await folder.log_tail(), run.run_id)
                raise out_of_time(plan.limit_s, f"nor {self._grace_s:g} s later: its process was ended")
            before, reached = reached, await _mark(folder)
            # Whatever killed it, it got on: only deaths at the same place say that it cannot go further.
            deaths = 1 if reached != before else deaths + 1
        self._tell.trouble("run_died", await folder.log_tail(), run.run_id)
        raise no_resource(f"the run's process died {MAX_DEATHS} times at the same place without a word, the last time "
                          f"with {exit_code}", "look for the kernel's out-of-memory killer; give it more memory or "
                                               "fewer rows", "process_died")

    async def heed(self, run: ClaimedRun, stop: asyncio.Event) -> None:
        """Raises Stopping or Cancelled when the run is not to go on."""
        if stop.is_set():
            raise Stopping
        if (await self._stores.runs.get(run.run_id)).cancel_requested:
            raise Cancelled

    async def _follow(self, run: ClaimedRun, plan: Plan, folder: Folder,
                      until: tuple[asyncio.Event, float]) -> int | None:
        """One life of the run's process, `until` it is to stop or the clock says so."""
        stop, ends_at = until
        await self.heed(run, stop)
        process = await folder.launch()
        told = kept = b""
        keep_at = self._clock.monotonic()
        try:
            while process.exit_code is None and self._clock.monotonic() < ends_at:
                # A database that is away for a moment is no reason to stop learning.
                with contextlib.suppress(Unavailable):
                    await self.heed(run, stop)
                    told = await self._tell_news(run, plan, folder, told)
                    if told != kept and self._clock.monotonic() >= keep_at:
                        await self._stores.runs.keep_course(run.run_id, run.fence, course_of(told))
                        kept, keep_at = told, self._clock.monotonic() + KEEP_S
                await self._clock.sleep(FOLLOW_S)
        finally:
            await process.kill()
            # Whatever the end is: a course is worth most where the run failed.
            with contextlib.suppress(Unavailable, Refused):
                told = await self._tell_news(run, plan, folder, told)
                await self._stores.runs.keep_course(run.run_id, run.fence, course_of(told))
        return process.exit_code

    async def _tell_news(self, run: ClaimedRun, plan: Plan, folder: Folder, told: bytes) -> bytes:
        """Tell how far the run is, if it got on since `told`; what is told by now."""
        lines = await folder.read(PROGRESS) or b""
        if lines != told and lines.endswith(b"\n"):
            await self._tell_progress(run, plan, lines)
            return lines
        return told

    async def _tell_progress(self, run: ClaimedRun, plan: Plan, lines: bytes) -> None:
        if (figures := latest(lines)) is None:
            return
        progress = progress_of(run, training_pb2.RUN_STATE_RUNNING, self._clock)
        progress.epoch, progress.epochs = figures.pop("epoch"), figures.pop("epochs")
        progress.stage = figures.pop("stage", "")
        figures.pop("at", None)
        progress.metrics.update(figures)
        progress.rows, progress.counted_rows = plan.rows, plan.counted_rows
        await self._stores.runs.progress(run.run_id, run.fence, progress)
        await self._tell.progress(progress)


def progress_of(run: ClaimedRun, state: RunState.ValueType, clock: Clock) -> TrainingProgress:
    progress = TrainingProgress(run_id=run.run_id, command_id=run.command.command_id, model=run.command.model,
                                state=state, reason=run.command.reason)
    progress.at.FromDatetime(clock.now())
    return progress


async def _settled(folder: Folder) -> bool:
    """Whether there is a result. Raises RunFailed with what the worker failed of."""
    if await folder.read(RESULT) is not None:
        return True
    if (failure := await folder.read(FAILURE)) is None:
        return False
    told = json.loads(failure)
    raise RunFailed(told["class"], told["message"], told["remedy"], told.get("name", ""))


async def _mark(folder: Folder) -> tuple[bytes | None, bytes | None]:
    """What a worker saved so far; the same after a death: it got no further."""
    return await folder.read(CHECKPOINT), await folder.read(SEARCH)


