"""Corrections in tables (CSV, Parquet, Arrow) as the JSON lines that labels are taken in."""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.csv

from lepton.contracts.arrow.stream import FOREIGN, read_table
from lepton.contracts.files import parquet
from lepton.contracts.files.records import without_bom
from lepton.contracts.files.rows import split
from lepton.contracts.files.tables import Told, sizes, steps
from lepton.contracts.pipeline import Pipeline
from lepton.errors import Invalid

Table = Literal["csv", "parquet", "arrow"]
_MAX_COLUMNS, _BATCH_ROWS = 1000, 10_000
# Rows of such tables may take less than a byte each; what they cost is their line of JSON.
_BOUNDS = replace(FOREIGN, least_rows=250_000)
_FIRST_LINE = re.compile(rb"[\r\n]*([^\r\n]*)")
_encode = msgspec.json.Encoder().encode
_MEMBERS = ("event_id", "label", "entity", "label_time")
_TRUTH = {**dict.fromkeys(("true", "yes", "1", "1.0", "t", "y"), True),
          **dict.fromkeys(("false", "no", "0", "0.0", "f", "n"), False)}


def as_lines(pipeline: Pipeline, kind: Table, data: bytes) -> bytes:
    """One label a line. Raises Invalid when it is no such table, has no column for the event or the label, or would
    unpack to more bytes or rows than are read of so many. It works long: call it in a thread.

    Columns are `event_id`, `label`, and where there are `entity` and `label_time`; the first two may also be called as
    the Pipeline calls them. Other columns are left out, and not read where the form allows it.
    """
    lines: list[bytes] = []
    with _opened(kind, data) as table:
        members = _members(pipeline, table.names)
        for batch in _bounded(table.batches(list(members.values())), len(data)):
            for rows in steps(batch, len(lines) + 1):
                lines += [_line(pipeline, members, row, number) for number, row in enumerate(rows, len(lines) + 1)]
    return b"\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A table with what its columns are called; `batches` reads those that are asked for."""

    names: list[str]
    batches: Callable[[list[str]], Iterable[pa.RecordBatch]]


def _members(pipeline: Pipeline, columns: list[str]) -> dict[str, str]:
    """The column of each member that has one. Raises Invalid."""
    found = {member: name for member, names in _names(pipeline).items()
             if (name := next((name for name in names if name in columns), None)) is not None}
    for member in ("event_id", "label"):
        if member not in found:
            raise Invalid(f"there is no column {' or '.join(_names(pipeline)[member])}", field=member,
                          remedy=f"the table has {', '.join(columns[:50])}"[:1000])
    return found


def _bounded(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """Raises Invalid once they are more than a body of so many bytes may hold."""
    rows = data = 0
    for batch in batches:
        rows += batch.num_rows
        data += int(sizes(batch).data.sum())
        if data > (most := _BOUNDS.bytes_for(size)):
            raise Invalid(f"{size} bytes unpack to more than {most}, the most that is read of so many", field="body",
                          remedy="send fewer labels at once")
        if rows > (most := _BOUNDS.rows_for(size)):
            raise Invalid(f"{size} bytes with more than {most} rows, the most that is read of so many", field="body",
                          remedy="send them as CSV or JSON lines, or as several tables")
        yield batch


def _line(pipeline: Pipeline, members: Mapping[str, str], row: Told, number: int) -> bytes:
    if isinstance(row, Invalid):
        raise row
    given = {member: value for member, name in members.items() if (value := row[name]) is not None}
    try:
        return _encode({member: _value(pipeline, member, value, number) for member, value in given.items()})
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(f"cannot be JSON: {error}"[:300], field="label", place=f"row {number}") from error


def _names(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    names = {member: (member,) for member in _MEMBERS}
    own = {"event_id": pipeline.events.id, "label": pipeline.label_field, "entity": pipeline.events.entity}
    return {member: tuple(dict.fromkeys((*names[member], *((name,) if (name := own.get(member)) else ()))))
            for member in _MEMBERS}


@contextmanager
def _opened(kind: Table, data: bytes) -> Iterator[_Opened]:
    """Raises Invalid; so do errors inside of the context that come from reading the table."""
    try:
        if kind == "csv":
            yield _csv(data)
        elif kind == "arrow":
            table = read_table(data)
            yield _Opened(table.column_names, lambda names: table.select(names).to_batches(_BATCH_ROWS))
        else:
            with parquet.opened(data) as file:
                yield _Opened(file.schema_arrow.names, lambda names: parquet.batches(file, _BATCH_ROWS, names))
    except Invalid as error:
        raise Invalid(error.message, field="body" if error.field == "format" else error.field, place=error.place,
                      remedy=error.remedy) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Invalid(f"not a {kind} table: {(str(error).splitlines() or [''])[0][:500]}", field="body") from error


def _csv(data: bytes) -> _Opened:
    """As text: what a label is, the Pipeline says, and no guess."""
    header = _FIRST_LINE.match(without_bom(data))
    first = header[1] if header is not None else b""
    if first.count(b",") >= _MAX_COLUMNS:
        raise Invalid(f"it has more than {_MAX_COLUMNS} columns", field="body", remedy="leave out what is not needed")
    names = split(first)

    def batches(wanted: list[str]) -> Iterator[pa.RecordBatch]:
        table = pa.csv.read_csv(io.BytesIO(data), convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=True,
            include_columns=wanted))
        yield from table.to_batches(_BATCH_ROWS)

    return _Opened(names, batches)


def _value(pipeline: Pipeline, member: str, value: Any, row: int) -> Any:
    """Tables say less than JSON: truth may be 1 or yes, a whole number 3.0, and in CSV everything is text."""
    if member != "label" or pipeline.label_type == "category":
        return value
    try:
        if pipeline.label_type == "bool":
            return value if isinstance(value, bool) else _TRUTH[str(value).strip().lower()]
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    except (KeyError, ValueError, TypeError) as error:
        raise Invalid(f"{value!r} is no {pipeline.label_type}", field="label", place=f"row {row}") from error
