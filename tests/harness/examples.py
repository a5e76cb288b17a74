"""The example messages of proto/examples as records: bytes, key and headers, and for invalid ones why they are refused.

The forms of the files are described in proto/README.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from google.protobuf import json_format

from lepton.contracts import codec, features
from lepton.contracts.arrow import predictions
from lepton.contracts.arrow.stream import write_table
from lepton.contracts.pipeline import Pipeline, parse
from lepton.contracts.topics import Topic, spec

FOLDER = Path(__file__).resolve().parents[2] / "proto" / "examples"
INVALID_KEYS = {"reason", "field", "key", "headers", "message", "text", "hex", "rows"}

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One example. `reason` (part of the refusal's text) and `field` are given for an invalid one."""

    topic: Topic
    name: str
    value: bytes
    key: bytes | None = None
    headers: Headers = ()
    valid: bool = True
    reason: str = ""
    field: str | None = None

    def __str__(self) -> str:
        return f"{self.topic.stem}/{'' if self.valid else 'invalid/'}{self.name}"


@cache
def pipeline() -> Pipeline:
    """The pipeline that the examples of events, labels and features belong to."""
    return parse((FOLDER / "pipeline.yaml").read_text("utf-8"))


def valid(topic: Topic) -> list[Example]:
    folder = _folder(topic)
    paths = [path for path in sorted(folder.glob("*.json")) if not path.name.endswith(".headers.json")]
    return [_read_valid(topic, path) for path in paths]


def invalid(topic: Topic) -> list[Example]:
    return [_read_invalid(topic, path) for path in sorted((_folder(topic) / "invalid").glob("*.yaml"))]


def every() -> list[Example]:
    return [example for topic in Topic for example in (*valid(topic), *invalid(topic))]


def _folder(topic: Topic) -> Path:
    return FOLDER / topic.stem / f"v{spec(topic).content.version}"


def _read_valid(topic: Topic, path: Path) -> Example:
    body = path.read_bytes()
    given = path.with_suffix(".headers.json")
    headers = json.loads(given.read_text("utf-8")) if given.exists() else {}
    encoding = spec(topic).content.encoding
    if encoding == "json" and headers.get("content-type") == features.CONTENT_TYPE:
        return Example(topic, path.stem, _stream(json.loads(body)), None, _headers(headers))
    if encoding == "json":
        return Example(topic, path.stem, body, _json_key(topic, body), _headers(headers))
    if encoding == "arrow":
        return Example(topic, path.stem, _batch(json.loads(body)), None, _headers(headers))
    if headers.get("content-type") == features.CONTENT_TYPE:
        return Example(topic, path.stem, _predictions(json.loads(body)), None, _headers(headers))
    message = json_format.Parse(body, codec.message_type(topic)())
    key = str(getattr(message, spec(topic).key)).encode()
    return Example(topic, path.stem, codec.encode(topic, message), key, _headers(headers))


def _read_invalid(topic: Topic, path: Path) -> Example:
    told = yaml.safe_load(path.read_text("utf-8"))
    unknown = set(told) - INVALID_KEYS
    forms = [form for form in ("message", "text", "hex", "rows") if form in told]
    if unknown or len(forms) != 1 or not told.get("reason"):
        raise AssertionError(f"{path}: needs a reason and one of message, text, hex, rows; not {sorted(unknown)}")
    # A broker takes no record without a key on a compacted topic, whatever is in it.
    key = told.get("key", path.stem if "compact" in spec(topic).cleanup else None)
    return Example(topic, path.stem, _bytes(topic, told), None if key is None else str(key).encode(),
                   _headers(told.get("headers", {})), False, told["reason"], told.get("field"))


def _bytes(topic: Topic, told: Mapping[str, Any]) -> bytes:
    if "text" in told:
        return str(told["text"]).encode()
    if "hex" in told:
        # YAML reads digits alone as a number, so they are written in quotes.
        return bytes.fromhex(told["hex"])
    if "rows" in told:
        return _stream(told["rows"])
    message = json_format.ParseDict(told["message"], codec.message_type(topic)())
    return message.SerializeToString()


def _headers(told: Mapping[str, str]) -> Headers:
    return tuple((name, value.encode()) for name, value in told.items())


def _json_key(topic: Topic, body: bytes) -> bytes | None:
    told = json.loads(body)
    member = pipeline().events.entity if topic is Topic.EVENTS else spec(topic).key
    value = told.get("data", told).get(member)
    return None if value is None else str(value).encode()


def _stream(rows: list[dict[str, Any]]) -> bytes:
    """An Arrow stream of events whose columns have the types their values suggest."""
    return write_table(pa.Table.from_pylist(rows))


def _predictions(rows: list[dict[str, Any]]) -> bytes:
    """A batch of predictions, whose times are text; all rows have the same members."""
    for row in rows:
        row |= {name: datetime.fromisoformat(row[name]) for name in (predictions.OCCURRED_AT, predictions.PREDICTED_AT)}
    ours = [pa.array([row.get(one.name) for row in rows], one.type) for one in predictions.OURS]
    answers = {name: pa.array([row[name] for row in rows], kind) for name, kind in predictions.ANSWERS.items()
               if name in rows[0]}
    (value,) = predictions.encode_batches(predictions.batch_of(ours, answers, model="orders", instance="predictor-0"))
    return value


def _batch(rows: list[dict[str, Any]]) -> bytes:
    for row in rows:
        row[features.OCCURRED_AT] = datetime.fromisoformat(row[features.OCCURRED_AT])
    return features.encode_batch(pa.RecordBatch.from_pylist(rows, schema=features.features_schema(pipeline())))
