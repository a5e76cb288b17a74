"""How stored segments change after they were written: rows erased from them, whole ones dropped, bytes let go of.

Offsets never change and heads keep their `next`, so nothing is read from the log twice. A rewritten segment has other
bytes under another digest; `segment_rewrites` says which, so that a snapshot, which names the digests it was taken
with, finds what is left of its rows. The bytes of a segment name their pipeline, so a digest belongs to one pipeline.
"""

from collections.abc import Collection
from dataclasses import dataclass

from lepton.store.artifacts import Artifacts, sha256_hex
from lepton.store.documents import Document, DocumentDatabase


@dataclass(frozen=True, slots=True)
class Stored:
    """One segment without its bytes; `id` is that of its document."""

    id: str
    stream: str
    generation: int
    partition: int
    first: int
    next: int
    rows: int
    digest: str
    erased_rows: int = 0
    erasures: int = 0


class Upkeep:
    """Written by ingest only."""

    def __init__(self, database: DocumentDatabase) -> None:
        self._segments = database.collection("segments")
        self._heads = database.collection("segment_heads")
        self._rewrites = database.collection("segment_rewrites")
        self._artifacts = Artifacts(database)

    async def segments(self, pipeline: str, stream: str, generation: int | None = None) -> list[Stored]:
        """Every segment of a stream that is kept, of one generation or of all, partition after partition."""
        where: Document = {"pipeline": pipeline, "stream": stream, "dropped": {"$ne": True}}
        if generation is not None:
            where["generation"] = generation
        found = [_stored(document) for document in await self._segments.find(where)]
        return sorted(found, key=lambda one: (one.generation, one.partition, one.first))

    async def last(self, pipeline: str, stream: str, generation: int, partition: int) -> Stored | None:
        """The newest segment of a chain."""
        found = await self._segments.find({"pipeline": pipeline, "stream": stream, "generation": generation,
                                           "partition": partition}, order="-first", limit=1)
        return _stored(found[0]) if found else None

    async def at(self, pipeline: str, stream: str, generation: int, partition: int, first: int) -> Stored | None:
        """The segment that begins at `first`."""
        found = await self._segments.find({"pipeline": pipeline, "stream": stream, "generation": generation,
                                           "partition": partition, "first": first}, limit=1)
        return _stored(found[0]) if found else None

    async def erased_rows(self, pipeline: str, stream: str, generation: int) -> int:
        """Rows erased from segments that are kept."""
        found = await self._segments.find({"pipeline": pipeline, "stream": stream, "generation": generation,
                                           "erased_rows": {"$gt": 0}, "dropped": {"$ne": True}})
        return sum(int(document["erased_rows"]) for document in found)

    async def load(self, digest: str) -> bytes:
        """Raises Missing, or Damaged."""
        return await self._artifacts.get(digest)

    async def store(self, pipeline: str, old: str, data: bytes, *, stream: str, removed: int, job: str) -> str:
        """Keep what is left of the artefact `old` and say so; the new digest. The same again changes nothing."""
        new = sha256_hex(data)
        await self._artifacts.put(data)
        await self._rewrites.insert({"_id": f"{pipeline}:{old}", "pipeline": pipeline, "old": old, "new": new,
                                     "stream": stream, "removed": removed, "job": job, "released": False})
        return new

    async def replace(self, segment: Stored, digest: str, removed: int, erasures: int) -> bool:
        """Have the segment hold the artefact `digest`, with `removed` rows less; False when it changed meanwhile."""
        return await self._segments.swap(segment.id, {"digest": segment.digest}, {
            "digest": digest, "rows": segment.rows - removed, "erased_rows": segment.erased_rows + removed,
            "erasures": max(erasures, segment.erasures)})

    async def judged(self, segment: Stored, erasures: int) -> None:
        """Note that nobody of the list `erasures` is in the segment."""
        await self._segments.swap(segment.id, {"digest": segment.digest}, {"erasures": erasures})

    async def rewrites(self, pipeline: str) -> dict[str, tuple[str, int, str, str]]:
        """By old digest: the new one, the rows removed, the job that did it, the stream."""
        return {str(one["old"]): (str(one["new"]), int(one["removed"]), str(one["job"]), str(one["stream"]))
                for one in await self._rewrites.find({"pipeline": pipeline})}

    async def release_rewritten(self, pipeline: str) -> int:
        """Remove the bytes of artefacts that were rewritten and that no segment holds any more; how many."""
        gone = 0
        for one in await self._rewrites.find({"pipeline": pipeline, "released": False}):
            if not await self._held(str(one["old"])):
                await self._artifacts.delete(str(one["old"]))
                await self._rewrites.swap(str(one["_id"]), {}, {"released": True})
                gone += 1
        return gone

    async def release(self, digests: Collection[str], pinned: Collection[str]) -> None:
        """Remove the bytes of those that no segment holds and that are not `pinned` by a snapshot."""
        for digest in sorted(set(digests)):
            if digest not in pinned and not await self._held(digest):
                await self._artifacts.delete(digest)

    async def stamp(self, pipeline: str, now_s: float) -> None:
        """Give segments of before retention was counted a time to count from."""
        for document in await self._segments.find({"pipeline": pipeline, "stored_at_s": None}):
            await self._segments.swap(str(document["_id"]), {"stored_at_s": None}, {"stored_at_s": now_s})

    async def begin_drop(self, pipeline: str, before_s: float) -> list[Stored]:
        """Mark segments stored before `before_s` (epoch seconds) as dropped; all that are marked and still there.

        Only what lies behind the stored head: it is what keeps the chain's end.
        """
        heads = {str(head["_id"]): int(head["next"]) for head in await self._heads.find({"pipeline": pipeline})}
        for document in await self._segments.find({"pipeline": pipeline, "stored_at_s": {"$lt": before_s}}):
            if not document.get("dropped") and int(document["next"]) <= heads.get(_chain_of(document), 0):
                await self._segments.swap(str(document["_id"]), {"digest": document["digest"]}, {"dropped": True})
        return [_stored(document) for document in await self._segments.find({"pipeline": pipeline, "dropped": True})]

    async def end_drop(self, segments: Collection[Stored], pinned: Collection[str]) -> None:
        """Forget dropped segments, and their bytes unless `pinned`; heads remember how many rows they were."""
        for segment in segments:
            document = await self._segments.get(segment.id)
            if document is None:
                continue
            await self._heads.swap(_chain_of(document), {"dropped_rows": {"$lt": document["rows_until"]}}, {
                "dropped_rows": document["rows_until"], "dropped_bytes": document["bytes_until"]})
            await self._heads.swap(_chain_of(document), {"dropped_rows": None}, {
                "dropped_rows": document["rows_until"], "dropped_bytes": document["bytes_until"]})
            if segment.digest not in pinned and not await self._held(segment.digest, but=segment.id):
                await self._artifacts.delete(segment.digest)
            await self._segments.delete({"_id": segment.id})

    async def _held(self, digest: str, but: str = "") -> bool:
        holders = await self._segments.find({"digest": digest}, limit=2)
        return any(document["_id"] != but for document in holders)


def _chain_of(document: Document) -> str:
    return str(document["_id"]).rpartition(":")[0]


def _stored(document: Document) -> Stored:
    return Stored(str(document["_id"]), str(document["stream"]), int(document["generation"]),
                  int(document["partition"]), int(document["first"]), int(document["next"]), int(document["rows"]),
                  str(document["digest"]), int(document.get("erased_rows", 0)), int(document.get("erasures", 0)))
