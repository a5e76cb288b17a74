"""The Arrow layout of a batch of streamed predictions, and how both forms of the predictions topic are read.

A record of the topic is one PredictionServed, or, where its content type says so, an Arrow stream of one batch. A batch
holds answers of one version; its columns are named as the members of PredictionServed.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
from google.protobuf.message import Message

from lepton.contracts.arrow import stream
from lepton.contracts.pb.predictions_pb2 import PredictionServed
from lepton.errors import Invalid

CONTENT_TYPE = stream.CONTENT_TYPE

EVENT_ID, ENTITY, OCCURRED_AT, TRACEPARENT = "event_id", "entity", "occurred_at", "traceparent"
VERSION, PREDICTED_AT, LATENCY = "version", "predicted_at", "latency_s"
NUMBER, LABEL, PROBABILITIES = "number", "label", "probabilities"
LOW, HIGH, ITEMS, SCORES = "low", "high", "items", "scores"

_TIME = pa.timestamp("us", tz="UTC")
_FLOATS = pa.list_(pa.float32())
OURS: tuple[pa.Field, ...] = (
    pa.field(EVENT_ID, pa.string(), nullable=False), pa.field(ENTITY, pa.string(), nullable=False),
    pa.field(OCCURRED_AT, _TIME, nullable=False), pa.field(TRACEPARENT, pa.string()),
    pa.field(VERSION, pa.uint64(), nullable=False), pa.field(PREDICTED_AT, _TIME, nullable=False),
    pa.field(LATENCY, pa.float64(), nullable=False))
"""Of every batch, in this order. `traceparent` is null where a row is not sampled; `latency_s` counts from the row's
arrival on the features topic."""
ANSWERS: dict[str, pa.DataType] = {
    NUMBER: pa.float64(), LABEL: pa.string(), PROBABILITIES: _FLOATS, LOW: pa.float64(), HIGH: pa.float64(),
    ITEMS: pa.list_(pa.string()), SCORES: _FLOATS}
"""Those that a task has: `number` or `label`, and what stands beside it, as in PredictionServed."""
_TYPES = {one.name: one.type for one in OURS} | ANSWERS
_NEEDED = (*(one for one in OURS if not one.nullable), pa.field(NUMBER, pa.float64()), pa.field(LABEL, pa.string()))

MAX_ROWS = 4096
"""Of a record: many enough that what a record costs vanishes, few enough for a reader to take in at once."""
MAX_BYTES = 800_000
"""Of a record, where it has more than one row; below `max_message_bytes` of the topic."""


class Served(NamedTuple):
    """An answer as those that judge answers need it; `probabilities` in the order of the version's classes."""

    event_id: str
    version: int
    answer: str | float
    probabilities: Sequence[float] = ()


def batch_of(ours: Sequence[pa.Array], answers: dict[str, pa.Array], *, model: str, instance: str) -> pa.RecordBatch:
    """A batch of the columns of `OURS`, and of those of `ANSWERS` that there are."""
    schema = pa.schema([*OURS, *(pa.field(name, _TYPES[name], nullable=False) for name in answers)],
                       metadata={"model": model, "source": "stream", "instance": instance})
    return pa.RecordBatch.from_arrays([*ours, *answers.values()], schema=schema)


def encode_batches(batch: pa.RecordBatch, most_rows: int = MAX_ROWS, most_bytes: int = MAX_BYTES) -> Iterator[bytes]:
    """Values of as many records as the rows need, in their order: IPC streams (lz4) of one batch each.

    One row is never cut, however large it is.
    """
    for start in range(0, batch.num_rows, most_rows):
        piece = batch.slice(start, most_rows)
        data = stream.write_table(piece)
        if len(data) <= most_bytes or piece.num_rows == 1:
            yield data
        else:
            yield from encode_batches(piece, (piece.num_rows + 1) // 2, most_bytes)


def decode_batch(data: bytes) -> pa.RecordBatch:
    """The batch of a record. Raises Invalid on anything else: other bytes, damage, columns absent or of other types.

    Columns that are not known are let by, so that an older reader outlives a newer writer.
    """
    schema, batches = stream.read_batches(data, stream.OWN, what="an Arrow stream of predictions")
    if len(batches) != 1:
        raise Invalid(f"a record of predictions holds one batch, this one {len(batches)}")
    for name, kind in zip(schema.names, schema.types, strict=True):
        if _TYPES.get(name, kind) != kind:
            raise Invalid(f"a batch of predictions has a column of {kind}", field=name,
                          remedy=f"it must be {_TYPES[name]}")
    if (NUMBER in schema.names) == (LABEL in schema.names):
        raise Invalid(f"a batch of predictions has either {NUMBER} or {LABEL}", field=NUMBER)
    for needed in _NEEDED:
        if needed.name not in schema.names:
            if needed.name not in ANSWERS:
                raise Invalid("a batch of predictions lacks one of its columns", field=needed.name)
        elif batches[0].column(needed.name).null_count:
            raise Invalid("a batch of predictions lacks a value", field=needed.name)
    return batches[0]


def told(payload: Message | bytes | None) -> Iterator[Served]:
    """The answers in a record of the topic, in order: of a message, or of the bytes of a batch. Raises Invalid."""
    if isinstance(payload, PredictionServed):
        number = payload.WhichOneof("answer") == "number"
        return iter([Served(payload.event_id, payload.version, payload.number if number else payload.label,
                            tuple(payload.probabilities))])
    if not isinstance(payload, bytes):
        raise Invalid("a record of predictions has neither a prediction nor a batch")
    return _rows(decode_batch(payload))


def _rows(batch: pa.RecordBatch) -> Iterator[Served]:
    names = batch.schema.names
    columns = [batch.column(name).to_pylist() for name in (EVENT_ID, VERSION, NUMBER if NUMBER in names else LABEL)]
    if PROBABILITIES not in names:
        return map(Served, *columns)
    return map(Served, *columns, map(tuple, batch.column(PROBABILITIES).to_pylist()))
