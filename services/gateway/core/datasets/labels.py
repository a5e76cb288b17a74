"""Corrections in tables (CSV, Parquet, Arrow) as the JSON lines that labels are taken in."""

import io
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from lepton.contracts.pipeline import Pipeline
from lepton.errors import Invalid

Table = Literal["csv", "parquet", "arrow"]
_MEMBERS = ("event_id", "label", "entity", "label_time")
_TRUTH = {**dict.fromkeys(("true", "yes", "1", "1.0", "t", "y"), True),
          **dict.fromkeys(("false", "no", "0", "0.0", "f", "n"), False)}


def as_lines(pipeline: Pipeline, kind: Table, data: bytes) -> bytes:
    """One label a line. Raises Invalid when it is no such table, or has no column for the event or the label.

    Columns are `event_id`, `label`, and where there are `entity` and `label_time`; the first two may also be called as
    the Pipeline calls them. Other columns are left out.
    """
    table = _read(kind, data, pipeline)
    columns = {member: _column(table, names) for member, names in _names(pipeline).items()}
    for member in ("event_id", "label"):
        if columns[member] is None:
            raise Invalid(f"there is no column {' or '.join(_names(pipeline)[member])}", field=member,
                          remedy=f"the table has {', '.join(table.column_names)}")
    given = {member: column.to_pylist() for member, column in columns.items() if column is not None}
    encode = msgspec.json.Encoder().encode
    return b"\n".join(encode({member: _value(pipeline, member, values[row], row) for member, values in given.items()
                              if values[row] is not None}) for row in range(table.num_rows))


def _names(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    names = {member: (member,) for member in _MEMBERS}
    own = {"event_id": pipeline.events.id, "label": pipeline.label_field, "entity": pipeline.events.entity}
    return {member: tuple(dict.fromkeys((*names[member], *((name,) if (name := own.get(member)) else ()))))
            for member in _MEMBERS}


def _read(kind: Table, data: bytes, pipeline: Pipeline) -> pa.Table:
    try:
        if kind == "csv":
            # As text: what a label is, the Pipeline says, and no guess.
            text = {name: pa.string() for names in _names(pipeline).values() for name in names}
            return pa.csv.read_csv(io.BytesIO(data), convert_options=pa.csv.ConvertOptions(
                column_types=text, strings_can_be_null=True))
        if kind == "parquet":
            return pq.read_table(io.BytesIO(data))
        with pa.ipc.open_stream(data) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Invalid(f"not a {kind} table: {str(error).splitlines()[0]}", field="body") from error


def _column(table: pa.Table, names: tuple[str, ...]) -> Any:
    return next((table.column(name) for name in names if name in table.column_names), None)


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
        raise Invalid(f"{value!r} is no {pipeline.label_type}", field="label", place=f"row {row + 1}") from error
