"""What is asked of stored rows of those who may change them: snapshots, erasures, corrections; and how far that is."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from lepton.bus.commands.audit import Audit
from lepton.bus.producer import Producer
from lepton.clock import Clock
from lepton.contracts.datasets.erasure import entity_key
from lepton.contracts.pb.data_pb2 import DataAction, DataCommand
from lepton.contracts.topics import Topic
from lepton.errors import Missing
from lepton.runtime import tracing
from lepton.store.datasets.erasures import Salts
from lepton.store.datasets.jobs import QUEUED, DataJobs, Job
from lepton.store.datasets.snapshots import Snapshots
from lepton.store.documents import DocumentDatabase
from services.gateway.core.auth import Caller
from services.gateway.core.datasets.labels import Table, as_lines
from services.gateway.core.requests import Body, Written
from services.gateway.flow.pipelines import Catalogue

__all__ = ["Job", "Orders", "Table", "shown"]

# A command is on the log before ingest has queued it; until then its job is known from here.
MAX_ASKED = 1000
TakeLabels = Callable[[Caller, str, Body], Awaitable[list[Written]]]


class Orders:
    """Ingest does it; a verb returns once the command is durable."""

    def __init__(self, catalogue: Catalogue, producer: Producer, take_labels: TakeLabels, database: DocumentDatabase,
                 audit: Audit, clock: Clock) -> None:
        self._catalogue = catalogue
        self._producer = producer
        self._take_labels = take_labels
        self._salts = Salts(database)
        self._snapshots = Snapshots(database)
        self._jobs = DataJobs(database, clock)
        self._audit = audit
        self._clock = clock
        self._asked: dict[str, Job] = {}

    async def snapshot(self, caller: Caller, name: str, label_until: datetime | None, command_id: str) -> Job:
        """Name the rows that are stored when ingest comes to it; the same rows have one id, however often taken."""
        command = await self._command(caller, name, DataAction.DATA_ACTION_SNAPSHOT, command_id)
        if label_until is not None:
            command.label_until.FromDatetime(label_until.astimezone(UTC))
        return await self._send(caller, "dataset.snapshot", command, name)

    async def drop_snapshot(self, caller: Caller, name: str, snapshot_id: str) -> Job:
        """Forget a snapshot. Raises Missing for one the pipeline does not have."""
        if (await self._snapshots.get(snapshot_id)).pipeline != name:
            raise Missing(f"pipeline {name} has no snapshot {snapshot_id}", field="snapshot")
        command = await self._command(caller, name, DataAction.DATA_ACTION_DROP_SNAPSHOT, "")
        command.snapshot_id = snapshot_id
        return await self._send(caller, "dataset.drop_snapshot", command, snapshot_id)

    async def erase(self, caller: Caller, name: str, entity: str) -> tuple[Job, str]:
        """Take an entity out of every segment and snapshot; the key it is known by from now on.

        Neither the command nor the audit record names the entity: whoever knows it can compute the key.
        """
        command = await self._command(caller, name, DataAction.DATA_ACTION_ERASE, "")
        command.entity_key = entity_key(await self._salts.of(name), entity)
        return await self._send(caller, "dataset.erase", command, f"{name}/{command.entity_key}"), command.entity_key

    async def label(self, caller: Caller, name: str, body: Body | tuple[Table, bytes]) -> list[Written]:
        """Corrections, as late labels: of an event's labels the newest counts. Raises as `Data.take_labels`."""
        if not isinstance(body, Body):
            kind, data = body
            # Megabytes of columns: other requests are answered meanwhile.
            body = Body("ndjson", await asyncio.to_thread(as_lines, await self._catalogue.spec(name), kind, data))
        return await self._take_labels(caller, name, body)

    async def job(self, name: str, job_id: str) -> Job:
        """One asked for here is known at once. Raises Missing."""
        try:
            found = await self._jobs.get(job_id)
        except Missing:
            if job_id not in self._asked:
                raise
            found = self._asked[job_id]
        if found.pipeline != name:
            raise Missing(f"pipeline {name} has no job {job_id}")
        return found

    async def jobs(self, name: str, limit: int) -> list[Job]:
        """Newest first."""
        await self._catalogue.state(name)
        return await self._jobs.list(name, limit)

    async def _command(self, caller: Caller, name: str, action: DataAction.ValueType, command_id: str) -> DataCommand:
        await self._catalogue.state(name)
        short = DataAction.Name(action).removeprefix("DATA_ACTION_").lower().replace("_", "-")
        command = DataCommand(command_id=command_id or f"{short}-{secrets.token_hex(8)}", action=action, pipeline=name,
                              issuer=caller.key_id, traceparent=tracing.traceparent() or "")
        command.issued_at.FromDatetime(self._clock.now())
        return command

    async def _send(self, caller: Caller, what: str, command: DataCommand, object_: str) -> Job:
        await self._audit.record(caller.key_id, what, object_, command.command_id)
        await self._producer.send(Topic.DATA_COMMANDS, command, key=command.pipeline)
        at_s = command.issued_at.ToNanoseconds() / 1e9
        job = Job(command.command_id, command.pipeline, DataAction.Name(command.action).removeprefix("DATA_ACTION_"),
                  QUEUED, command.issuer, at_s, at_s)
        if len(self._asked) >= MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked[job.id] = job
        return job


def shown(job: Job) -> dict[str, Any]:
    """What a client is shown of a job."""
    return {"job_id": job.id, "pipeline": job.pipeline, "action": job.action, "state": job.state,
            "progress": {"done": job.done, "total": job.total}, "result": job.result, "reason": job.reason or None,
            "issuer": job.issuer, "queued_at": datetime.fromtimestamp(job.queued_at_s, UTC).isoformat(),
            "updated_at": datetime.fromtimestamp(job.updated_at_s, UTC).isoformat()}
