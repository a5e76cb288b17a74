"""Rows of a data set, segment by segment: stored rows joined with their newest labels, of now or of a snapshot."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.features import EVENT_ID, decode_table
from lepton.contracts.pipeline import Pipeline, from_json
from lepton.errors import Busy, Invalid, Missing, Unavailable
from lepton.store.datasets.snapshots import FEATURES, OUTCOMES, Snapshot, Snapshots
from lepton.store.pipelines import generations_of
from lepton.store.segments import Segment, Segments
from services.gateway.core.datasets.form import LABEL, Form, form_of
from services.gateway.core.datasets.split import PARTS, Part, Split, TimeCuts, times_of
from services.gateway.flow.datasets.known import KnownLabels
from services.gateway.flow.pipelines import Catalogue

# Each holds a segment, its labels' cache and a connection to the database.
MAX_READERS = 4
BUSY_S = 2.0


Ranges = dict[int, tuple[int, int]]
"""First offset and the next one not wanted, by partition."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rows of a data set, and which columns. `limit` 0: all of them."""

    snapshot: str = ""
    columns: tuple[str, ...] = ()
    labelled: bool = False
    split: Split | None = None
    part: Part | None = None
    limit: int = 0


class Source(Protocol):
    """Segments of a fixed set of rows."""

    pipeline: Pipeline
    snapshot: Snapshot | None

    def segments(self, stream: str) -> AsyncIterator[Segment]: ...


class _Live:
    """What was stored when it was asked for; rows that come later are not in it."""

    def __init__(self, store: Segments, pipeline: Pipeline, ranges: Mapping[tuple[str, int], Ranges]) -> None:
        self.pipeline = pipeline
        self.snapshot: Snapshot | None = None
        self._store, self._ranges = store, ranges

    async def segments(self, stream: str) -> AsyncIterator[Segment]:
        for (of, generation), ranges in sorted(self._ranges.items()):
            if of == stream:
                async for segment in self._store.read(stream, self.pipeline.name, generation, ranges):
                    yield segment


class _Taken:
    """A snapshot, under the Pipeline it was taken with."""

    def __init__(self, store: Snapshots, snapshot: Snapshot) -> None:
        self.pipeline = from_json(snapshot.spec_json)
        self.snapshot: Snapshot | None = snapshot
        self._store, self._taken = store, snapshot

    def segments(self, stream: str) -> AsyncIterator[Segment]:
        return self._store.read(self._taken, stream)


@dataclass(frozen=True, slots=True)
class Rows:
    """What was asked for, ready to be read once; pairs of partition and rows with every column of the data set."""

    form: Form
    snapshot: Snapshot | None
    tables: AsyncGenerator[tuple[int, pa.Table], None]


