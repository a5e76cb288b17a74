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
    return b"\n".join(encode({member: _value(pipeline, member, values[row]) for member, values in given.items()
                              if values[row] is not None}) for row in range(table.num_rows))


def _names(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    names = {member: (member,) for member in _MEMBERS}
    own = {"event_id": pipeline.events.id, "label": pipeline.label_field, "entity": pipeline.events.entity}
    return {member: tuple(dict.fromkeys((*names[member], *((name,) if (name := own.get(member)) else ()))))
            for member in _MEMBERS}


def _read(kind: Table, data: bytes, pipeline: Pipeline) -> pa.Table:
    try:
        if kind == "csv":
            text = {name: pa.string() for member in ("event_id", "entity", "label_time")
                    for name in _names(pipeline)[member]}
            if pipeline.label_type == "category":
                text |= {name: pa.string() for name in _names(pipeline)["label"]}
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


def _value(pipeline: Pipeline, member: str, value: Any) -> Any:
    """CSV and other tools write truth as 0 and 1, and whole numbers as 3.0."""
    if member != "label":
        return value
    if pipeline.label_type == "bool" and isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if pipeline.label_type == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
