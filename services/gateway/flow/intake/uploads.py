"""Files of rows on their way in, piece by piece: no piece is acknowledged before its rows are durable.

A row has the same event id however often it is sent, so what a killed gateway had written and not acknowledged is a
duplicate when it comes again, and ingest keeps one.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from lepton.clock import Clock
from lepton.contracts.files.records import FORMATS, Format, after_too_long, cut, without_bom
from lepton.contracts.files.rows import Rows, column_names, file_id
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.errors import Invalid, Missing, Refused
from lepton.store.files.uploads import Upload
from lepton.store.files.uploads import Uploads as UploadStore
from services.gateway.core.auth import Caller
from services.gateway.flow.intake.made import Made, Writes, made_of_rows, made_of_text
from services.gateway.flow.intake.offsets import WrongOffset
from services.gateway.flow.intake.parts import Parts
from services.gateway.flow.pipelines import Catalogue

__all__ = ["NewUpload", "Upload", "Uploads", "WrongOffset"]

STEP_ROWS = 1000
"""Rows between two notes of how far a file has come."""
TURN_S = 2.0
"""How long one request works on rows of a Parquet file that is here."""
KEPT_S = 7 * 86_400.0
"""How long bytes of a Parquet file that nobody adds to are kept."""


@dataclass(frozen=True, slots=True)
class NewUpload:
    """A file as its sender describes it. `sha256` is 64 hexadecimal digits."""

    name: str
    format: str
    size: int
    sha256: str
    delimiter: str = ","


class Uploads:
    """Verbs on uploads. `max_bytes` is the largest file."""

    def __init__(self, catalogue: Catalogue, store: UploadStore, writer: Writes, parts: Parts, clock: Clock,
                 max_bytes: int) -> None:
        self._catalogue = catalogue
        self._store = store
        self._writer = writer
        self._parts = parts
        self._clock = clock
        self._max_bytes = max_bytes
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def begin(self, caller: Caller, pipeline: str, wanted: NewUpload) -> Upload:
        """The upload of this file as it stands: begun now, or before. Raises Missing, Invalid, Refused."""
        state = await self._catalogue.state(pipeline)
        if wanted.format not in FORMATS:
            raise Invalid(f"{wanted.format!r} is not a format that is read", field="format",
                          remedy=f"use one of {', '.join(FORMATS)}")
        if wanted.size > self._max_bytes:
            raise Invalid(f"the file is larger than {self._max_bytes} bytes", field="size", remedy="send it in parts")
        if self._step(state) < 1:
            raise Refused(f"pipeline {pipeline} remembers no events, so a row that is sent again would count twice",
                          field="events.dedupe_window", remedy=f"set it to {2 * STEP_ROWS} or more")
        await asyncio.to_thread(self._parts.sweep, self._clock.now().timestamp() - KEPT_S)
        upload = await self._store.begin(Upload(
            id=file_id(pipeline, state.generation, wanted.sha256), pipeline=pipeline, generation=state.generation,
            name=wanted.name, format=wanted.format, size=wanted.size, sha256=wanted.sha256,
            delimiter=wanted.delimiter, created_by=caller.key_id))
        said = (upload.format, upload.size) == (wanted.format, wanted.size)
        if not said or (upload.format == "csv" and upload.delimiter != wanted.delimiter):
            raise Refused("the same bytes were announced before as another kind of file", field="format",
                          remedy=f"go on as {upload.format}, {upload.size} bytes, delimiter {upload.delimiter!r}")
        return await self._as_here(upload)

    async def get(self, pipeline: str, upload_id: str) -> Upload:
        """Raises Missing."""
        return await self._as_here(await self._known(pipeline, upload_id))

    async def list(self, pipeline: str, limit: int) -> list[Upload]:
        """Newest first."""
        await self._catalogue.state(pipeline)
        return [await self._as_here(upload) for upload in await self._store.list(pipeline, limit)]

    async def append(self, pipeline: str, upload_id: str, offset: int, data: bytes) -> Upload:
        """Take the bytes from `offset` on, and say how far the file has come once their rows are durable.

        Of a file that is done nothing more is taken. Raises Missing, WrongOffset, Invalid, Refused, Unavailable.
        """
        turn = self._turns.get(upload_id) or asyncio.Lock()
        self._turns[upload_id] = turn
        async with turn:
            upload = await self._known(pipeline, upload_id)
            state = await self._catalogue.state(pipeline)
            if upload.generation != state.generation:
                raise Refused("the pipeline has begun a new generation", field="upload",
                              remedy="begin the upload again, for the new generation")
            if upload.done:
                return upload
            take = self._take_parquet if upload.format == "parquet" else self._take_text
            return await take(upload, state, offset, data)

    async def _take_text(self, upload: Upload, state: PipelineState, offset: int, data: bytes) -> Upload:
        _check(offset, upload.offset, upload.size, data)
        last = offset + len(data) == upload.size
        if upload.too_long:
            end = after_too_long(data)
            if end is None:
                return await self._advance(upload, offset=offset + len(data), done=last)
            upload = await self._advance(upload, offset=offset + end, too_long=False, done=last and end == len(data))
            data = data[end:]
            if upload.done:
                return upload
        begin = upload.offset - len(upload.rest)
        whole = upload.rest + data
        if begin == 0:
            bare = without_bom(whole)
            begin, whole = len(whole) - len(bare), bare
        return await self._take_piece(upload, state, begin, whole, last)

    async def _take_piece(self, upload: Upload, state: PipelineState, begin: int, whole: bytes, last: bool) -> Upload:
        kind: Format = "csv" if upload.format == "csv" else "jsonl"
        piece = cut(kind, whole, delimiter=upload.delimiter, last=last)
        records, ends = piece.records, piece.ends
        rows = Rows(self._catalogue.parsed(state), upload.id)
        changes: dict[str, Any] = {}
        if kind == "csv" and not upload.columns:
            if not records:
                return await self._without_columns(upload, begin + len(whole), piece.rest, piece.too_long, last)
            named = column_names(records[0], upload.delimiter)
            members = rows.columns(named)
            changes = {"columns": tuple(member or "" for member in members),
                       "ignored": tuple(name for name, member in zip(named, members, strict=True) if member is None)}
            records, ends = records[1:], ends[1:]
            upload = await self._advance(upload, offset=begin + piece.ends[0], rest=b"", **changes)
        columns = [member or None for member in upload.columns]
        step = self._step(state)
        for start in range(0, len(records), step):
            part = records[start:start + step]
            made = [made_of_text(rows, upload, columns, record, upload.rows + number)
                    for number, record in enumerate(part, start=1)]
            upload = await self._write(upload, state, made, part, offset=begin + ends[start + len(part) - 1], rest=b"")
        if piece.too_long:
            error = Invalid("too_large: the record is longer than a megabyte")
            return await self._write(upload, state, [error], [piece.rest], offset=begin + len(whole), rest=b"",
                                     too_long=True, done=last)
        return await self._advance(upload, offset=begin + len(whole), rest=piece.rest, done=last)

    async def _without_columns(self, upload: Upload, end: int, rest: bytes, too_long: bool, last: bool) -> Upload:
        if last or too_long:
            raise Invalid("the file has no line of column names", field="columns", remedy="check that it is a CSV file")
        return await self._advance(upload, offset=end, rest=rest)

    async def _take_parquet(self, upload: Upload, state: PipelineState, offset: int, data: bytes) -> Upload:
        here = await asyncio.to_thread(self._parts.length, upload.id)
        if here < upload.size:
            _check(offset, here, upload.size, data)
            here = await asyncio.to_thread(self._parts.append, upload.id, data)
            if here < upload.size:
                return await self._advance(upload, offset=here)
            await asyncio.to_thread(self._parts.check, upload.id, upload.sha256)
            total, _ = await asyncio.to_thread(self._parts.describe, upload.id)
            upload = await self._advance(upload, offset=here, total_rows=total)
        elif offset != upload.size or data:
            raise WrongOffset(upload.size)
        return await self._take_rows(upload, state)

    async def _take_rows(self, upload: Upload, state: PipelineState) -> Upload:
        """Write rows of a file that is here whole, for a bounded time; the next call goes on."""
        rows = Rows(self._catalogue.parsed(state), upload.id)
        _, named = await asyncio.to_thread(self._parts.describe, upload.id)
        members = rows.columns(named)
        wanted = {name: member for name, member in zip(named, members, strict=True) if member is not None}
        ignored = tuple(name for name in named if name not in wanted)
        until, step = self._clock.monotonic() + TURN_S, self._step(state)
        while self._clock.monotonic() < until and upload.rows < upload.total_rows:
            part = await asyncio.to_thread(self._parts.read, upload.id, upload.rows, step, list(wanted))
            if not part:
                raise Invalid(f"the file ends after {upload.rows} of {upload.total_rows} rows", field="format")
            made, texts = await asyncio.to_thread(made_of_rows, rows, wanted, part, upload.rows + 1)
            upload = await self._write(upload, state, made, texts, ignored=ignored)
        if upload.rows >= upload.total_rows:
            upload = await self._advance(upload, done=True)
            await asyncio.to_thread(self._parts.drop, upload.id)
        return upload

    async def _write(self, upload: Upload, state: PipelineState, made: Sequence[Made], texts: Sequence[bytes],
                     **changes: Any) -> Upload:
        """Make rows durable, then note how far we are."""
        refused = await self._writer.write(upload, state.version, made, texts)
        return await self._advance(upload, rows=upload.rows + len(made), refused=upload.refused + refused, **changes)

    async def _advance(self, upload: Upload, **changes: Any) -> Upload:
        try:
            return await self._store.advance(upload, **changes)
        except Refused as error:
            # Another gateway took the same bytes: what it wrote is what stands.
            raise WrongOffset((await self._as_here(await self._store.get(upload.id))).offset) from error

    async def _known(self, pipeline: str, upload_id: str) -> Upload:
        upload = await self._store.get(upload_id)
        if upload.pipeline != pipeline:
            raise Missing(f"there is no upload {upload_id} into {pipeline}", field="upload")
        return upload

    async def _as_here(self, upload: Upload) -> Upload:
        """With the offset that can be gone on from at this gateway."""
        if upload.format != "parquet" or upload.done:
            return upload
        return replace(upload, offset=await asyncio.to_thread(self._parts.length, upload.id))

    def _step(self, state: PipelineState) -> int:
        # Rows between two notes must all be remembered by ingest, or one sent again might be new to it.
        return min(STEP_ROWS, self._catalogue.parsed(state).events.dedupe_window // 2)


def _check(offset: int, wanted: int, size: int, data: bytes) -> None:
    if offset != wanted:
        raise WrongOffset(wanted)
    if offset + len(data) > size:
        raise Invalid(f"the file was announced with {size} bytes, and these go up to {offset + len(data)}",
                      field="size", remedy="begin an upload of the file as it is now")
