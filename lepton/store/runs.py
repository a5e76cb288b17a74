"""The queue of training runs: unique by command id, claimed by lease, one at a time for a model.

Runs that were begun go before others; then counts priority, with one more for each minute waited, then age.
A model's slot (one document) says which run holds it, until when, and with which fence. The fence grows with each
claim of that model, and the run remembers the highest that touched it, so whoever lost the lease can change nothing.
Lease ends are wall time: processes on different machines may disagree by up to MAX_SKEW_S, so a lease is taken over
only that much after its end.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.clock import Clock
from lepton.contracts.pb.training_pb2 import (
    RunFailure,
    RunState,
    TrainingCommand,
    TrainingCourse,
    TrainingKind,
    TrainingProgress,
)
from lepton.errors import Missing, Refused
from lepton.store.documents import Document, DocumentDatabase

# Machines kept by NTP differ by milliseconds; half a second also covers a laptop that just woke up.
MAX_SKEW_S = 0.5

# Waiting so long is worth one point of priority, so that no run waits for ever.
POINT_S = 60.0
MAX_PRIORITY = 100

WAITING = (RunState.RUN_STATE_QUEUED, RunState.RUN_STATE_RUNNING)


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run this owner may execute, for as long as it renews the lease. `fence` goes with every write."""

    run_id: str
    command: TrainingCommand
    fence: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands: what was asked, and how far it got."""

    run_id: str
    command: TrainingCommand
    progress: TrainingProgress
    owner: str
    fence: int
    cancel_requested: bool


def run_id_of(command_id: str) -> str:
    """The run a command starts; known before the command was received."""
    return "run-" + hashlib.sha256(command_id.encode()).hexdigest()[:16]


class Runs:
    """Written by the trainer only."""

    def __init__(self, database: DocumentDatabase, clock: Clock) -> None:
        self._runs = database.collection("runs")
        self._slots = database.collection("run_slots")
        self._courses = database.collection("run_courses")
        self._clock = clock

    async def enqueue(self, command: TrainingCommand) -> bool:
        """Queue the command's run; False, and no effect, when the command was queued before."""
        run_id = run_id_of(command.command_id)
        progress = TrainingProgress(run_id=run_id, command_id=command.command_id, model=command.model,
                                    state=RunState.RUN_STATE_QUEUED, at=self._stamp())
        return await self._runs.insert({
            "_id": run_id, "model": command.model, "state": int(RunState.RUN_STATE_QUEUED), "owner": "", "fence": 0,
            "queued_at_s": self._now_s(), "cancel_requested": False, "kind": int(command.kind),
            "priority": max(-MAX_PRIORITY, min(MAX_PRIORITY, command.priority)), "artefacts": [],
            "command": command.SerializeToString(deterministic=True),
            "progress": progress.SerializeToString(deterministic=True)})

    async def record(self, command: TrainingCommand, state: RunState.ValueType, version: int = 0,
                     failure: RunFailure | None = None, metrics: Mapping[str, float] | None = None,
                     ) -> TrainingProgress | None:
        """A command that was carried out without a queue, as a run that is over; None when it is known already."""
        progress = TrainingProgress(run_id=run_id_of(command.command_id), command_id=command.command_id,
                                    model=command.model, state=state, version=version, failure=failure,
                                    metrics=dict(metrics or {}), at=self._stamp())
        inserted = await self._runs.insert({
            "_id": progress.run_id, "model": command.model, "state": int(state), "owner": "", "fence": 0,
            "queued_at_s": self._now_s(), "cancel_requested": False, "kind": int(command.kind), "priority": 0,
            "artefacts": [], "command": command.SerializeToString(deterministic=True),
            "progress": progress.SerializeToString(deterministic=True)})
        return progress if inserted else None

    async def claim(self, owner: str, lease_s: float, kind: TrainingKind.ValueType | None = None) -> ClaimedRun | None:
        """The first run (of a kind) whose model is free, leased to `owner` for `lease_s`; None when there is none.

        A run whose owner let its lease run out is given again, with a higher fence, before any that was not begun.
        """
        waiting = await self._runs.find({"state": {"$in": [int(state) for state in WAITING]}}, order="queued_at_s")
        now = self._now_s()
        waiting.sort(key=lambda one: (one["state"] != int(RunState.RUN_STATE_RUNNING), -_rank(one, now)))
        tried: set[str] = set()
        for document in waiting:
            if kind is not None and document.get("kind") != int(kind):
                continue
            model = str(document["model"])
            if model in tried:
                continue
            tried.add(model)
            claimed = await self._claim(document, owner, lease_s)
            if claimed is not None:
                return claimed
        return None

    async def renew(self, run_id: str, fence: int, lease_s: float) -> None:
        """Keep the lease for another `lease_s`. Raises Refused when it was lost."""
        run = await self._document(run_id)
        kept = await self._slots.swap(str(run["model"]), {"run_id": run_id, "fence": fence},
                                      {"until_s": self._now_s() + lease_s})
        if not kept:
            raise _lost(run_id, fence)

    async def progress(self, run_id: str, fence: int, progress: TrainingProgress) -> None:
        """Keep the latest progress of a running run. Raises Refused when the lease was lost or the run is over."""
        await self._write(run_id, fence, progress)

    async def keep_course(self, run_id: str, fence: int, course: TrainingCourse) -> None:
        """Keep how the run went so far, in place of what was kept. Raises Refused when a later owner kept one.

        Apart from the run: whoever looks through the queue reads whole runs.
        """
        kept = {"fence": fence, "course": course.SerializeToString(deterministic=True)}
        if not (await self._courses.swap(run_id, {"fence": {"$lte": fence}}, kept)
                or await self._courses.insert({"_id": run_id, **kept})):
            raise _lost(run_id, fence)

    async def course(self, run_id: str) -> TrainingCourse:
        """How it went so far; empty before it told anything, and for an unknown run."""
        kept = await self._courses.get(run_id)
        return TrainingCourse.FromString(kept["course"]) if kept is not None else TrainingCourse()

    async def finish(self, run_id: str, fence: int, state: RunState.ValueType, version: int = 0,
                     failure: RunFailure | None = None) -> TrainingProgress:
        """End the run in `state` and free its model; the same call again has no second effect.

        Raises Refused when the lease was lost, or the run ended in another state.
        """
        document = await self._document(run_id)
        progress = TrainingProgress.FromString(document["progress"])
        if progress.state == state and document["fence"] == fence:
            await self._free(str(document["model"]), fence)
            return progress
        progress.state = state
        progress.version = version
        progress.at.CopyFrom(self._stamp())
        if failure is not None:
            progress.failure.CopyFrom(failure)
        await self._write(run_id, fence, progress)
        await self._free(str(document["model"]), fence)
        return progress

    async def note(self, run_id: str, fence: int, artefacts: Sequence[str]) -> None:
        """Remember digests the run is about to store, before it does. Raises Refused when the lease was lost."""
        known = (await self._document(run_id)).get("artefacts", [])
        noted = await self._runs.swap(run_id, {"fence": fence, "state": int(RunState.RUN_STATE_RUNNING)},
                                      {"artefacts": sorted({*known, *artefacts})})
        if not noted:
            raise _lost(run_id, fence)

    async def noted(self, run_id: str) -> frozenset[str]:
        """Digests any owner of the run may have stored, and no other run that is under way."""
        mine = frozenset(str(one) for one in (await self._document(run_id)).get("artefacts", []))
        return mine - await self.wanted(but=run_id)

    async def wanted(self, but: str = "") -> frozenset[str]:
        """Digests that runs under way (all `but` one) are about to publish: nobody may remove them."""
        open_runs = await self._runs.find({"state": {"$in": [int(state) for state in WAITING]}})
        return frozenset(str(digest) for one in open_runs if one["_id"] != but for digest in one.get("artefacts", []))

    async def get(self, run_id: str) -> Run:
        """Raises Missing for an unknown run."""
        return _run(await self._document(run_id))

    async def under_way(self) -> Sequence[Run]:
        """Every run that waits or runs."""
        found = await self._runs.find({"state": {"$in": [int(state) for state in WAITING]}})
        return [_run(document) for document in found]

    async def list(self, model: str | None = None, limit: int = 100) -> list[Run]:
        """Newest first; of one model, or of all."""
        match = {} if model is None else {"model": model}
        return [_run(document) for document in await self._runs.find(match, order="-queued_at_s", limit=limit)]

    async def cancel(self, run_id: str) -> RunState.ValueType:
        """Ask for the end of a run: a queued one is cancelled now, a running one by its owner. Again is harmless."""
        document = await self._document(run_id)
        progress = TrainingProgress.FromString(document["progress"])
        progress.state = RunState.RUN_STATE_CANCELLED
        progress.at.CopyFrom(self._stamp())
        cancelled = await self._runs.swap(
            run_id, {"state": int(RunState.RUN_STATE_QUEUED)},
            {"state": int(progress.state), "progress": progress.SerializeToString(deterministic=True),
             "cancel_requested": True})
        if cancelled:
            return progress.state
        await self._runs.swap(run_id, {"state": int(RunState.RUN_STATE_RUNNING)}, {"cancel_requested": True})
        return (await self.get(run_id)).progress.state

    async def let_go(self, owner: str) -> None:
        """End every lease of `owner` now, so that its runs can be claimed at once: by a process that stops, or by one
        that was started again under the name of one that died."""
        for slot in await self._slots.find({"owner": owner}):
            await self._slots.swap(str(slot["_id"]), {"owner": owner, "fence": slot["fence"]}, {"until_s": 0.0})

    async def _claim(self, document: Document, owner: str, lease_s: float) -> ClaimedRun | None:
        model, run_id = str(document["model"]), str(document["_id"])
        fence = await self._take_slot(model, run_id, owner, lease_s)
        if fence is None:
            return None
        progress = TrainingProgress.FromString(document["progress"])
        progress.state = RunState.RUN_STATE_RUNNING
        progress.at.CopyFrom(self._stamp())
        started = await self._runs.swap(
            run_id, {"state": {"$in": [int(state) for state in WAITING]}, "fence": {"$lt": fence}},
            {"state": int(progress.state), "owner": owner, "fence": fence,
             "progress": progress.SerializeToString(deterministic=True)})
        if not started:
            # It ended, or was cancelled, since it was listed.
            await self._free(model, fence)
            return None
        return ClaimedRun(run_id, TrainingCommand.FromString(document["command"]), fence)

    async def _take_slot(self, model: str, run_id: str, owner: str, lease_s: float) -> int | None:
        now = self._now_s()
        slot = await self._slots.get(model)
        if slot is None:
            taken = await self._slots.insert(
                {"_id": model, "run_id": run_id, "owner": owner, "fence": 1, "until_s": now + lease_s})
            return 1 if taken else None
        held = bool(slot["run_id"]) and now < slot["until_s"] + MAX_SKEW_S
        if held and not await self._is_over(str(slot["run_id"])):
            return None
        fence = int(slot["fence"]) + 1
        taken = await self._slots.swap(model, {"fence": slot["fence"], "until_s": slot["until_s"]},
                                       {"run_id": run_id, "owner": owner, "fence": fence, "until_s": now + lease_s})
        return fence if taken else None

    async def _is_over(self, run_id: str) -> bool:
        document = await self._runs.get(run_id)
        return document is None or document["state"] not in [int(state) for state in WAITING]

    async def _free(self, model: str, fence: int) -> None:
        await self._slots.swap(model, {"fence": fence}, {"run_id": "", "owner": ""})

    async def _write(self, run_id: str, fence: int, progress: TrainingProgress) -> None:
        written = await self._runs.swap(
            run_id, {"fence": fence, "state": int(RunState.RUN_STATE_RUNNING)},
            {"state": int(progress.state), "progress": progress.SerializeToString(deterministic=True)})
        if not written:
            raise _lost(run_id, fence)

    async def _document(self, run_id: str) -> Document:
        document = await self._runs.get(run_id)
        if document is None:
            raise Missing(f"there is no run {run_id}")
        return document

    def _now_s(self) -> float:
        return self._clock.now().timestamp()

    def _stamp(self) -> Timestamp:
        stamp = Timestamp()
        stamp.FromDatetime(self._clock.now())
        return stamp


def _rank(document: Document, now_s: float) -> float:
    return float(document.get("priority", 0)) + (now_s - float(document["queued_at_s"])) / POINT_S


def _lost(run_id: str, fence: int) -> Refused:
    return Refused(f"run {run_id} is no longer held with fence {fence}", field="fence",
                   remedy="stop working on it; another owner has it, or it is over")


def _run(document: Document) -> Run:
    return Run(str(document["_id"]), TrainingCommand.FromString(document["command"]),
               TrainingProgress.FromString(document["progress"]), str(document["owner"]), int(document["fence"]),
               bool(document["cancel_requested"]))
