"""The queue of jobs on stored rows, worked through: claimed by lease, done, and said how it ended."""

import asyncio
import logging
from typing import Any

from lepton.clock import Clock
from lepton.contracts.pb import data_pb2
from lepton.contracts.pb.data_pb2 import DataAction, DataCommand
from lepton.errors import Busy, Invalid, LeptonError, Refused, Unavailable
from lepton.runtime.loops import pause
from lepton.runtime.telemetry import Telemetry
from lepton.store.artifacts import Damaged
from lepton.store.datasets.jobs import Claimed, DataJobs
from services.ingest.flow.upkeep.erasing import Erasing
from services.ingest.flow.upkeep.retention import Retention
from services.ingest.flow.upkeep.taking import Taking

LOOK_EVERY_S = 1.0
LEASE_S = 30.0
RETRY_S = 2.0

log = logging.getLogger(__name__)


class Working:
    """Commands in, their effects and their job documents out."""

    def __init__(self, jobs: DataJobs, taking: Taking, erasing: Erasing, retention: Retention,
                 telemetry: Telemetry, clock: Clock) -> None:
        self._jobs = jobs
        self._taking = taking
        self._erasing = erasing
        self._retention = retention
        self._telemetry = telemetry
        self._clock = clock
        self._woken = asyncio.Event()

    async def receive(self, command: DataCommand, order: str) -> bool:
        """Queue a command; False when it was queued before. Raises Invalid for one that lacks its argument."""
        if command.action == data_pb2.DATA_ACTION_ERASE and not command.entity_key:
            raise Invalid("an erasure names no entity", field="entity_key")
        if command.action == data_pb2.DATA_ACTION_DROP_SNAPSHOT and not command.snapshot_id:
            raise Invalid("no snapshot is named", field="snapshot_id")
        new = await self._jobs.enqueue(command, order)
        self._woken.set()
        return new

    async def let_go(self, owner: str) -> None:
        """Jobs that `owner` held are free at once."""
        await self._jobs.let_go(owner)

    async def work(self, owner: str, stop: asyncio.Event) -> None:
        """Until `stop`; a job in hand is finished first, or left to whoever comes next."""
        while not stop.is_set():
            self._woken.clear()
            try:
                job = await self._jobs.claim(owner, LEASE_S)
                if job is not None:
                    await self._do(job)
                    continue
            except Unavailable as error:
                log.warning("jobs on stored rows wait: %s", error.message)
            await pause(stop, LOOK_EVERY_S, self._clock, self._woken)

    async def retain(self, interval_s: float, stop: asyncio.Event) -> None:
        """Look for rows past their retention, every `interval_s`, until `stop`."""
        while not await pause(stop, interval_s, self._clock):
            try:
                await self._retention.keep()
            except LeptonError as error:
                self._telemetry.error("retention_waits", str(error), error.place or "")

    async def _do(self, job: Claimed) -> None:
        name = f"{DataAction.Name(job.command.action).removeprefix('DATA_ACTION_')} {job.command.command_id}"
        try:
            try:
                with self._telemetry.span_from(job.command.traceparent or None, name.partition(" ")[0].lower()):
                    result = await self._act(job)
            except Refused as error:
                if error.field == "fence":
                    raise
                await self._failed(job, name, error)
            except (Unavailable, Busy) as error:
                if isinstance(error, Damaged):
                    await self._failed(job, name, error)
                else:
                    log.warning("%s of %s waits: %s", name, job.command.pipeline, error.message)
                    await self._jobs.put_back(job, str(error), RETRY_S)
            except LeptonError as error:
                await self._failed(job, name, error)
            else:
                await self._jobs.finish(job, result)
                log.info("%s of %s: %s", name, job.command.pipeline, result)
        except Refused as error:
            log.info("%s: %s", name, error.message)

    async def _failed(self, job: Claimed, name: str, error: LeptonError) -> None:
        self._telemetry.error("data_job_failed", f"{name}: {error}", job.command.pipeline)
        await self._jobs.finish(job, {}, str(error))

    async def _act(self, job: Claimed) -> dict[str, Any]:
        async def progress(done: int, total: int) -> None:
            await self._jobs.progress(job, done, total, LEASE_S)

        command = job.command
        if command.action == data_pb2.DATA_ACTION_SNAPSHOT:
            return await self._taking.take(command)
        if command.action == data_pb2.DATA_ACTION_DROP_SNAPSHOT:
            return await self._taking.drop(command)
        return await self._erasing.erase(command, progress)
