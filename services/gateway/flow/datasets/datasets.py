"""Verbs on data sets that only read: list, profile, rows, split, and what an erasure would take."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.features import ENTITY, EVENT_ID, OCCURRED_AT
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.store.datasets.snapshots import FEATURES, OUTCOMES, Snapshot, Snapshots
from lepton.store.datasets.upkeep import Upkeep
from lepton.store.documents import DocumentDatabase
from lepton.store.pipelines import generations_of
from lepton.store.segments import Segment, Segments
from services.gateway.core.datasets.form import LABEL
from services.gateway.core.datasets.formats import MEDIA_TYPES, Kind, writer
from services.gateway.core.datasets.profile import Profile
from services.gateway.core.datasets.split import METHOD, PARTS, By, Part, Split
from services.gateway.flow.datasets.reading import Asked, Reading, decoded
from services.gateway.flow.pipelines import Catalogue

__all__ = ["MEDIA_TYPES", "PARTS", "Asked", "By", "Datasets", "Kind", "Part", "Split", "Stream"]


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows on their way out. Reading `chunks` to its end gives the whole; an error in between breaks off loudly."""

    media_type: str
    chunks: AsyncGenerator[bytes, None]
    snapshot: dict[str, Any] | None


class Datasets:
    """Everything comes from the store; nothing here changes it."""

    def __init__(self, catalogue: Catalogue, database: DocumentDatabase) -> None:
        self._catalogue = catalogue
        self._segments = Segments(database)
        self._snapshots = Snapshots(database)
        self._upkeep = Upkeep(database)
        self._reading = Reading(catalogue, self._segments, self._snapshots)

    async def all(self) -> list[dict[str, Any]]:
        """Every pipeline's data set, by name."""
        return [await self._view(state) for state in self._catalogue.states()]

    async def get(self, name: str) -> dict[str, Any]:
        """One of them. Raises Missing."""
        return await self._view(await self._catalogue.state(name))

    async def snapshots(self, name: str, limit: int) -> list[dict[str, Any]]:
        """Newest first."""
        await self._catalogue.state(name)
        return [shown(one) for one in await self._snapshots.list(name, limit)]

    async def snapshot(self, name: str, snapshot_id: str) -> dict[str, Any]:
        """One, with what it is made of, partition by partition. Raises Missing, Damaged."""
        source = await self._reading.source(name, snapshot_id)
        manifest = await self._snapshots.manifest(snapshot_id)
        places: dict[tuple[str, int, int], dict[str, Any]] = {}
        for piece in manifest.pieces:
            place = places.setdefault((piece.stream, piece.generation, piece.partition), {
                "stream": piece.stream, "generation": piece.generation, "partition": piece.partition,
                "first": piece.first, "rows": 0, "segments": 0})
            place["next"], place["rows"] = piece.next, place["rows"] + piece.rows
            place["segments"] += 1
        return {**shown(source.snapshot), "partitions": list(places.values())} if source.snapshot else {}

    async def profile(self, name: str, asked: Asked) -> dict[str, Any]:
        """Statistics of each field in one pass over the rows."""
        rows = await self._reading.open(name, asked)
        kept = [column for column in rows.form.asked.names if column not in (EVENT_ID, ENTITY)]
        profile = Profile(rows.form.whole, kept)
        entities = Profile(rows.form.whole, [ENTITY])
        async with aclosing(rows.tables) as tables:
            async for partition, table in tables:
                await asyncio.to_thread(profile.add, table, partition)
                await asyncio.to_thread(entities.add, table, partition)
        entity = entities.told()[ENTITY]
        return {"pipeline": name, "snapshot": asked.snapshot or None, "rows": profile.rows,
                "entities": entity.get("distinct", 0), "entities_exact": entity.get("distinct_exact", True),
                "fields": profile.told()}

    async def split(self, name: str, asked: Asked, split: Split) -> dict[str, Any]:
        """How many rows, labels and times each part has, and how the parts are told apart."""
        source = await self._reading.source(name, asked.snapshot)
        split = await self._reading.cut(source, split)
        rows = await self._reading.open(name, Asked(snapshot=asked.snapshot, labelled=asked.labelled))
        told = [_Part() for _ in PARTS]
        async with aclosing(rows.tables) as tables:
            async for _, table in tables:
                await asyncio.to_thread(_count, told, split, table)
        return {"pipeline": name, "snapshot": asked.snapshot or None, "by": split.by, "seed": split.seed,
                "shares": list(split.shares), "method": METHOD if split.by != "time" else "by event time",
                "cuts": [_moment(cut) for cut in split.cuts_us] if split.cuts_us else None,
                "parts": {name: part.told() for name, part in zip(PARTS, told, strict=True)}}

    async def rows(self, name: str, asked: Asked, kind: Kind) -> Stream:
        """The rows in one of the formats; the first of them are read before this returns, so most failures show here.

        Raises as `Reading.open`.
        """
        rows = await self._reading.open(name, asked)
        out = writer(kind, rows.form.asked)

        async def chunks() -> AsyncGenerator[bytes, None]:
            async with aclosing(rows.tables) as tables:
                async for _, table in tables:
                    chunk = await asyncio.to_thread(lambda table: out.write(rows.form.shown(table)), table)
                    if chunk:
                        yield chunk
            yield await asyncio.to_thread(out.close)

        found = chunks()
        first = await anext(found)

        async def whole() -> AsyncGenerator[bytes, None]:
            async with aclosing(found) as rest:
                yield first
                async for chunk in rest:
                    yield chunk

        return Stream(MEDIA_TYPES[kind], whole(), shown(rows.snapshot) if rows.snapshot else None)

    async def would_erase(self, name: str, entity: str) -> dict[str, Any]:
        """How many rows and labels are those of an entity now, in all generations.

        Labels that name only the event, and rows that only snapshots still hold, are not counted.
        """
        await self._catalogue.state(name)
        counts = {FEATURES: 0, OUTCOMES: 0}
        for stream, column in ((FEATURES, ENTITY), (OUTCOMES, "entity")):
            for generation in sorted({one.generation for one in await self._upkeep.segments(name, stream)}):
                async for segment in self._segments.read(stream, name, generation):
                    counts[stream] += await asyncio.to_thread(_rows_of, segment, column, entity)
        return {"rows": counts[FEATURES], "outcomes": counts[OUTCOMES]}

    async def _view(self, state: PipelineState) -> dict[str, Any]:
        spec = self._catalogue.parsed(state)
        counts = {}
        for stream in (FEATURES, OUTCOMES):
            rows = size_bytes = 0
            for generation in generations_of(state):
                heads = (await self._segments.heads(stream, state.name, generation)).values()
                rows += sum(one.rows - one.dropped_rows for one in heads)
                rows -= await self._upkeep.erased_rows(state.name, stream, generation) if heads else 0
                size_bytes += sum(one.size_bytes - one.dropped_bytes for one in heads)
            counts[stream] = (rows, size_bytes)
        return {"name": state.name, "dataset": spec.metadata.dataset, "generation": state.generation,
                "rows": counts[FEATURES][0], "outcomes": counts[OUTCOMES][0],
                "size_bytes": counts[FEATURES][1] + counts[OUTCOMES][1], "fields": len(spec.fields),
                "label": spec.label_field, "retention_s": spec.events.retention,
                "snapshots": len(await self._snapshots.list(state.name))}


