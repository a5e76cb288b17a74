"""Accepted rows in bulk: gap-free chains of segments, one a partition of a stream, whose bytes are artefacts.

A segment is `[first, next)` in offsets of its topic. It is inserted only when `first` is where the chain ends, and
its id holds `first`, so two writers cannot both extend the chain. The head is a cache of the chain's end, written
after the segment; a writer killed in between leaves a head that is behind, which the next call of a writer repairs.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from lepton.errors import Missing, Refused
from lepton.store.artifacts import Artifacts, Damaged, sha256_hex
from lepton.store.documents import Document, DocumentDatabase, Match

# A segment whose end by retention has begun is no longer read.
_KEPT: Match = {"dropped": {"$ne": True}}


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends: the next offset to append, and how many rows and bytes were appended before it.

    Of those rows the first `dropped_rows` (`dropped_bytes`) are gone by retention; `erased` ones are still counted.
    """

    next: int = 0
    rows: int = 0
    size_bytes: int = 0
    dropped_rows: int = 0
    dropped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of offsets `[first, next)` of one partition; `data` is as the writer encoded it."""

    stream: str
    pipeline: str
    generation: int
    partition: int
    first: int
    next: int
    rows: int
    digest: str
    data: bytes


@dataclass(frozen=True, slots=True)
class _Chain:
    stream: str
    pipeline: str
    generation: int
    partition: int

    @property
    def id(self) -> str:
        return f"{self.stream}:{self.pipeline}:g{self.generation}:{self.partition}"

    def segment_id(self, first: int) -> str:
        return f"{self.id}:{first}"

    def fields(self) -> Document:
        return {"stream": self.stream, "pipeline": self.pipeline, "generation": self.generation,
                "partition": self.partition}


class Segments:
    """Written by ingest only; read by the trainer and the gateway. `lepton.store.datasets.upkeep` rewrites and drops.

    A reader that comes again and again gives `cache_bytes`: so much of what it read stays in memory, newest first.
    """

    def __init__(self, database: DocumentDatabase, cache_bytes: int = 0) -> None:
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._segments = database.collection("segments")
        self._heads = database.collection("segment_heads")
        self._artifacts = Artifacts(database)

    async def append(self, stream: str, pipeline: str, generation: int, partition: int, first: int, next: int,
                     rows: int, data: bytes, digest: str, *, stored_at_s: float | None = None,
                     erasures: int = 0) -> None:
        """Extend the chain. The same call again has no second effect.

        `digest` is the SHA-256 of `data`, lower-case hex; `stored_at_s` (epoch seconds) is what retention counts from;
        `erasures` is the list of erased entities the rows were judged by. Raises Refused when `first` is not the stored
        next, when another segment sits at `first`, or when the digest is not that of the bytes.
        """
        chain = _Chain(stream, pipeline, generation, partition)
        segment = _Append(first, next, rows, digest, stored_at_s, erasures)
        _check(segment, data)
        head = await self._head(chain)
        if first < head.next:
            await self._same_or_refused(chain, segment)
            return
        if first > head.next:
            raise Refused(f"{chain.id}: rows from {head.next} to {first} are missing", field="first",
                          remedy=f"continue from offset {head.next}")
        await self._artifacts.put(data)
        if not await self._segments.insert(_document(chain, segment, head, len(data))):
            await self._same_or_refused(chain, segment)
        await self._head(chain)

    async def next_offset(self, stream: str, pipeline: str, generation: int, partition: int) -> int:
        """Where the next segment must begin; 0 for an empty chain. Repairs the head if a writer was killed."""
        return (await self._head(_Chain(stream, pipeline, generation, partition))).next

    async def heads(self, stream: str, pipeline: str, generation: int) -> dict[int, Head]:
        """By partition, for those with rows; may be one segment behind after a writer was killed, until it is back."""
        documents = await self._heads.find({"stream": stream, "pipeline": pipeline, "generation": generation})
        return {int(document["partition"]): _head_of(document) for document in documents}

    async def rows(self, stream: str, pipeline: str, generation: int) -> int:
        """Rows in all partitions together."""
        return sum(head.rows for head in (await self.heads(stream, pipeline, generation)).values())

    async def newest(self, stream: str, pipeline: str, generation: int, partition: int, rows: int) -> tuple[int, int]:
        """The range (first, next) of the fewest newest segments that hold at least `rows` rows, else of all."""
        chain = _Chain(stream, pipeline, generation, partition)
        document = await self._heads.get(chain.id)
        head = Head() if document is None else _head_of(document)
        found = await self._segments.find(
            {**chain.fields(), "rows_until": {"$gt": head.rows - rows}, **_KEPT}, order="first", limit=1)
        return (int(found[0]["first"]) if found and rows > 0 else head.next, head.next)

    async def read(self, stream: str, pipeline: str, generation: int,
                   ranges: Mapping[int, tuple[int, int]] | None = None) -> AsyncIterator[Segment]:
        """Segments in offset order, partition after partition.

        `ranges` holds by partition the first offset wanted and the next one not wanted; whole segments that overlap
        it are given. Without `ranges`, everything up to the heads as they are now.
        """
        if ranges is None:
            heads = await self.heads(stream, pipeline, generation)
            ranges = {partition: (0, head.next) for partition, head in heads.items()}
        for partition, (start, end) in sorted(ranges.items()):
            chain = _Chain(stream, pipeline, generation, partition)
            found = await self._segments.find(
                {**chain.fields(), "next": {"$gt": start}, "first": {"$lt": end}, **_KEPT}, order="first")
            for document in found:
                if (segment := await self._load(chain, document)) is not None:
                    yield segment

    async def delete_pipeline(self, pipeline: str) -> None:
        """Forget every row of the pipeline, in all streams and generations."""
        digests = [document["digest"] for document in await self._segments.find({"pipeline": pipeline})]
        await self._heads.delete({"pipeline": pipeline})
        await self._segments.delete({"pipeline": pipeline})
        for digest in set(digests):
            if not await self._segments.find({"digest": digest}, limit=1):
                await self._artifacts.delete(digest)

    async def _head(self, chain: _Chain) -> Head:
        """The true end of the chain: the stored head, moved over segments that were inserted after it was written."""
        document = await self._heads.get(chain.id)
        head = stored = Head() if document is None else _head_of(document)
        while (segment := await self._segments.get(chain.segment_id(head.next))) is not None:
            head = Head(int(segment["next"]), int(segment["rows_until"]), int(segment["bytes_until"]),
                        stored.dropped_rows, stored.dropped_bytes)
        if head != stored:
            await self._move_head(chain, head, exists=document is not None)
        return head

    async def _move_head(self, chain: _Chain, head: Head, *, exists: bool) -> None:
        fields: Document = {"next": head.next, "rows": head.rows, "bytes": head.size_bytes}
        if not exists and await self._heads.insert({"_id": chain.id, **chain.fields(), **fields}):
            return
        # Never backwards: another writer may have moved it further meanwhile.
        await self._heads.swap(chain.id, {"next": {"$lt": head.next}}, fields)

    async def _same_or_refused(self, chain: _Chain, segment: "_Append") -> None:
        stored = await self._segments.get(chain.segment_id(segment.first))
        if stored is None or (stored["next"], stored["digest"]) != (segment.next, segment.digest):
            raise Refused(f"{chain.id}: offset {segment.first} is stored already, with other rows", field="first",
                          remedy="continue from the stored next offset")

    async def _load(self, chain: _Chain, document: Document) -> Segment | None:
        """The segment; None when retention took it meanwhile. Raises Damaged when its bytes are broken or gone."""
        while True:
            digest = str(document["digest"])
            try:
                data = await self._bytes(digest)
            except Missing as error:
                # Perhaps a person's rows were erased between the two reads, or the segment dropped: what is there now?
                again = await self._segments.get(str(document["_id"]))
                if again is None or again.get("dropped"):
                    return None
                if again["digest"] == digest:
                    raise Damaged(f"the rows of {document['_id']} are gone from the store", place=digest,
                                  remedy="restore the artefact from a backup") from error
                document = again
                continue
            return Segment(**chain.fields(), first=int(document["first"]), next=int(document["next"]),
                           rows=int(document["rows"]), digest=digest, data=data)

    async def _bytes(self, digest: str) -> bytes:
        data = self._cached.get(digest)
        if data is None:
            data = await self._artifacts.get(digest)
            self._remember(digest, data)
        else:
            self._cached.move_to_end(digest)
        return data

    def _remember(self, digest: str, data: bytes) -> None:
        if len(data) > self._cache_bytes or digest in self._cached:
            return
        self._cached[digest] = data
        self._cached_bytes += len(data)
        while self._cached_bytes > self._cache_bytes:
            _, oldest = self._cached.popitem(last=False)
            self._cached_bytes -= len(oldest)


@dataclass(frozen=True, slots=True)
class _Append:
    first: int
    next: int
    rows: int
    digest: str
    stored_at_s: float | None
    erasures: int


def _check(segment: _Append, data: bytes) -> None:
    if not 0 <= segment.first < segment.next:
        raise Refused(f"offsets {segment.first} to {segment.next} are no range", field="next")
    if sha256_hex(data) != segment.digest:
        raise Refused("the digest is not that of the bytes", field="digest")


def _document(chain: _Chain, segment: _Append, head: Head, size_bytes: int) -> Document:
    return {
        "_id": chain.segment_id(segment.first), **chain.fields(), "first": segment.first, "next": segment.next,
        "rows": segment.rows, "digest": segment.digest, "rows_until": head.rows + segment.rows,
        "bytes_until": head.size_bytes + size_bytes, "stored_at_s": segment.stored_at_s, "erasures": segment.erasures,
    }


def _head_of(document: Document) -> Head:
    return Head(int(document["next"]), int(document["rows"]), int(document["bytes"]),
                int(document.get("dropped_rows", 0)), int(document.get("dropped_bytes", 0)))


