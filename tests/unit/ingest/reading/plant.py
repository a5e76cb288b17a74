"""A pipeline with every type and repair of a field, its events, and what the accept stage makes of them."""

import base64
import struct
import zlib
from typing import Any

import pyarrow as pa

from lepton.bus.records import Record
from lepton.contracts import features
from lepton.contracts.pipeline import Pipeline
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.clean.past import Past
from services.ingest.core.judged import Accepted
from tests.unit.ingest.samples import records

TEXT = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: plant}
events:
  entity: machine
  time: at
  partitions: 1
  fields:
    temperature: {type: float, unit: degC, accept_units: [degF, K], range: [-50, 150]}
    pressure: {type: float, range: [0, 10], out_of_range: clip}
    count: {type: int, range: [0, 100], out_of_range: "null"}
    state: {type: category, categories: ["on", "off"], normalise: [trim, lower]}
    note: {type: text, normalise: [nfc, collapse]}
    embedding: {type: vector, dims: 3, input: false}
    trace: {type: sequence, max_length: 4, input: false}
    photo: {type: image, max_bytes: 200, input: false}
    built: {type: timestamp, input: false}
"""
AT = "2026-06-01T12:00:00Z"


def png(width: int = 2, height: int = 3) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"\0" * height * (width + 1))) + chunk(b"IEND", b""))


def jpeg(width: int = 2, height: int = 3) -> bytes:
    return (b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
            + b"\xff\xc0\x00\x0b\x08" + struct.pack(">HH", height, width) + b"\x01\x01\x11\0" + b"\xff\xd9")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def event(number: int = 1, **members: Any) -> dict[str, Any]:
    return {"event_id": f"e-{number}", "machine": "m", "at": AT} | members


def judged(pipeline: Pipeline, found: list[Record]) -> Accepted:
    return Acceptance(pipeline, 1).judge(found, Past.of(pipeline), {}, frozenset())


def row(pipeline: Pipeline, **members: Any) -> dict[str, Any]:
    """The row of one event, as it is read back by whoever follows the features."""
    accepted = judged(pipeline, records(event(**members)))
    assert accepted.rejections == []
    batch = features.decode_batch(features.encode_batch(kept(accepted)))
    (found,) = features.decode_table(features.encode_table(pa.Table.from_batches([batch]))).to_pylist()
    return dict(found)


def refused(pipeline: Pipeline, **members: Any) -> tuple[str, str | None, str]:
    accepted = judged(pipeline, records(event(**members)))
    assert accepted.batch is None
    (why,) = accepted.rejections
    return why.code, why.field, why.message


def repairs(found: dict[str, Any]) -> list[tuple[int, str, str]] | None:
    told = found["_repairs"]
    return None if told is None else [(one["field"], one["what"], one["before"]) for one in told]


def kept(accepted: Accepted) -> pa.RecordBatch:
    assert accepted.batch is not None
    return accepted.batch
