"""Snapshots: row sets that never change, named by what is in them.

A snapshot's id is the SHA-256 of its manifest, which is kept as an artefact under that id: the same rows give the same
id, whoever takes them and however often. A snapshot holds on to the bytes of its segments when retention drops those.
Only erasing a person changes what reading it gives: the same rows less the erased, and `erased` says how many.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from lepton.errors import Busy, Invalid, Missing
from lepton.store.artifacts import Artifacts, Damaged
from lepton.store.datasets.upkeep import Stored, Upkeep
from lepton.store.documents import Document, DocumentDatabase
from lepton.store.segments import Segment

FEATURES, OUTCOMES = "features", "outcomes"
_FORMAT = 1
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment of a snapshot, as it was when the snapshot was taken."""

    stream: str
    generation: int
    partition: int
    first: int
    next: int
    rows: int
    digest: str

    @property
    def place(self) -> tuple[str, int, int, int]:
        """What pieces are in order of."""
        return (self.stream, self.generation, self.partition, self.first)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot is, in full. Outcomes whose label time is after `label_until` (RFC 3339 UTC) do not count.

    `generation` is the pipeline's when it was taken; rows of those before it that still fit are in it too.
    """

    pipeline: str
    generation: int
    spec_digest: str
    label_until: str | None
    pieces: tuple[Piece, ...]

    @property
    def id(self) -> str:
        return hashlib.sha256(self.canonical()).hexdigest()

    def canonical(self) -> bytes:
        """JSON with sorted keys and no spaces: streams, generations, partitions, each with its offsets and segments."""
        streams: dict[str, dict[str, Any]] = {FEATURES: {}, OUTCOMES: {}}
        for one in sorted(self.pieces, key=lambda piece: piece.place):
            parts = streams[one.stream].setdefault(str(one.generation), {})
            part = parts.setdefault(str(one.partition), {"first": one.first, "segments": []})
            part["next"] = one.next
            part["segments"].append([one.first, one.next, one.rows, one.digest])
        return json.dumps({
            "format": _FORMAT, "generation": self.generation, "label_until": self.label_until,
            "pipeline": self.pipeline, "spec_digest": self.spec_digest, "streams": streams,
        }, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def rows(self, stream: str) -> int:
        return sum(piece.rows for piece in self.pieces if piece.stream == stream)

    @classmethod
    def read(cls, data: bytes) -> "Manifest":
        """The inverse of `canonical`. Raises Invalid for a form this version does not know."""
        try:
            told = json.loads(data)
            if told["format"] != _FORMAT:
                raise Invalid(f"a manifest of format {told['format']} is not known here", field="format")
            pieces = [Piece(stream, int(generation), int(partition), *segment)
                      for stream, generations in told["streams"].items() for generation, parts in generations.items()
                      for partition, part in parts.items() for segment in part["segments"]]
            return cls(told["pipeline"], told["generation"], told["spec_digest"], told["label_until"],
                       tuple(sorted(pieces, key=lambda one: one.place)))
        except (ValueError, KeyError, TypeError) as error:
            raise Invalid("not the manifest of a snapshot") from error


@dataclass(frozen=True, slots=True)
class Erasure:
    """One person's rows that are no longer in a snapshot."""

    job: str
    at_s: float
    rows: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot without its manifest. `rows` and `outcomes` are as taken, `erased` what was taken out since."""

    id: str
    pipeline: str
    generation: int
    spec_digest: str
    spec_json: str
    label_until: str | None
    rows: int
    outcomes: int
    created_at_s: float
    created_by: str
    erased: tuple[Erasure, ...]


class Snapshots:
    """Written by ingest only; read by the gateway and the trainer."""

    def __init__(self, database: DocumentDatabase) -> None:
        self._documents = database.collection("snapshots")
        self._artifacts = Artifacts(database)
        self._upkeep = Upkeep(database)

    async def create(self, manifest: Manifest, spec_json: str, created_at_s: float, created_by: str) -> bool:
        """Keep it; False, and no effect, when it was taken before. Its artefact is there before its document is."""
        await self._artifacts.put(manifest.canonical())
        return await self._documents.insert({
            "_id": manifest.id, "pipeline": manifest.pipeline, "generation": manifest.generation,
            "spec_digest": manifest.spec_digest, "spec_json": spec_json, "label_until": manifest.label_until,
            "rows": manifest.rows(FEATURES), "outcomes": manifest.rows(OUTCOMES), "created_at_s": created_at_s,
            "created_by": created_by, "erased": []})

    async def get(self, snapshot_id: str) -> Snapshot:
        """Raises Missing for an unknown one."""
        document = await self._documents.get(snapshot_id)
        if document is None or document.get("dropping"):
            raise Missing(f"there is no snapshot {snapshot_id}", remedy="see `lepton datasets snapshots`")
        return _snapshot(document)

    async def list(self, pipeline: str, limit: int = 0) -> list[Snapshot]:
        """Newest first; `limit` 0: all."""
        return [_snapshot(one) for one in await self._documents.find(
            {"pipeline": pipeline, "dropping": {"$ne": True}}, order="-created_at_s", limit=limit)]

    async def manifest(self, snapshot_id: str) -> Manifest:
        """Raises Missing for an unknown snapshot, Damaged when its manifest is broken or gone."""
        try:
            return Manifest.read(await self._artifacts.get(snapshot_id))
        except Missing as error:
            await self.get(snapshot_id)
            raise _gone(snapshot_id, snapshot_id) from error

    async def pinned(self, pipeline: str) -> dict[str, str]:
        """Digests that snapshots of the pipeline hold on to, as they are now, each with its stream."""
        rewrites = await self._upkeep.rewrites(pipeline)
        return {_followed(rewrites, piece.digest): piece.stream
                for one in await self.list(pipeline) for piece in (await self.manifest(one.id)).pieces}

    async def read(self, snapshot: Snapshot, stream: str) -> AsyncIterator[Segment]:
        """The snapshot's segments of a stream, partition after partition, less what was erased since.

        Raises Damaged when the bytes of one are broken or gone: a snapshot is whole or it is not read.
        """
        manifest = await self.manifest(snapshot.id)
        rewrites = await self._upkeep.rewrites(snapshot.pipeline)
        for piece in manifest.pieces:
            if piece.stream != stream:
                continue
            digest = _followed(rewrites, piece.digest)
            try:
                data = await self._artifacts.get(digest)
            except Missing:
                # Somebody may have been erased since the rewrites were read.
                rewrites = await self._upkeep.rewrites(snapshot.pipeline)
                digest = _followed(rewrites, piece.digest)
                try:
                    data = await self._artifacts.get(digest)
                except Missing as error:
                    raise _gone(snapshot.id, digest) from error
            yield Segment(stream, snapshot.pipeline, piece.generation, piece.partition, piece.first, piece.next,
                          piece.rows, digest, data)

    async def mark_erased(self, pipeline: str, job: str, at_s: float) -> int:
        """Have each snapshot that `job` took rows from say so, once; how many snapshots those are."""
        rewrites = await self._upkeep.rewrites(pipeline)
        touched = 0
        for one in await self.list(pipeline):
            rows = sum(_removed(rewrites, piece.digest, job) for piece in (await self.manifest(one.id)).pieces
                       if piece.stream == FEATURES)
            if rows:
                touched += 1
                await self._add_erased(one.id, {"job": job, "at_s": at_s, "rows": rows})
        return touched

    async def drop(self, snapshot_id: str, pipeline: str) -> bool:
        """Forget a snapshot, and every artefact nothing else holds; False when the pipeline has none of that id."""
        document = await self._documents.get(snapshot_id)
        if document is None or document["pipeline"] != pipeline:
            return False
        snapshot = _snapshot(document)
        rewrites = await self._upkeep.rewrites(snapshot.pipeline)
        held = [_followed(rewrites, piece.digest) for piece in (await self.manifest(snapshot_id)).pieces]
        # Marked first, gone last: nobody reads a snapshot whose bytes go, and one killed in between is finished later.
        await self._documents.swap(snapshot_id, {}, {"dropping": True})
        await self._upkeep.release(held, await self.pinned(snapshot.pipeline))
        await self._documents.delete({"_id": snapshot_id})
        await self._artifacts.delete(snapshot_id)
        return True

    async def _add_erased(self, snapshot_id: str, entry: Document) -> None:
        for _ in range(_TRIES):
            document = await self._documents.get(snapshot_id)
            if document is None or any(one["job"] == entry["job"] for one in document["erased"]):
                return
            if await self._documents.swap(snapshot_id, {"erased": document["erased"]},
                                          {"erased": [*document["erased"], entry]}):
                return
        raise Busy(f"snapshot {snapshot_id} is being changed by others at the same time")


def pieces_of(segments: list[Stored]) -> tuple[Piece, ...]:
    """What a manifest says of segments as they are stored now."""
    return tuple(Piece(one.stream, one.generation, one.partition, one.first, one.next, one.rows, one.digest)
                 for one in segments)


def _followed(rewrites: dict[str, tuple[str, int, str, str]], digest: str) -> str:
    while digest in rewrites:
        digest = rewrites[digest][0]
    return digest


def _removed(rewrites: dict[str, tuple[str, int, str, str]], digest: str, job: str) -> int:
    removed = 0
    while digest in rewrites:
        digest, rows, by, _ = rewrites[digest]
        removed += rows if by == job else 0
    return removed


def _gone(snapshot_id: str, digest: str) -> Damaged:
    return Damaged(f"rows of snapshot {snapshot_id} are gone from the store", place=digest,
                   remedy="restore the artefact from a backup")


def _snapshot(document: Document) -> Snapshot:
    return Snapshot(
        str(document["_id"]), str(document["pipeline"]), int(document["generation"]), str(document["spec_digest"]),
        str(document["spec_json"]), document["label_until"], int(document["rows"]), int(document["outcomes"]),
        float(document["created_at_s"]), str(document["created_by"]),
        tuple(Erasure(str(one["job"]), float(one["at_s"]), int(one["rows"])) for one in document["erased"]))
