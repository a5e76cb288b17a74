"""How rows of a file are read one after the other, however large it is: records as bytes, or values from Parquet."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lepton.contracts.files import parquet
from lepton.contracts.files.records import Format, cut, without_bom
from lepton.contracts.files.rows import column_names
from lepton.errors import Invalid, Missing
from lepton_ai._files.uploading import FORMATS

_PIECE_BYTES: Final = 64 * 1024
_BATCH_ROWS: Final = 1000
MAX_ROW_BYTES: Final = 16 * 1024 * 1024
"""Of a Parquet file: as much as a gateway takes in a request, unless it is set otherwise."""


@dataclass(frozen=True, slots=True)
class Record:
    """Row `number` (from 1): its text in CSV and JSONL, its values in Parquet. `share`: of the file that is read.

    `problem`: why a row of Parquet has no values that can be told.
    """

    number: int
    share: float
    text: bytes = b""
    values: Mapping[str, Any] | None = None
    problem: Invalid | None = None


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file of rows. `columns` are those of CSV and Parquet; members of JSON lines are each line's own."""

    path: Path
    format: Format
    delimiter: str
    columns: tuple[str, ...]

    def records(self) -> Iterator[Record]:
        """From the first row on. Raises Invalid when the file cannot be read as what it is."""
        return self._values() if self.format == "parquet" else self._texts()

    def _texts(self) -> Iterator[Record]:
        size = max(1, self.path.stat().st_size)
        skip, number = self.format == "csv", 0
        for records, read in _pieces(self.path, self.format, self.delimiter):
            for record in records:
                if skip:
                    skip = False
                    continue
                number += 1
                yield Record(number, read / size, record)

    def _values(self) -> Iterator[Record]:
        with _parquet(self.path) as file:
            total, number = max(1, file.metadata.num_rows), 0
            for rows in parquet.rows(file, _BATCH_ROWS, max_row_bytes=MAX_ROW_BYTES):
                for row in rows:
                    number += 1
                    problem = row if isinstance(row, Invalid) else None
                    yield Record(number, number / total, values=None if isinstance(row, Invalid) else row,
                                 problem=problem)


def open_rows(path: Path, delimiter: str | None = None) -> RowFile:
    """The file with its columns. Raises Missing, Invalid."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise Invalid(f"{path.suffix or 'no extension'} is not a format that is read", place=str(path),
                      remedy=f"use one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise Missing("no such file", place=str(path))
    mark = delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
    if kind == "parquet":
        with _parquet(path) as file:
            return RowFile(path, "parquet", mark, tuple(file.schema_arrow.names))
    if kind == "jsonl":
        return RowFile(path, "jsonl", mark, ())
    first = next((records[0] for records, _ in _pieces(path, "csv", mark) if records), None)
    if first is None:
        raise Invalid("the file is empty", place=str(path))
    return RowFile(path, "csv", mark, tuple(column_names(first, mark)))


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        with parquet.opened(path) as file:
            yield file
    except Invalid as failure:
        raise Invalid(failure.message, field=failure.place, place=str(path), remedy=failure.remedy) from failure


def _pieces(path: Path, kind: Format, delimiter: str) -> Iterator[tuple[list[bytes], int]]:
    """Records and bytes read so far, piece by piece."""
    rest, read = b"", 0
    with path.open("rb") as file:
        while True:
            block = file.read(_PIECE_BYTES)
            data = without_bom(rest + block) if read == 0 else rest + block
            read += len(block)
            piece = cut(kind, data, delimiter=delimiter, last=not block)
            yield piece.records, read
            if not block:
                return
            if piece.too_long:
                raise Invalid("a record is longer than a megabyte", place=str(path))
            rest = piece.rest
