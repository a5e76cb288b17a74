"""One person's rows, out of every segment and snapshot of a pipeline, in all generations; done again, no second effect.

In this order, so that a process killed anywhere can begin anew: the list first (from then on no writer brings the rows
back), then the keys of the person's events, then outcomes, then features, then what snapshots say, then the old bytes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from lepton.clock import Clock
from lepton.contracts import features, topics
from lepton.contracts.pb.data_pb2 import DataCommand
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Missing, Refused
from lepton.store.artifacts import Damaged
from lepton.store.datasets.erasures import Erased, Erasures
from lepton.store.datasets.snapshots import FEATURES, OUTCOMES, Snapshots
from lepton.store.datasets.upkeep import Stored, Upkeep
from lepton.store.documents import DocumentDatabase
from services.ingest.core.persons import rows as persons
from services.ingest.flow.upkeep.forgetting import Forgetting, taken_out

Progress = Callable[[int, int], Awaitable[None]]
"""(segments done, segments in all); raises Refused when the job was taken over."""

_DAY_S = 86_400.0
# A log file is deleted as a whole, so its first records outlive their retention by the file's length.
_FILE_SHARE = 0.25


def logs_forget_after_s() -> float:
    """Seconds after which no topic of a pipeline can hold a row that was accepted before."""
    kept_ms = max(topics.spec(topic).retention_ms for topic in (
        Topic.EVENTS, Topic.LABELS, Topic.FEATURES, Topic.OUTCOMES))
    return kept_ms / 1000 * (1 + _FILE_SHARE) + _DAY_S


class Erasing:
    """Does ERASE commands."""

    def __init__(self, database: DocumentDatabase, forgetting: Forgetting, clock: Clock) -> None:
        self._erasures = Erasures(database)
        self._upkeep = Upkeep(database)
        self._snapshots = Snapshots(database)
        self._forgetting = forgetting
        self._clock = clock

    async def erase(self, command: DataCommand, progress: Progress) -> dict[str, Any]:
        """What was taken out. Raises Damaged, once everything else is done, when segments could not be read."""
        if not command.entity_key:
            raise Refused("the command names no entity", field="entity_key")
        job, pipeline = command.command_id, command.pipeline
        now_s = self._clock.now().timestamp()
        await self._erasures.add(pipeline, job, command.entity_key, now_s + logs_forget_after_s())
        sweep = _Sweep(self, job, pipeline, progress)
        await sweep.remember_events(command.entity_key)
        await sweep.rewrite(OUTCOMES)
        await sweep.rewrite(FEATURES)
        await self._upkeep.release_rewritten(pipeline)
        touched = await self._snapshots.mark_erased(pipeline, job, now_s)
        if sweep.damaged:
            some = ", ".join(sorted(sweep.damaged)[:5])
            raise Damaged(f"{len(sweep.damaged)} segments cannot be read, so the entity may still be in them: {some}",
                          remedy="restore their artefacts from a backup, then erase again")
        counts = {FEATURES: 0, OUTCOMES: 0}
        for _, rows, by, stream in (await self._upkeep.rewrites(pipeline)).values():
            counts[stream] += rows if by == job else 0
        return {"rows": counts[FEATURES], "outcomes": counts[OUTCOMES], "snapshots": touched}


class _Sweep:
    """One erasure's walk over everything that is stored."""

    def __init__(self, erasing: Erasing, job: str, pipeline: str, progress: Progress) -> None:
        self._erasures, self._upkeep = erasing._erasures, erasing._upkeep
        self._snapshots, self._forgetting = erasing._snapshots, erasing._forgetting
        self._job, self._pipeline, self._progress = job, pipeline, progress
        self._done = self._total = 0
        self.damaged: set[str] = set()

    async def remember_events(self, entity_key: str) -> None:
        """Know the person's events by their ids' keys, before the rows that tell them are gone."""
        erased = await self._forgetting.known(self._pipeline)
        keys = set(await self._erasures.events_of(self._job))
        for digest in await self._digests(FEATURES):
            data = await self._load(digest)
            if data is not None:
                keys |= await asyncio.to_thread(_keys_in, data, erased.salt, entity_key)
        await self._erasures.remember_events(self._pipeline, self._job, keys)

    async def rewrite(self, stream: str) -> None:
        """Take the rows out of each segment, then out of what only snapshots hold."""
        erased = await self._forgetting.known(self._pipeline)
        segments = await self._upkeep.segments(self._pipeline, stream)
        self._total += len(segments)
        for segment in segments:
            await self._clean(segment, erased)
        for digest in await self._pinned_only(stream):
            data = await self._load(digest)
            if data is not None:
                left, removed = await asyncio.to_thread(taken_out, stream, data, erased)
                if removed:
                    await self._upkeep.store(self._pipeline, digest, left, stream=stream, removed=removed,
                                             job=self._job)

    async def _clean(self, segment: Stored, erased: Erased) -> None:
        # A writer may settle the same segment at the same time; whoever comes second finds it changed and looks again.
        now: Stored | None = segment
        while now is not None and now.erasures < erased.seq:
            before = now
            try:
                await self._forgetting.clean(self._pipeline, now, erased, self._job)
            except (Damaged, Missing, Invalid):
                now = await self._again(before)
                if now is not None and now.digest == before.digest:
                    self.damaged.add(before.id)
                    break
            else:
                now = await self._again(before)
        await self._step()

    async def _again(self, segment: Stored) -> Stored | None:
        return await self._upkeep.at(self._pipeline, segment.stream, segment.generation, segment.partition,
                                     segment.first)

    async def _load(self, digest: str) -> bytes | None:
        """None for what cannot be read, which the job then says at its end."""
        await self._step()
        try:
            return await self._upkeep.load(digest)
        except (Damaged, Missing):
            self.damaged.add(digest)
            return None

    async def _digests(self, stream: str) -> list[str]:
        held = [segment.digest for segment in await self._upkeep.segments(self._pipeline, stream)]
        self._total += len(held)
        return sorted({*held, *await self._pinned_only(stream)})

    async def _pinned_only(self, stream: str) -> list[str]:
        held = {segment.digest for segment in await self._upkeep.segments(self._pipeline, stream)}
        try:
            pinned = await self._snapshots.pinned(self._pipeline)
        except Damaged as error:
            self.damaged.add(f"manifest {error.place}")
            return []
        found = sorted(digest for digest, of in pinned.items() if of == stream and digest not in held)
        self._total += len(found)
        return found

    async def _step(self) -> None:
        self._done += 1
        await self._progress(min(self._done, self._total), self._total)


def _keys_in(data: bytes, salt: bytes, key: str) -> set[bytes]:
    table = features.decode_table(data)
    return persons.event_keys(FEATURES, table, salt, persons.of_entities(FEATURES, table, salt, {key}))
