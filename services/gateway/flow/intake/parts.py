"""Parquet files on their way in: bytes gathered on this machine's disk, then read a few rows at a time.

A Parquet file can be read only once it is whole. What lies here can be sent again: another machine, or this one after
its disk was lost, asks for the bytes from the beginning, and rows that are behind the upload are not written again.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lepton.contracts.files import parquet
from lepton.contracts.files.tables import Told
from lepton.errors import Invalid, Unavailable

MAX_OPEN = 4
_HASH_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Open:
    """A file being read: `next` is the row that its `rows` go on from."""

    rows: Iterator[list[Told]]
    next: int


class Parts:
    """Files by upload id. Every method waits for the disk: call them in a thread, one at a time for one upload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def length(self, upload_id: str) -> int:
        """Bytes that are here, from the first on."""
        path = self._path(upload_id)
        return path.stat().st_size if path.exists() else 0

    def append(self, upload_id: str, data: bytes) -> int:
        """Put bytes behind those that are here, durably; how many there are now. Raises Unavailable: the disk."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._path(upload_id).open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                return file.tell()
        except OSError as error:
            raise Unavailable(f"the file cannot be kept here: {error.strerror}", place=str(self._folder),
                              remedy="make room on the gateway's disk, then send the rest") from error

    def check(self, upload_id: str, sha256: str) -> None:
        """Raises Invalid, and lets go of the bytes, when they are not those that were announced."""
        digest = hashlib.sha256()
        with self._path(upload_id).open("rb") as file:
            while block := file.read(_HASH_BYTES):
                digest.update(block)
        if digest.hexdigest() != sha256:
            self.drop(upload_id)
            raise Invalid("the bytes are not those whose SHA-256 was announced", field="sha256",
                          remedy="send the file again from its beginning")

    def describe(self, upload_id: str) -> tuple[int, list[str]]:
        """Rows, and names of columns. Raises Invalid for what is no Parquet file that can be read here."""
        with parquet.opened(self._path(upload_id)) as file:
            return int(file.metadata.num_rows), list(file.schema_arrow.names)

    def read(self, upload_id: str, start: int, count: int, columns: list[str]) -> list[Told]:
        """At most `count` rows from row `start` (from 0) on, fewer where they are long or a row group ends.

        A row that cannot be told is an Invalid that says why. Raises Invalid for a file that cannot be read there.
        """
        reading = self._open.pop(upload_id, None)
        if reading is None or reading.next != start:
            reading = _Open(self._from(upload_id, start, count, columns), start)
        try:
            rows = next(reading.rows, [])
        except Invalid as error:
            raise Invalid(error.message, field=error.field, place=error.place or f"row {start + 1}",
                          remedy=error.remedy) from error
        if rows:
            reading.next += len(rows)
            self._open[upload_id] = reading
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return rows

    def drop(self, upload_id: str) -> None:
        """Let go of a file; nothing happens when there is none."""
        self._open.pop(upload_id, None)
        self._path(upload_id).unlink(missing_ok=True)

    def sweep(self, before_s: float) -> None:
        """Let go of files that nobody has added to since `before_s` (seconds since the epoch)."""
        for path in self._folder.glob("*.parquet") if self._folder.is_dir() else ():
            if path.stat().st_mtime < before_s:
                self.drop(path.stem)

    def _from(self, upload_id: str, start: int, count: int, columns: list[str]) -> Iterator[list[Told]]:
        with parquet.opened(self._path(upload_id)) as file:
            yield from parquet.rows(file, count, columns, start)

    def _path(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.parquet"
