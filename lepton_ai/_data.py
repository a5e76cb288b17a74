"""How a file becomes rows: which formats are read, what counts as missing, and how columns are named as fields."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from lepton.contracts.files.naming import MAX_NAME, plain_name
from lepton.errors import Invalid, Missing

SUFFIXES: Final = (".csv", ".jsonl", ".parquet")
# Spellings of "not there" in text files; in JSON and Parquet only null is.
MISSING_TEXTS: Final = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one source: columns renamed to field names and brought to the types a Pipeline knows.

    `columns` maps field names to the columns they were, `notes` say what reading them changed, `digest` is the SHA-256
    of the source.
    """

    table: pa.Table
    digest: str
    columns: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def dicts(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Rows as JSON objects; a missing value is left out."""
        rows = self.table.slice(start, stop - start).to_pylist()
        return [{name: value for name, value in row.items() if value is not None} for row in rows]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows that Lepton has: where they are, which field is their label, and what they were read from.

    `rows` is None when the data set was loaded by another program, and only Lepton has its rows.
    """

    name: str
    pipeline: str
    label: str | None
    label_because: str
    accepted: int
    fields: Mapping[str, str]
    rows: Rows | None = field(default=None, repr=False)
    report: Any = field(default=None, repr=False)
    """What cleaning repairs, once `data_clean` has looked."""

    def __str__(self) -> str:
        label = f"label {self.label} ({self.label_because})" if self.label else "no label"
        return f"data set {self.name}: {self.accepted} rows in pipeline {self.pipeline}, {label}"


def find_file(name: str, folder: Path | None = None) -> Path | None:
    """The file of that name, with or without an extension; None when there is none. Raises Invalid for two of them."""
    base = folder or Path.cwd()
    exact = base / name
    if exact.is_file():
        return exact
    found = [path for suffix in SUFFIXES if (path := exact.with_name(exact.name + suffix)).is_file()]
    if len(found) > 1:
        raise Invalid(f"{name!r} could be {' or '.join(path.name for path in found)}", place=str(base),
                      remedy="name the one you mean with its extension")
    return found[0] if found else None


def read(path: Path) -> Rows:
    """Rows of a CSV, JSONL or Parquet file. Raises Invalid with the place, Missing when there is no such file."""
    if not path.is_file():
        raise Missing("no such file", place=str(path))
    reader = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}.get(path.suffix.lower())
    if reader is None:
        raise Invalid(f"{path.suffix or 'no extension'} is not a format that is read", place=str(path),
                      remedy=f"use one of {', '.join(SUFFIXES)}")
    try:
        table = reader(path)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as failure:
        raise Invalid(f"cannot be read as {path.suffix[1:]}: {failure}", place=str(path)) from failure
    return from_table(table, digest(path.read_bytes()), str(path))


def from_rows(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows from memory. Raises Invalid when a column mixes types."""
    try:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=None)
        text = json.dumps([dict(row) for row in rows], sort_keys=True, default=str)
    except (pa.ArrowException, TypeError, ValueError) as failure:
        raise Invalid(f"rows that do not make a table: {failure}") from failure
    return from_table(table, digest(text.encode()), "rows")


def from_table(table: pa.Table, source_digest: str, place: str) -> Rows:
    """The same for an Arrow table."""
    if table.num_rows == 0 or table.num_columns == 0:
        raise Invalid("no rows", place=place)
    columns = dict(zip(field_names(table.column_names), table.column_names, strict=True))
    notes: list[str] = []
    arrays: dict[str, pa.ChunkedArray] = {}
    for name, original in columns.items():
        array, note = _plain(table.column(list(columns).index(name)), original, place)
        if array.null_count == len(array):
            notes.append(f"column {original} is empty and was left out")
            continue
        arrays[name] = array
        notes += [note] if note else []
    notes += [f"column {original} is called {name}" for name, original in columns.items()
              if name != original and name in arrays]
    if not arrays:
        raise Invalid("every column is empty", place=place)
    return Rows(pa.table(arrays), source_digest, {name: columns[name] for name in arrays}, tuple(notes))


def digest(data: bytes | pa.Buffer) -> str:
    """SHA-256 of a source's bytes, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def field_name(column: str) -> str:
    """A column's name as a field: lower-case letters, digits and _, beginning with a letter."""
    return plain_name(column)


def field_names(columns: Iterable[str]) -> Iterator[str]:
    """Field names in the order of the columns, each once: a second of the same name gets _2."""
    taken: set[str] = set()
    for column in columns:
        name, count = field_name(column), 1
        while name in taken:
            count += 1
            suffix = f"_{count}"
            name = field_name(column)[: MAX_NAME - len(suffix)] + suffix
        taken.add(name)
        yield name


def _csv(path: Path) -> pa.Table:
    options = pa.csv.ConvertOptions(null_values=list(MISSING_TEXTS), strings_can_be_null=True,
                                    true_values=["true", "True", "TRUE"], false_values=["false", "False", "FALSE"])
    return pa.csv.read_csv(path, convert_options=options,
                           parse_options=pa.csv.ParseOptions(newlines_in_values=True))


def _jsonl(path: Path) -> pa.Table:
    return pa.json.read_json(path, parse_options=pa.json.ParseOptions(newlines_in_values=False))


def _parquet(path: Path) -> pa.Table:
    return pa.parquet.read_table(path)


def _plain(array: pa.ChunkedArray, column: str, place: str) -> tuple[pa.ChunkedArray, str]:
    """The column as float64, int64, bool or string, and what was done to it."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _plain(array.cast(kind.value_type), column, place)
    if pa.types.is_boolean(kind):
        return array, ""
    try:
        if pa.types.is_integer(kind):
            return array.cast(pa.int64()), ""
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return _finite(array.cast(pa.float64()), column)
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            seconds = [None if value is None else _epoch_s(value) for value in array.to_pylist()]
            return pa.chunked_array([pa.array(seconds, pa.float64())]), f"column {column} was read as epoch seconds"
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
            return array.cast(pa.string()), ""
    except pa.ArrowInvalid as failure:
        raise Invalid(f"column {column}: {failure}", field=column, place=place) from failure
    raise Invalid(f"column {column} holds {kind}, which is no number, text or truth value", field=column, place=place,
                  remedy="leave it out, or flatten it into columns")


def _finite(array: pa.ChunkedArray, column: str) -> tuple[pa.ChunkedArray, str]:
    finite = pc.fill_null(pc.is_finite(array), True)
    strange = len(array) - int(pc.sum(finite).as_py() or 0)
    if strange == 0:
        return array, ""
    kept = pc.if_else(finite, array, pa.scalar(None, pa.float64()))
    return kept, f"column {column}: {strange} values are not finite and count as missing"


def _epoch_s(value: date | datetime) -> float:
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