def shown(snapshot: Snapshot) -> dict[str, Any]:
    """What a client is shown of a snapshot: `rows` is what reading it gives."""
    return {"id": snapshot.id, "pipeline": snapshot.pipeline, "generation": snapshot.generation,
            "spec_digest": snapshot.spec_digest, "label_until": snapshot.label_until,
            "rows": snapshot.rows - sum(one.rows for one in snapshot.erased), "rows_taken": snapshot.rows,
            "outcomes_taken": snapshot.outcomes, "created_by": snapshot.created_by,
            "created_at": datetime.fromtimestamp(snapshot.created_at_s, UTC).isoformat(),
            "erased": [{"job_id": one.job, "at": datetime.fromtimestamp(one.at_s, UTC).isoformat(), "rows": one.rows}
                       for one in snapshot.erased]}


@dataclass(slots=True)
class _Part:
    rows: int = 0
    labelled: int = 0
    first_us: int | None = None
    last_us: int | None = None

    def add(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        self.rows += rows.num_rows
        if LABEL in rows.column_names:
            self.labelled += rows.num_rows - rows.column(LABEL).null_count
        ends = pc.min_max(rows.column(OCCURRED_AT).cast(pa.int64())).as_py()
        self.first_us = ends["min"] if self.first_us is None else min(self.first_us, ends["min"])
        self.last_us = ends["max"] if self.last_us is None else max(self.last_us, ends["max"])

    def told(self) -> dict[str, Any]:
        return {"rows": self.rows, "labelled": self.labelled, "first": _moment(self.first_us),
                "last": _moment(self.last_us)}


def _count(told: "list[_Part]", split: Split, rows: pa.Table) -> None:
    parts = split.parts(rows)
    for number, part in enumerate(told):
        part.add(rows.filter(pa.array(parts == np.int8(number))))


def _rows_of(segment: Segment, column: str, entity: str) -> int:
    return int(pc.sum(pc.equal(decoded(segment).column(column), entity)).as_py() or 0)


def _moment(time_us: int | None) -> str | None:
    return None if time_us is None else datetime.fromtimestamp(time_us / 1e6, UTC).isoformat()
