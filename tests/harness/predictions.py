"""What is on a predictions topic, whichever form it has; reads batches by itself, without the platform's own reader."""

import io
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from lepton.bus.records import Record
from lepton.contracts import codec
from lepton.contracts.envelope import Envelope
from lepton.contracts.pb import predictions_pb2
from lepton.contracts.topics import Topic

BATCH = "application/vnd.apache.arrow.stream"
_BESIDE = ("occurred_at", "traceparent", "predicted_at")


def served(records: Iterable[Record]) -> list[predictions_pb2.PredictionServed]:
    """One message a row, in the order of the records and of the rows in them."""
    return [message for record in records for message, _ in traced(record)]


def traced(record: Record) -> list[tuple[predictions_pb2.PredictionServed, str | None]]:
    """The same of one record, with the trace that each row hands on."""
    envelope = Envelope.from_headers(record.headers)
    if envelope.content_type == BATCH:
        assert record.key is None
        return [(_message(row, told), row["traceparent"]) for row, told in rows_of(record.value or b"")]
    message = codec.decode_as(Topic.PREDICTIONS, predictions_pb2.PredictionServed, record.value or b"")
    assert (envelope.event_id, record.key) == (message.event_id, message.entity.encode())
    return [(message, envelope.traceparent)]


def rows_of(value: bytes) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """Rows of a batch, each with what the batch says of all."""
    with pa.ipc.open_stream(io.BytesIO(value)) as reader:
        table = reader.read_all()
    told = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}
    return [(row, told) for row in table.to_pylist()]


def _message(row: dict[str, Any], told: dict[str, str]) -> predictions_pb2.PredictionServed:
    message = predictions_pb2.PredictionServed(
        model=told["model"], instance=told["instance"],
        source=predictions_pb2.PredictionSource.Value(f"PREDICTION_SOURCE_{told['source'].upper()}"),
        **{name: value for name, value in row.items() if name not in _BESIDE})
    message.predicted_at.FromDatetime(row["predicted_at"])
    return message
