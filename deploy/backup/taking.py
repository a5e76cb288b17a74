"""In which order a running stack is copied, so that what comes back is a state it could have been in after a crash.

Nothing is paused. The order is: heads of the row chains; consumer groups' offsets; ends of the compacted topics; ends
of the others; records of the compacted ones; artefacts; documents; artefacts that are new; the other records. So no
offset is ahead of the state made from it, no state ahead of the rows, and no row is kept from behind its topic's end:
what lies in between is in the topics' records, and is taken in again as after a crash.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from deploy.backup.archive import records
from deploy.backup.archive.parts import ArchiveWriter
from deploy.backup.archive.tally import Tally
from deploy.backup.plan import STORED, Kept, KeptTopic, Plan, Span, compacted, kept
from deploy.backup.site import Site
from lepton.bus import kafka
from lepton.bus.kafka import KafkaBroker
from lepton.bus.records import Place, Reader, Record, TopicPlan
from lepton.contracts import topics
from lepton.errors import Busy
from lepton.store.copies.raw import RawCollections

HEADS, SEGMENTS = "segment_heads", "segments"
FILES, CHUNKS = "fs.files", "fs.chunks"
NOT_COPIED = frozenset({HEADS, FILES, CHUNKS, "migrations"})
AGAIN = "+"
"""Ends the name of a part that goes on where another of its name left off."""

_FRAME_BYTES = 1 << 20
_MAX_RECORDS = 2000
_POLL_S = 0.25


async def take(site: Site, archive: ArchiveWriter, created: str, *, all_events: bool) -> Plan:
    """Copy everything but files into the archive. Raises Unavailable when broker or database stay away, Busy when rows
    were replaced faster than they could be copied."""
    broker, database = kafka.connect(site.broker), site.database()
    try:
        await broker.ping()
        await database.ping()
        source = RawCollections(database)
        heads = await _documents(archive, source, HEADS)
        plan = await _cut(broker, site.name, created, heads, all_events=all_events)
        # At once: a key that changes later may be compacted away from before the end.
        await _records(archive, broker, plan, ("state",))
        await _database(archive, source, plan)
        await _records(archive, broker, plan, ("records", "waiting"))
        return plan
    finally:
        await broker.close()
        await database.close()


async def _cut(broker: KafkaBroker, stack: str, created: str, heads: Sequence[Mapping[str, Any]], *,
               all_events: bool) -> Plan:
    groups = {group: offsets for group in await broker.list_groups()
              if (offsets := _ours(await broker.group_offsets(group)))}
    described = await broker.describe_topics(
        [name for name in await broker.list_topics() if topics.locate(name) is not None])
    low: dict[Place, int] = {}
    high: dict[Place, int] = {}
    for is_compacted in (True, False):
        names = sorted(name for name, one in described.items() if compacted(one.config) == is_compacted)
        if names:
            begins, ends = await _bounds(broker, names)
            low.update(begins)
            high.update(ends)
    waiting = _stored(heads)
    for offsets in groups.values():
        for place, offset in offsets.items():
            if _says_what_waits(place):
                waiting[place] = min(offset, waiting.get(place, offset))
    return Plan(stack, created, tuple(
        _kept_topic(described[name], kept(name, described[name].config, all_events=all_events), low, high, waiting)
        for name in sorted(described)), groups)


def _says_what_waits(place: Place) -> bool:
    """Whether a group's offset says what has yet to be taken in; of stored rows the heads of their chains say it."""
    found = topics.locate(place.topic)
    return found is not None and found.topic not in STORED.values()


def _kept_topic(topic: TopicPlan, how: Kept, low: Mapping[Place, int], high: Mapping[Place, int],
                waiting: Mapping[Place, int]) -> KeptTopic:
    spans = []
    for number in range(topic.partitions):
        place = Place(topic.name, number)
        begin, end = low[place], high[place]
        first = {"waiting": min(max(waiting.get(place, begin), begin), end), "offsets": end}.get(how, begin)
        spans.append(Span(number, begin, first, end))
    return KeptTopic(topic.name, how, topic.config, tuple(spans))


async def _bounds(broker: KafkaBroker, names: Sequence[str]) -> tuple[Mapping[Place, int], Mapping[Place, int]]:
    reader = broker.reader(names, group=None, client_id="backup-bounds")
    await reader.start()
    try:
        places = sorted(reader.assignment())
        return await reader.begin_offsets(places), await reader.end_offsets(places)
    finally:
        await reader.stop()


def _ours(offsets: Mapping[Place, int]) -> dict[Place, int]:
    return {place: offset for place, offset in offsets.items() if topics.locate(place.topic) is not None}


def _stored(heads: Sequence[Mapping[str, Any]]) -> dict[Place, int]:
    """How far the rows of each partition are stored."""
    return {place: int(head["next"]) for head in heads if (place := _place_of(head)) is not None}


