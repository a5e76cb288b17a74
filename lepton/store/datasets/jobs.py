"""What was asked of stored rows and how far it is: one document a command, worked through one at a time a pipeline.

The command's id is the job's, so a second delivery queues nothing. Of a pipeline only the oldest unfinished job may be
claimed; the lease gives a fence that grows with each claim, and whoever lost the lease can change nothing.
"""

from dataclasses import dataclass, field
from typing import Any

from lepton.clock import Clock
from lepton.contracts.pb.data_pb2 import DataAction, DataCommand
from lepton.errors import Missing, Refused
from lepton.store.documents import Document, DocumentDatabase
from lepton.store.runs import MAX_SKEW_S

QUEUED, RUNNING, DONE, FAILED = "QUEUED", "RUNNING", "DONE", "FAILED"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job this owner may do, for as long as it keeps the lease."""

    command: DataCommand
    fence: int


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. `done` of `total` are segments looked at; `reason` says why it waits or failed."""

    id: str
    pipeline: str
    action: str
    state: str
    issuer: str
    queued_at_s: float
    updated_at_s: float
    done: int = 0
    total: int = 0
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)


class DataJobs:
    """Written by ingest only; read by the gateway."""

    def __init__(self, database: DocumentDatabase, clock: Clock) -> None:
        self._jobs = database.collection("data_jobs")
        self._clock = clock

    async def enqueue(self, command: DataCommand, order: str) -> bool:
        """Queue a command; False, and no effect, when it was before. `order` sorts the commands of a pipeline."""
        now = self._now_s()
        return await self._jobs.insert({
            "_id": command.command_id, "pipeline": command.pipeline, "state": QUEUED, "order": order, "owner": "",
            "action": DataAction.Name(command.action).removeprefix("DATA_ACTION_"), "issuer": command.issuer,
            "command": command.SerializeToString(deterministic=True), "fence": 0, "until_s": 0.0, "done": 0,
            "total": 0, "result": {}, "reason": "", "queued_at_s": now, "updated_at_s": now})

    async def claim(self, owner: str, lease_s: float) -> Claimed | None:
        """The oldest job whose turn it is in its pipeline, leased for `lease_s`; None when there is none."""
        now = self._now_s()
        first: dict[str, Document] = {}
        for document in await self._jobs.find({"state": {"$in": [QUEUED, RUNNING]}}, order="order"):
            first.setdefault(str(document["pipeline"]), document)
        for document in first.values():
            skew_s = MAX_SKEW_S if document["state"] == RUNNING else 0.0
            if document["until_s"] and now < document["until_s"] + skew_s:
                continue
            fence = int(document["fence"]) + 1
            if await self._jobs.swap(str(document["_id"]), {"fence": document["fence"], "until_s": document["until_s"]},
                                     {"state": RUNNING, "owner": owner, "fence": fence, "until_s": now + lease_s,
                                      "updated_at_s": now}):
                return Claimed(DataCommand.FromString(document["command"]), fence)
        return None

    async def progress(self, job: Claimed, done: int, total: int, lease_s: float) -> None:
        """Say how far it is, and keep the lease. Raises Refused when it was lost."""
        now = self._now_s()
        await self._write(job, {"done": done, "total": total, "until_s": now + lease_s, "updated_at_s": now})

    async def put_back(self, job: Claimed, reason: str, retry_s: float) -> None:
        """Let it wait `retry_s` for what is away. Raises Refused when the lease was lost."""
        now = self._now_s()
        await self._write(job, {"state": QUEUED, "owner": "", "reason": reason, "until_s": now + retry_s,
                                "updated_at_s": now})

    async def finish(self, job: Claimed, result: dict[str, Any], failure: str = "") -> None:
        """End it. Raises Refused when the lease was lost: then another does it again, with the same effect."""
        await self._write(job, {"state": FAILED if failure else DONE, "owner": "", "result": result, "reason": failure,
                                "until_s": 0.0, "updated_at_s": self._now_s()})

    async def let_go(self, owner: str) -> None:
        """End every lease of `owner` now: it stops, or was started again under the name of one that died."""
        for document in await self._jobs.find({"state": RUNNING, "owner": owner}):
            await self._jobs.swap(str(document["_id"]), {"owner": owner, "fence": document["fence"]},
                                  {"state": QUEUED, "owner": "", "until_s": 0.0})

    async def get(self, job_id: str) -> Job:
        """Raises Missing for one that was never asked for, or that ingest has not heard of yet."""
        document = await self._jobs.get(job_id)
        if document is None:
            raise Missing(f"there is no job {job_id} yet", remedy="ask again in a moment; see `lepton status`")
        return _job(document)

    async def list(self, pipeline: str, limit: int) -> list[Job]:
        """Newest first."""
        return [_job(one) for one in await self._jobs.find({"pipeline": pipeline}, order="-queued_at_s", limit=limit)]

    async def _write(self, job: Claimed, changes: Document) -> None:
        if not await self._jobs.swap(job.command.command_id, {"fence": job.fence, "state": RUNNING}, changes):
            raise Refused(f"job {job.command.command_id} was taken over by another process", field="fence")

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _job(document: Document) -> Job:
    return Job(str(document["_id"]), str(document["pipeline"]), str(document["action"]), str(document["state"]),
               str(document["issuer"]), float(document["queued_at_s"]), float(document["updated_at_s"]),
               int(document["done"]), int(document["total"]), str(document["reason"]), dict(document["result"]))