class Reading:
    """Opens data sets; how many at once is bounded, what one holds is a segment and a cache."""

    def __init__(self, catalogue: Catalogue, segments: Segments, snapshots: Snapshots) -> None:
        self._catalogue = catalogue
        self._segments = segments
        self._snapshots = snapshots
        self._open = 0

    async def open(self, name: str, asked: Asked) -> Rows:
        """Raises Missing (pipeline, snapshot), Invalid (columns, split), Busy (too many readers), Unavailable."""
        source = await self.source(name, asked.snapshot)
        form = form_of(source.pipeline, asked.columns)
        if asked.labelled and not form.has_label:
            raise Invalid(f"pipeline {name} has no label", field="labelled", remedy="leave it out")
        if asked.part is not None:
            split = await self.cut(source, asked.split or Split())
            asked = replace(asked, split=split)
        self._check_room()
        return Rows(form, source.snapshot, self._tables(source, form, asked))

    async def source(self, name: str, snapshot_id: str) -> Source:
        """The rows a name stands for now, or those of one of its snapshots."""
        if snapshot_id:
            snapshot = await self._snapshots.get(snapshot_id)
            if snapshot.pipeline != name:
                raise Missing(f"pipeline {name} has no snapshot {snapshot_id}", field="snapshot")
            return _Taken(self._snapshots, snapshot)
        state = await self._catalogue.state(name)
        ranges: dict[tuple[str, int], Ranges] = {}
        for stream in (FEATURES, OUTCOMES):
            for generation in generations_of(state):
                heads = await self._segments.heads(stream, name, generation)
                ranges[stream, generation] = {partition: (0, head.next) for partition, head in heads.items()}
        return _Live(self._segments, self._catalogue.parsed(state), ranges)

    async def cut(self, source: Source, split: Split) -> Split:
        """The split with its cuts, which a split by time finds by one pass over the rows' times."""
        if split.by != "time" or split.cuts_us is not None:
            return split
        if source.snapshot is None:
            raise Invalid("a split by time is one of rows that stand still", field="by",
                          remedy="take a snapshot and split that, or split by event or entity")
        cuts = TimeCuts()
        self._check_room()
        async with aclosing(self._decoded(source, FEATURES)) as segments:
            async for _, stored in segments:
                cuts.add(times_of(stored))
        return replace(split, cuts_us=cuts.cuts(split.shares))

    def _check_room(self) -> None:
        if self._open >= MAX_READERS:
            raise Busy(f"{MAX_READERS} data sets are being read at once", retry_after_s=BUSY_S)

    async def _decoded(self, source: Source, stream: str) -> AsyncGenerator[tuple[int, pa.Table], None]:
        """Partition and stored rows of each segment of a stream. Raises Unavailable for one that cannot be read."""
        self._open += 1
        try:
            async for segment in source.segments(stream):
                yield segment.partition, await asyncio.to_thread(decoded, segment)
        finally:
            self._open -= 1

    async def _tables(self, source: Source, form: Form, asked: Asked) -> AsyncGenerator[tuple[int, pa.Table], None]:
        left = asked.limit or None
        known = await self._known(source, form)
        try:
            async with aclosing(self._decoded(source, FEATURES)) as segments:
                async for partition, stored in segments:
                    rows = await asyncio.to_thread(_joined, form, stored, known, asked)
                    if left is not None:
                        rows = rows.slice(0, left)
                        left -= rows.num_rows
                    if rows.num_rows:
                        yield partition, rows
                    if left == 0:
                        return
        finally:
            if known is not None:
                known.close()

    async def _known(self, source: Source, form: Form) -> KnownLabels | None:
        if not form.has_label:
            return None
        known = KnownLabels(form.label_type)
        until = source.snapshot.label_until if source.snapshot is not None else None
        until_us = round(datetime.fromisoformat(until).timestamp() * 1e6) if until else None
        try:
            async with aclosing(self._decoded(source, OUTCOMES)) as segments:
                async for _, outcomes in segments:
                    await asyncio.to_thread(known.add, outcomes, until_us)
        except BaseException:
            known.close()
            raise
        return known


def decoded(segment: Segment) -> pa.Table:
    """The rows of a segment. Raises Unavailable when they are not what ingest writes."""
    try:
        return decode_table(segment.data)
    except Invalid as error:
        # Its digest is right, so it was written like this: no request can be the reason.
        raise Unavailable(f"rows {segment.first} to {segment.next} of {segment.stream} in partition "
                          f"{segment.partition} cannot be read: {error.message}", place=segment.digest) from error


def _joined(form: Form, stored: pa.Table, known: KnownLabels | None, asked: Asked) -> pa.Table:
    labels, times = known.of(stored.column(EVENT_ID).to_pylist()) if known is not None else (None, None)
    rows = form.rows(stored, labels, times)
    if asked.labelled:
        rows = rows.filter(pc.is_valid(rows.column(LABEL)))
    if asked.part is not None and asked.split is not None:
        rows = rows.filter(pa.array(asked.split.parts(rows) == PARTS.index(asked.part)))
    return rows