def _place_of(chain: Mapping[str, Any]) -> Place | None:
    topic = STORED.get(str(chain["stream"]))
    if topic is None:
        return None
    return Place(topics.name(topic, str(chain["pipeline"]), int(chain["generation"])), int(chain["partition"]))


async def _database(archive: ArchiveWriter, source: RawCollections, plan: Plan) -> None:
    copied = await _artifacts(archive, source, frozenset(), "")
    ends = {place: span.end for topic in plan.topics for place, span in topic.places()}
    rows: set[str] = set()
    for name in await source.names():
        if name == SEGMENTS:
            kept_rows = await _documents(archive, source, name, ends)
            rows = {str(one["digest"]) for one in kept_rows if not one.get("dropped")}
        elif name not in NOT_COPIED:
            await _documents(archive, source, name)
    copied |= await _artifacts(archive, source, copied, AGAIN)
    if lost := rows - copied:
        raise Busy(f"{len(lost)} artefacts of rows were replaced while they were copied",
                   remedy="take the backup again")


async def _documents(archive: ArchiveWriter, source: RawCollections, name: str,
                     ends: Mapping[Place, int] | None = None) -> list[dict[str, Any]]:
    """Copy a collection; of rows' chains what a later step asks of each document, of others nothing."""
    writing, noted = _Documents(archive, f"database/{name}"), []
    async for document in source.read(name):
        if ends is not None and (place := _place_of(document)) is not None \
                and int(document["next"]) > ends.get(place, int(document["next"])):
            continue
        writing.add(bytes(document.raw))
        if name == HEADS:
            noted.append({field: document[field] for field in ("stream", "pipeline", "generation", "partition",
                                                               "next")})
        elif name == SEGMENTS:
            noted.append({"digest": document["digest"], "dropped": document.get("dropped")})
    writing.end()
    return noted


async def _artifacts(archive: ArchiveWriter, source: RawCollections, known: frozenset[str],
                     ending: str) -> frozenset[str]:
    """Copy the artefacts that are not known; a file is listed only once all its chunks are there."""
    files = [document async for document in source.read(FILES) if document["_id"] not in known]
    listed = _Documents(archive, f"database/{FILES}{ending}")
    for file in files:
        listed.add(bytes(file.raw))
    listed.end()
    writing = _Documents(archive, f"database/{CHUNKS}{ending}")
    for file in files:
        async for chunk in source.read(CHUNKS, {"files_id": file["_id"]}):
            writing.add(bytes(chunk.raw))
    writing.end()
    return frozenset(str(file["_id"]) for file in files)


class _Documents:
    """A part of documents, in frames of about a megabyte."""

    def __init__(self, archive: ArchiveWriter, name: str) -> None:
        self._archive = archive
        self._buffer = bytearray()
        self._tally = Tally()
        archive.begin(name)

    def add(self, raw: bytes) -> None:
        self._tally.add(raw)
        self._buffer += raw
        if len(self._buffer) >= _FRAME_BYTES:
            self._flush()

    def end(self) -> None:
        self._flush()
        self._archive.end(self._tally.items, self._tally.text)

    def _flush(self) -> None:
        if self._buffer:
            self._archive.add(bytes(self._buffer))
            self._buffer.clear()


async def _records(archive: ArchiveWriter, broker: KafkaBroker, plan: Plan, which: Sequence[Kept]) -> None:
    for topic in plan.topics:
        if topic.kept not in which:
            continue
        tally = Tally()
        archive.begin(topic.part)
        async for found in read(broker, topic):
            archive.add(records.encode(found))
            for record in found:
                tally.add(records.account(record, with_offset=topic.kept != "state"))
        archive.end(tally.items, tally.text)


async def read(broker: KafkaBroker, topic: KeptTopic) -> AsyncIterator[Sequence[Record]]:
    """The kept records of a topic, a batch of one partition at a time, in order within it."""
    spans = {place: span for place, span in topic.places() if span.first < span.end}
    if not spans:
        return
    reader = broker.reader([topic.name], group=None, client_id="backup-records")
    await reader.start()
    try:
        for place in sorted(reader.assignment()):
            if place not in spans:
                reader.pause(place)
            elif spans[place].first > spans[place].begin:
                await reader.seek(place, spans[place].first)
        while any(reader.position(place) < span.end for place, span in spans.items()):
            async for batch in _polled(reader, spans):
                yield batch
    finally:
        await reader.stop()


async def _polled(reader: Reader, spans: Mapping[Place, Span]) -> AsyncIterator[Sequence[Record]]:
    for place, found in (await reader.poll(max_records=_MAX_RECORDS, timeout_s=_POLL_S)).items():
        span = spans.get(place)
        wanted = [record for record in found if span is not None and span.first <= record.offset < span.end]
        if wanted:
            yield wanted
        if span is not None and reader.position(place) >= span.end:
            reader.pause(place)
