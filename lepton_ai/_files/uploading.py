"""How a file reaches a pipeline: in pieces, from wherever it was left, through failures of either side."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lepton.errors import Busy, Invalid, Missing, Refused, Unavailable
from lepton_ai._transport import Transport

PIECE_BYTES: Final = 1024 * 1024
# A gateway that died is started again within seconds; one that stays away this long is not coming.
PATIENCE_S: Final = 300.0
_PAUSE_S: Final = 1.0
FORMATS: Final = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True)
class Upload:
    """How far a file has come: `offset` of `size` bytes are taken in, `rows` are durable, `refused` of those at once.

    Whether the values of the others are accepted is seen to by ingest: see the dead letters of the source
    `file/<name>`. `hashed`: bytes looked at before anything is sent. `total_rows` is known for Parquet, in the end.
    """

    id: str
    pipeline: str
    name: str
    format: str
    size: int
    offset: int
    rows: int
    refused: int
    done: bool
    total_rows: int | None = None
    ignored_columns: tuple[str, ...] = ()
    hashed: int = 0

    def __str__(self) -> str:
        state = "done" if self.done else f"{self.offset} of {self.size} bytes"
        refused = f", {self.refused} refused" if self.refused else ""
        return f"{self.name} into {self.pipeline}: {state}, {self.rows} rows{refused}"


OnProgress = Callable[[Upload], None]


class Uploading:
    """Sends files. The same file again, by this program or another, goes on where it was left."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def upload(self, pipeline: str, path: Path, on_progress: OnProgress | None = None, *,
                     name: str | None = None, delimiter: str | None = None) -> Upload:
        """Send the file; return once every row is durable.

        Raises Missing (file, pipeline), Invalid (the file is not what it seems, or changed meanwhile), Refused,
        Unavailable (nothing moved for five minutes; calling again goes on).
        """
        tell = on_progress or _nothing
        kind = FORMATS.get(path.suffix.lower())
        if kind is None:
            raise Invalid(f"{path.suffix or 'no extension'} is not a format that is read", place=str(path),
                          remedy=f"use one of {', '.join(FORMATS)}")
        before = _stat(path)
        if before[0] == 0:
            raise Invalid("the file is empty", place=str(path))
        called = name or path.name
        sha256 = await self._digest(path, Upload("", pipeline, called, kind, before[0], 0, 0, 0, False), tell)
        told = {"name": called, "format": kind, "size": before[0], "sha256": sha256,
                "delimiter": delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")}
        root = f"/v1/pipelines/{pipeline}/uploads"
        upload = _upload((await self._transport.call("POST", root, json=told)).json())
        tell(upload)
        return await self._send(path, root, upload, before, tell)

    async def _send(self, path: Path, root: str, upload: Upload, before: tuple[int, int], tell: OnProgress) -> Upload:
        clock = self._transport.clock
        moved_at = clock.monotonic()
        with path.open("rb") as file:
            while not upload.done:
                file.seek(upload.offset)
                piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, upload.size - upload.offset))
                if _stat(path) != before:
                    raise Invalid("the file was changed while it was sent", place=str(path),
                                  remedy="send it again as it is now; rows with ids of their own do not count twice")
                try:
                    after = await self._piece(f"{root}/{upload.id}", upload.offset, piece)
                except (Unavailable, Busy) as failure:
                    if clock.monotonic() - moved_at > PATIENCE_S:
                        raise
                    tell(upload)
                    wait_s = failure.retry_after_s if isinstance(failure, Busy) else _PAUSE_S
                    await clock.sleep(wait_s)
                    continue
                if (after.offset, after.rows, after.done) != (upload.offset, upload.rows, upload.done):
                    moved_at = clock.monotonic()
                upload = after
                tell(upload)
        return upload

    async def _piece(self, path: str, offset: int, piece: bytes) -> Upload:
        try:
            answer = await self._transport.call("PATCH", path, params={"offset": offset}, content=piece,
                                                headers={"content-type": "application/octet-stream"})
        except Refused as refused:
            if refused.field != "offset":
                raise
            # A piece whose answer was lost, or another who sends the same file: go on from where it stands.
            return _upload(await self._transport.get(path))
        return _upload(answer.json())

    async def _digest(self, path: Path, upload: Upload, tell: OnProgress) -> str:
        digest, done = hashlib.sha256(), 0
        with path.open("rb") as file:
            while block := await asyncio.to_thread(file.read, 8 * PIECE_BYTES):
                await asyncio.to_thread(digest.update, block)
                done += len(block)
                tell(Upload(upload.id, upload.pipeline, upload.name, upload.format, upload.size, 0, 0, 0, False,
                            hashed=done))
        return digest.hexdigest()


def _upload(told: Mapping[str, Any]) -> Upload:
    total = told.get("total_rows")
    return Upload(str(told["id"]), str(told["pipeline"]), str(told["name"]), str(told["format"]), int(told["size"]),
                  int(told["offset"]), int(told["rows"]), int(told["refused"]), bool(told["done"]),
                  None if total is None else int(total), tuple(told.get("ignored_columns", ())), int(told["size"]))


def _stat(path: Path) -> tuple[int, int]:
    try:
        told = path.stat()
    except OSError as failure:
        raise Missing(f"cannot be read: {failure.strerror}", place=str(path)) from failure
    return told.st_size, told.st_mtime_ns


def _nothing(_: Upload) -> None:
    """Nobody wants to know."""
