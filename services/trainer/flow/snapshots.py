"""Which stored segments a run learns from, read once: exact ranges, their digests, and the joined rows."""

import asyncio
import math
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from lepton.contracts.pipeline import Pipeline
from lepton.store.datasets.snapshots import Snapshot as Frozen
from lepton.store.datasets.snapshots import Snapshots
from lepton.store.segments import Head, Segments
from services.trainer.core.dataset import features_of, join, known_until, newest, outcomes_of
from services.trainer.core.lessons.columns import columns_of, keeps_unlabelled
from services.trainer.core.plan import Range, Snapshot

FEATURES, OUTCOMES = "features", "outcomes"
# Labels come late and unevenly over partitions, some twice: this many more rows are read than wanted.
SPARE_SHARE, SPARE_ROWS = 1.5, 200

Place = tuple[int, int]
"""Generation and partition."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Labelled rows, oldest first, and where exactly they come from."""

    rows: pa.Table
    snapshot: Snapshot
    counted: int = 0
    """Labelled rows there were, as `labelled_rows` counts; 0 for rows of a snapshot or a stream."""
    learnt: int = 0
    """Rows that were learnt from the stream already and are not among `rows`."""


async def labelled_rows(segments: Segments, pipeline: str, generations: range, labelled: bool = True) -> int:
    """Rows that have a label, as the heads of both streams tell; a label without its row is not told apart.

    All rows where there is no label to wait for (`labelled` is False).
    """
    features = sum([await segments.rows(FEATURES, pipeline, generation) for generation in generations])
    if not features or not labelled:
        return features
    return min(features, sum([await segments.rows(OUTCOMES, pipeline, generation) for generation in generations]))


async def take(segments: Segments, pipeline: Pipeline, generations: range, wanted: int) -> Taken:
    """The newest `wanted` labelled rows (0: all). Raises Unavailable, also when a stored segment is damaged."""
    features, outcomes = [await _heads(segments, stream, pipeline.name, generations) for stream in (FEATURES, OUTCOMES)]
    unlabelled = max(0, _rows(features) - _rows(outcomes))
    counted = min(_rows(features), _rows(outcomes)) if pipeline.events.label is not None else _rows(features)
    read: dict[str, list[tuple[int, bytes]]] = {}
    ranges: list[Range] = []
    if keeps_unlabelled(pipeline):
        unlabelled = 0
    for stream, heads, count in ((FEATURES, features, wanted + unlabelled), (OUTCOMES, outcomes, wanted)):
        asked = _shares(heads, count if wanted else 0)
        places = {place: await segments.newest(stream, pipeline.name, *place, rows) for place, rows in asked.items()}
        read[stream], found = await _read(segments, stream, pipeline.name, places)
        ranges += found
    fields = columns_of(pipeline)
    rows = await asyncio.to_thread(lambda: newest(join(
        features_of(read[FEATURES], list(fields)), outcomes_of(read[OUTCOMES]), fields,
        not keeps_unlabelled(pipeline)), wanted))
    return Taken(rows, Snapshot(ranges=tuple(ranges)), counted)


async def take_frozen(snapshots: Snapshots, frozen: Frozen, pipeline: Pipeline, wanted: int) -> Taken:
    """Rows of a snapshot, the newest `wanted` (0: all), as `take` gives those that are stored now."""
    read: dict[str, list[tuple[int, bytes]]] = {}
    found: dict[tuple[str, int, int], Range] = {}
    for stream in (FEATURES, OUTCOMES):
        read[stream] = []
        async for one in snapshots.read(frozen, stream):
            read[stream].append((one.partition, one.data))
            before = found.get(place := (stream, one.generation, one.partition))
            found[place] = Range(
                stream=stream, pipeline=pipeline.name, generation=one.generation, partition=one.partition,
                first=before.first if before else one.first, next=one.next,
                digests=(*(before.digests if before else ()), one.digest))
    until = datetime.fromisoformat(frozen.label_until) if frozen.label_until else None
    fields = columns_of(pipeline)
    rows = await asyncio.to_thread(lambda: newest(join(
        features_of(read[FEATURES], list(fields)), known_until(outcomes_of(read[OUTCOMES]), until), fields,
        not keeps_unlabelled(pipeline)), wanted))
    return Taken(rows, Snapshot(ranges=tuple(found[place] for place in sorted(found))))


async def _heads(segments: Segments, stream: str, pipeline: str, generations: range) -> dict[Place, Head]:
    return {(generation, partition): head for generation in generations
            for partition, head in (await segments.heads(stream, pipeline, generation)).items()}


def _rows(heads: dict[Place, Head]) -> int:
    return sum(head.rows for head in heads.values())


def _shares(heads: dict[Place, Head], wanted: int) -> dict[Place, int]:
    """How many of its newest rows to read of each partition; 0 wanted: all of them.

    Generations followed one another: the newest rows are those of the last ones, so an older one is only asked for
    what those after it lack.
    """
    shares: dict[Place, int] = {}
    lacking = wanted
    for generation in sorted({place[0] for place in heads}, reverse=True):
        mine = {place: head for place, head in heads.items() if place[0] == generation and head.rows}
        total = _rows(mine)
        if not total or (wanted and lacking <= 0):
            continue
        shares |= {place: head.rows if not wanted else min(
            head.rows, math.ceil(SPARE_SHARE * lacking * head.rows / total) + SPARE_ROWS)
            for place, head in mine.items()}
        lacking -= total
    return shares


async def _read(segments: Segments, stream: str, pipeline: str,
                places: dict[Place, tuple[int, int]]) -> tuple[list[tuple[int, bytes]], list[Range]]:
    data: list[tuple[int, bytes]] = []
    digests: dict[Place, list[str]] = {place: [] for place in places}
    for generation in sorted({place[0] for place in places}):
        mine = {place[1]: offsets for place, offsets in places.items() if place[0] == generation}
        async for segment in segments.read(stream, pipeline, generation, mine):
            data.append((segment.partition, segment.data))
            digests[(generation, segment.partition)].append(segment.digest)
    return data, [Range(stream=stream, pipeline=pipeline, generation=generation, partition=partition, first=first,
                        next=end, digests=tuple(digests[(generation, partition)]))
                  for (generation, partition), (first, end) in sorted(places.items())]
