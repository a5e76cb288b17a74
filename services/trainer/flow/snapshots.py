"""Which stored segments a run learns from, read once: exact ranges, their digests, and the joined rows."""

import asyncio
import math
from dataclasses import dataclass

import pyarrow as pa

from lepton.contracts.features import FIELD_TYPES
from lepton.contracts.pipeline import Pipeline
from lepton.store.segments import Head, Segments
from services.trainer.core.dataset import features_of, join, newest, outcomes_of
from services.trainer.core.plan import Range, Snapshot

FEATURES, OUTCOMES = "features", "outcomes"
# Labels come late and unevenly over partitions, some twice: this many more rows are read than wanted.
SPARE_SHARE, SPARE_ROWS = 1.5, 200


@dataclass(frozen=True, slots=True)
class Taken:
    """Labelled rows, oldest first, and where exactly they come from."""

    rows: pa.Table
    snapshot: Snapshot


async def labelled_rows(segments: Segments, pipeline: str, generation: int) -> int:
    """Rows that have a label, as the heads of both streams tell; a label without its row is not told apart."""
    features = await segments.rows(FEATURES, pipeline, generation)
    return min(features, await segments.rows(OUTCOMES, pipeline, generation)) if features else 0


async def take(segments: Segments, pipeline: Pipeline, generation: int, wanted: int) -> Taken:
    """The newest `wanted` labelled rows (0: all). Raises Unavailable, also when a stored segment is damaged."""
    features, outcomes = [await segments.heads(stream, pipeline.name, generation) for stream in (FEATURES, OUTCOMES)]
    unlabelled = max(0, _rows(features) - _rows(outcomes))
    read: dict[str, list[tuple[int, bytes]]] = {}
    ranges: list[Range] = []
    for stream, heads, count in ((FEATURES, features, wanted + unlabelled), (OUTCOMES, outcomes, wanted)):
        asked = _shares(heads, count if wanted else 0)
        places = {partition: await segments.newest(stream, pipeline.name, generation, partition, rows)
                  for partition, rows in asked.items()}
        read[stream], found = await _read(segments, stream, pipeline.name, generation, places)
        ranges += found
    fields = {name: FIELD_TYPES[spec.type] for name, spec in pipeline.inputs.items()}
    rows = await asyncio.to_thread(
        lambda: newest(join(features_of(read[FEATURES], list(fields)), outcomes_of(read[OUTCOMES]), fields), wanted))
    return Taken(rows, Snapshot(ranges=tuple(ranges)))


def _rows(heads: dict[int, Head]) -> int:
    return sum(head.rows for head in heads.values())


def _shares(heads: dict[int, Head], wanted: int) -> dict[int, int]:
    """How many of its newest rows to read of each partition; 0 wanted: all of them."""
    total = _rows(heads)
    return {partition: head.rows if not wanted else min(
        head.rows, math.ceil(SPARE_SHARE * wanted * head.rows / total) + SPARE_ROWS)
        for partition, head in heads.items() if head.rows}


async def _read(segments: Segments, stream: str, pipeline: str, generation: int,
                places: dict[int, tuple[int, int]]) -> tuple[list[tuple[int, bytes]], list[Range]]:
    data: list[tuple[int, bytes]] = []
    digests: dict[int, list[str]] = {partition: [] for partition in places}
    async for segment in segments.read(stream, pipeline, generation, places):
        data.append((segment.partition, segment.data))
        digests[segment.partition].append(segment.digest)
    return data, [Range(stream=stream, pipeline=pipeline, partition=partition, first=first, next=end,
                        digests=tuple(digests[partition])) for partition, (first, end) in sorted(places.items())]
