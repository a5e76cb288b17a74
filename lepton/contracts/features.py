"""The Arrow layout of a features batch and of the outcome table: column names, types, order and encoding."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.arrow import stream
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.reading.columns import FIELD_TYPES, REPAIRS_TYPE
from lepton.errors import Invalid

CONTENT_TYPE = stream.CONTENT_TYPE

EVENT_ID = "_event_id"
ENTITY = "_entity"
OCCURRED_AT = "_occurred_at"
SOURCE = "_source"
TRACEPARENT = "_traceparent"
SOURCE_OFFSET = "_source_offset"
OUTLIERS = "_outliers"
REPAIRS = "_repairs"

_OURS: list[pa.Field] = [
    pa.field(EVENT_ID, pa.string(), nullable=False),
    pa.field(ENTITY, pa.string(), nullable=False),
    pa.field(OCCURRED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field(SOURCE, pa.string(), nullable=False),
    pa.field(TRACEPARENT, pa.string()),
    pa.field(SOURCE_OFFSET, pa.int64(), nullable=False),
    pa.field(OUTLIERS, pa.list_(pa.int16()), nullable=False),
]
_OUR_TYPES = {field.name: field.type for field in _OURS}
# Absent from batches written before there was one.
_REPAIRS = pa.field(REPAIRS, REPAIRS_TYPE)
# Of the pipelines that are read here and now.
_checked: deque[pa.Schema] = deque(maxlen=8)
_LABEL_TYPES: dict[str, pa.DataType] = {"float": pa.float64(), "int": pa.float64(), "bool": pa.bool_(),
                                        "category": pa.string()}


def features_schema(pipeline: Pipeline, spec_version: int = 1) -> pa.Schema:
    """Columns of a batch: ours (`_…`), then every field but the label, then windows, in the Pipeline's order, nullable.

    `_source_offset` is the offset in the events topic, in the partition the batch is in. `_traceparent` is null
    where a row is not sampled. `_outliers` are indexes into the fields (label left out). `_repairs` says what ingest
    changed (field index; `unit`, `range`, `normalise`, `forward_fill`…; the value before as text), null where nothing.
    Metadata says the pipeline, the spec version and the input schema digest.
    """
    columns = [pa.field(name, FIELD_TYPES[spec.type]) for name, spec in pipeline.fields.items()]
    columns += [pa.field(name, pa.float64()) for name in pipeline.window_columns]
    return pa.schema([*_OURS, _REPAIRS, *columns], metadata={
        "pipeline": pipeline.name, "spec_version": str(spec_version),
        "input_schema_digest": pipeline.input_schema_digest()})


def encode_batch(batch: pa.RecordBatch) -> bytes:
    """One IPC stream (lz4) that holds exactly this batch."""
    return stream.write_table(batch)


def decode_batch(data: bytes, without: frozenset[str] = frozenset()) -> pa.RecordBatch:
    """The batch of `encode_batch`, but for the columns of `without`. Raises Invalid on anything else: other bytes,
    damage, our columns absent or of another type."""
    schema, batches = stream.read_batches(data, stream.OWN, what="an Arrow stream of features", without=without)
    if len(batches) != 1:
        raise Invalid(f"a features record holds one batch, this one {len(batches)}")
    _check_ours(schema)
    return batches[0]


def _check_ours(schema: pa.Schema) -> None:
    """Raises Invalid where one of our columns is absent or of another type."""
    if any(schema is known for known in _checked):
        return
    kinds = dict(zip(schema.names, schema.types, strict=True))
    for name, kind in _OUR_TYPES.items():
        if kinds.get(name) != kind:
            raise Invalid("a features batch lacks one of its columns", field=name, remedy=f"it must be {kind}")
    if kinds.get(REPAIRS, _REPAIRS.type) != _REPAIRS.type:
        raise Invalid("a features batch has one of its columns of another type", field=REPAIRS,
                      remedy=f"it must be {_REPAIRS.type}")
    _checked.append(schema)


def projected(rows: pa.Table, pipeline: Pipeline) -> pa.Table:
    """Stored rows of this Pipeline or of an earlier version it is `compatible` with, as rows of this one.

    Columns there were not yet are null, and the indexes in `_outliers` and `_repairs` are of this version's fields.
    Raises Invalid when a column is of another type.
    """
    schema = features_schema(pipeline)
    places = {name: place for place, name in enumerate(pipeline.fields)}
    moved = [places[name] for name in rows.column_names if name in places]
    columns = []
    for field in schema:
        if field.name not in rows.column_names:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        column = rows.column(field.name)
        if column.type != field.type:
            raise Invalid(f"stored rows have column {field.name} as {column.type}, not {field.type}", field=field.name,
                          remedy="read them under the version they were written by")
        if field.name in (OUTLIERS, REPAIRS) and moved != list(range(len(moved))):
            column = _with_places(column.combine_chunks(), pa.array(moved, pa.int16()))
        columns.append(column)
    return pa.table(columns, schema=schema)


def _with_places(column: pa.Array, places: pa.Array) -> pa.Array:
    """Lists of field indexes, or of structs that begin with one, with each index looked up in `places`.

    Raises Invalid for the index of a field there is not.
    """
    entries = pc.list_flatten(column)
    try:
        if pa.types.is_struct(entries.type):
            first, *rest = entries.flatten()
            entries = pa.StructArray.from_arrays([places.take(first), *rest], fields=list(entries.type))
        else:
            entries = places.take(entries)
    except pa.ArrowIndexError as error:
        raise Invalid(f"stored rows name a field by a number that none has: {error}") from error
    ends = np.zeros(len(column) + 1, np.int32)
    np.cumsum(pc.fill_null(pc.list_value_length(column), 0), out=ends[1:])
    return pa.ListArray.from_arrays(pa.array(ends), entries, type=column.type, mask=column.is_null())


def encode_table(table: pa.Table) -> bytes:
    """The bytes of a segment: one IPC stream (lz4), read back by `decode_table`."""
    return stream.write_table(table)


def decode_table(data: bytes) -> pa.Table:
    """Rows of a segment, written by `encode_table` or `encode_batch`. Raises Invalid on anything else."""
    return stream.read_table(data, stream.OWN, what="the rows of a segment")


def spec_version(schema: pa.Schema) -> int:
    """Spec version a batch was written under. Raises Invalid when it does not say."""
    text = (schema.metadata or {}).get(b"spec_version", b"")
    if not text.isdigit():
        raise Invalid("a features batch names no spec version", field="spec_version")
    return int(text)


def outcome_schema(pipeline: Pipeline) -> pa.Schema:
    """`event_id`, `entity`, `label` (float64 for numbers, bool, or string for categories), `label_time`."""
    if pipeline.label_type is None:
        raise Invalid(f"pipeline {pipeline.name} has no label", field="events.label", remedy="add events.label")
    return pa.schema([
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("entity", pa.string(), nullable=False),
        pa.field("label", _LABEL_TYPES[pipeline.label_type], nullable=False),
        pa.field("label_time", pa.timestamp("us", tz="UTC"), nullable=False),
    ], metadata={"pipeline": pipeline.name})


def outcome_table(pipeline: Pipeline, outcomes: Sequence[Outcome]) -> pa.Table:
    """Outcomes as they are stored in segments. Raises Invalid when one's label is not of the Pipeline's type."""
    schema = outcome_schema(pipeline)
    member = {pa.float64(): "number", pa.bool_(): "flag", pa.string(): "category"}[schema.field("label").type]
    for outcome in outcomes:
        if outcome.WhichOneof("label") != member:
            raise Invalid(f"the label of event {outcome.event_id!r} is no {member}", field="label")
    times = [outcome.label_time for outcome in outcomes]
    columns = ([outcome.event_id for outcome in outcomes], [outcome.entity for outcome in outcomes],
               [getattr(outcome, member) for outcome in outcomes],
               [time.seconds * 1_000_000 + time.nanos // 1000 for time in times])
    return pa.Table.from_arrays([pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)],
                                schema=schema)
