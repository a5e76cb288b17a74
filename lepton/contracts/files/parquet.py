"""Parquet files of anyone: opened so that a small file cannot become much memory, and read a few rows at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from lepton.contracts.files.records import MAX_RECORD_BYTES
from lepton.contracts.files.tables import MAX_STEP_BYTES, Told, steps
from lepton.errors import Invalid

MAX_COLUMN_BYTES: Final = 512 * 1024 * 1024
"""Of one column in one row group, unpacked: a small file may claim to hold very much."""
MAX_COLUMNS: Final = 10_000
"""Those inside of structs and lists counted each."""
_THRIFT = {"thrift_string_size_limit": 16 * 1024 * 1024, "thrift_container_size_limit": 1_000_000}
_VALUE_BYTES = 8


@contextmanager
def opened(file: Path | bytes) -> Iterator[pq.ParquetFile]:
    """Raises Invalid (of `format`) for what is no Parquet file, or has columns that unpack to too much; so do errors
    inside of the context that come from reading it."""
    try:
        with pq.ParquetFile(_source(file), **_THRIFT) as told:
            _check(told)
            texts = [path for path, longest in _texts(told).items() if longest is None]
        # Kept as a dictionary, a long text that repeats is in memory once, however often the file repeats it.
        with pq.ParquetFile(_source(file), read_dictionary=texts, memory_map=isinstance(file, Path), pre_buffer=False,
                            **_THRIFT) as read:
            yield read
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise Invalid(f"cannot be read as Parquet: {(str(error).splitlines() or [''])[0][:500]}",
                      field="format") from error


def batches(file: pq.ParquetFile, count: int, columns: Sequence[str] | None = None,
            start: int = 0) -> Iterator[pa.RecordBatch]:
    """At most `count` rows at a time, from row `start` (from 0) on; texts as dictionaries."""
    group = first = 0
    told = file.metadata
    while group < file.num_row_groups and first + told.row_group(group).num_rows <= start:
        first += told.row_group(group).num_rows
        group += 1
    skip = start - first
    names = list(columns) if columns is not None else None
    for batch in file.iter_batches(_fitting(file, count), row_groups=range(group, file.num_row_groups), columns=names):
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        yield batch.slice(skip)
        skip = 0


def rows(file: pq.ParquetFile, count: int, columns: Sequence[str] | None = None, start: int = 0,
         max_row_bytes: int = MAX_RECORD_BYTES) -> Iterator[list[Told]]:
    """At most `count` rows at a time, fewer where they are long or a row group ends; see `tables.steps`."""
    for batch in batches(file, count, columns, start):
        yield from steps(batch, start + 1, max_row_bytes)
        start += batch.num_rows


def _source(file: Path | bytes) -> Path | pa.BufferReader:
    return file if isinstance(file, Path) else pa.BufferReader(file)


def _check(file: pq.ParquetFile) -> None:
    told = file.metadata
    if told.num_columns > MAX_COLUMNS:
        raise Invalid(f"it has more than {MAX_COLUMNS} columns", field="format", remedy="leave out what is not needed")
    kinds = [file.schema.column(column) for column in range(told.num_columns)]
    for group in map(told.row_group, range(told.num_row_groups)):
        for number, kind in enumerate(kinds):
            column = group.column(number)
            # A run of equal values in lists takes no room in the file, and its full room in memory.
            listed = column.num_values * max(_VALUE_BYTES, kind.length or 0) if kind.max_repetition_level else 0
            if max(column.total_uncompressed_size, listed) > MAX_COLUMN_BYTES:
                raise Invalid(f"a row group holds a column of more than {MAX_COLUMN_BYTES} bytes", field="format",
                              place=kind.path[:200], remedy="write it with smaller row groups")


def _fitting(file: pq.ParquetFile, count: int) -> int:
    """Rows whose values that are no dictionaries fit a step."""
    kinds = (file.schema.column(column) for column in range(len(file.schema)))
    fixed = sum(int(kind.length) for kind in kinds if kind.physical_type == "FIXED_LEN_BYTE_ARRAY")
    fixed += sum(longest for longest in _texts(file).values() if longest is not None)
    return max(1, min(count, MAX_STEP_BYTES // max(1, fixed)))


def _texts(file: pq.ParquetFile) -> dict[str, int | None]:
    """Columns of texts; of those that Arrow cannot read as dictionaries (DELTA encodings), how long one may be."""
    told, found = file.metadata, dict[str, int | None]()
    for number in range(told.num_columns):
        kind = file.schema.column(number)
        if kind.physical_type == "BYTE_ARRAY":
            chunks = [told.row_group(group).column(number) for group in range(told.num_row_groups)]
            delta = any(name.startswith("DELTA") for chunk in chunks for name in chunk.encodings)
            found[kind.path] = max((chunk.total_uncompressed_size for chunk in chunks), default=0) if delta else None
    return found
