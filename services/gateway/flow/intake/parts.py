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
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lepton.errors import Invalid, Unavailable

MAX_COLUMN_BYTES = 512 * 1024 * 1024
"""Of one column in one row group, unpacked: a small file may claim to hold very much."""
MAX_OPEN = 4
_HASH_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Open:
    """A file being read: `next` is the row its `batches` go on from; `waiting` was read and not given yet."""

    batches: Iterator[pa.RecordBatch]
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
        try:
            with self._file(upload_id) as file:
                told = file.metadata
                for group in range(told.num_row_groups):
                    sizes = (told.row_group(group).column(column).total_uncompressed_size
                             for column in range(told.num_columns))
                    if max(sizes, default=0) > MAX_COLUMN_BYTES:
                        raise Invalid(f"row group {group} holds a column of more than {MAX_COLUMN_BYTES} bytes",
                                      field="format", remedy="write it with smaller row groups")
                return int(told.num_rows), list(file.schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            raise Invalid(f"cannot be read as Parquet: {error}", field="format") from error

    def read(self, upload_id: str, start: int, count: int, columns: list[str]) -> list[dict[str, Any]]:
        """At most `count` rows from row `start` (from 0) on; fewer where a row group ends. Raises Invalid."""
        try:
            reading = self._open.pop(upload_id, None)
            if reading is None or reading.next != start:
                reading = _Open(self._from(upload_id, start, count, columns), start)
            batch = next(reading.batches, None)
            if batch is None:
                return []
            reading.next += batch.num_rows
            self._open[upload_id] = reading
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
            return list(batch.to_pylist())
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise Invalid(f"cannot be read as Parquet: {error}", field="format", place=f"row {start + 1}") from error

    def drop(self, upload_id: str) -> None:
        """Let go of a file; nothing happens when there is none."""
        self._open.pop(upload_id, None)
        self._path(upload_id).unlink(missing_ok=True)

    def sweep(self, before_s: float) -> None:
        """Let go of files that nobody has added to since `before_s` (seconds since the epoch)."""
        for path in self._folder.glob("*.parquet") if self._folder.is_dir() else ():
            if path.stat().st_mtime < before_s:
                self.drop(path.stem)

    def _from(self, upload_id: str, start: int, count: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        with self._file(upload_id) as file:
            group = first = 0
            while group < file.num_row_groups and first + file.metadata.row_group(group).num_rows <= start:
                first += file.metadata.row_group(group).num_rows
                group += 1
            skip = start - first
            for batch in file.iter_batches(count, row_groups=range(group, file.num_row_groups), columns=columns):
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                yield batch.slice(skip)
                skip = 0

    def _file(self, upload_id: str) -> pq.ParquetFile:
        path = self._path(upload_id)
        with pq.ParquetFile(path) as told:
            texts = [field.name for field in told.schema_arrow
                     if pa.types.is_string(field.type) or pa.types.is_binary(field.type)]
        # Kept as a dictionary, a long text that repeats is in memory once, however often the file repeats it.
        return pq.ParquetFile(path, read_dictionary=texts, memory_map=True, pre_buffer=False,
                              thrift_string_size_limit=16 * 1024 * 1024, thrift_container_size_limit=1_000_000)

    def _path(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.parquet"
