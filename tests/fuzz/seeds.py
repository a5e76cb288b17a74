"""Where the search begins: good input of every kind, and the traps that are known, by target."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from lepton.contracts import features
from lepton.contracts.arrow.stream import write_table
from lepton.contracts.topics import Topic
from tests.fuzz.files import FILE_TARGETS, parquet_seeds, text_seeds
from tests.fuzz.targets import ARROW, SPEC, TARGETS, judged, pipeline
from tests.harness import examples

FOUND = Path(__file__).parent / "found"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
EVENT: Mapping[str, Any] = {
    "id": "1", "entity": "e", "at": "2026-06-01T12:00:00Z", "amount": {"value": 50, "unit": "degF"}, "items": 3,
    "member": True, "country": " DE ", "note": "ü  x", "place": [1.0, 2.5], "steps": [1], "made": 1_780_000_000,
    "need": 1.5, "bought": False}
# What breaks readers of JSON: depth, numbers no type holds, other encodings, members twice.
TRAPS = (
    b"", b"null", b"[" * 100_000, b'{"a":' * 50_000, b"1e400", b'{"id":"1","entity":"e","need":1e400}',
    b'{"id":"1","entity":"e","items":' + b"9" * 5000 + b',"need":1}',
    b'{"id":"1","entity":"e","need":NaN}', b'{"id":"1","entity":"e","need":Infinity}', b'{"need":-0.0}',
    json.dumps(dict(EVENT)).encode("utf-16"), b"\xef\xbb\xbf" + json.dumps(dict(EVENT)).encode(),
    b'{"id":"\\ud800","entity":"e","need":1}', b'{"id":"\xed\xa0\x80","entity":"e","need":1}',
    b'{"id":"1","id":"2","entity":"e","need":1,"need":2}', b'{"id":"1","entity":"e","need":1,"at":1e308}',
    b'{"id":"1","entity":"e","need":1,"at":"0001-01-01T00:00:00+23:59"}', b'{"id":"a\\u0000b","entity":"e","need":1}',
    gzip.compress(b"0" * 1_000_000))


def seeds(target: str) -> Iterator[bytes]:
    """Good and known inputs of a target, and what was found before."""
    yield from _MADE.get(target, lambda: iter(TRAPS))()
    for path in sorted((FOUND / target).glob("*")):
        yield path.read_bytes()


def _events() -> Iterator[bytes]:
    yield json.dumps(dict(EVENT)).encode()
    yield from (example.value for example in (*examples.valid(Topic.EVENTS), *examples.invalid(Topic.EVENTS)))
    yield from TRAPS


def _cloudevents() -> Iterator[bytes]:
    yield json.dumps({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": EVENT}).encode()
    yield from _events()


def _headers() -> Iterator[bytes]:
    yield b"ce_id\n7\nce_source\ntill\nce_time\n2026-06-01T12:00:00Z\ncontent-type\napplication/json"
    yield b"lepton-dead-place\nt/1@2#3\nlepton-dead-attempts\n4\nlepton-dead-at\n2026-06-01T12:00:00Z\nce_id\n\xff"
    yield b"lepton-replayed\nt/1@2\nlepton-attempt\n99999999999999999999\ntraceparent\n00-x\ncontent-type\n\xff"


def _labels() -> Iterator[bytes]:
    yield b'{"event_id":"1","label":true,"label_time":1780000000,"entity":"e"}'
    yield from TRAPS


def table(**columns: Any) -> pa.Table:
    """Two rows of the pipeline's events, with columns changed."""
    at = [datetime(2026, 6, 1, tzinfo=UTC)] * 2
    plain = {"id": ["1", "2"], "entity": ["e", "f"], "at": pa.array(at, pa.timestamp("us", tz="UTC")),
             "amount": [1.0, 2000.0], "items": [1, 9], "member": [True, None],
             "country": pa.array([" DE", "xx"]).dictionary_encode(), "note": ["a  b", None],
             "place": pa.array([[1.0, 2.0], [1.0, None]]), "steps": pa.array([[1], []], pa.list_(pa.int32())),
             "face": pa.array([PNG, b"x"], pa.binary()), "made": [1_780_000_000, 2**62], "need": [1.5, float("nan")],
             "bought": [True, False]}
    return pa.table(plain | columns)


def _streams() -> Iterator[bytes]:
    for one in (table(), table(need=["a", "b"]), table(amount=pa.array([{"value": 1.0, "unit": "degF"}] * 2)),
                table(note=pa.nulls(2)), table(steps=pa.array([[[1]], [[2]]])), table(extra=[1, 2]),
                table(items=pa.array([2**64 - 1, 0], pa.uint64())), table().slice(0, 0),
                table(at=pa.array([0, 2**62], pa.timestamp("ns", tz="Mars/Phobos"))),
                table(at=pa.array([-(2**62), 1], pa.timestamp("s", tz="Europe/Berlin")), need=[float("inf"), -1.0])):
        yield write_table(one)
        for compression in (None, "zstd"):
            yield written(one, compression)
    good = write_table(table())
    yield good[:-8]
    yield good[:len(good) // 2]
    yield written(pa.table({"id": pa.array(["x"]).take(pa.array([0] * 500_000))}), "zstd")
    yield written(pa.table({"id": pa.nulls(500)}), None).replace((500).to_bytes(8, "little"),
                                                                   (10**12).to_bytes(8, "little"))
    yield b"ARROW1\x00\x00" + good  # a file, not a stream
    yield good + good


def written(one: pa.Table, compression: str | None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, one.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write(one)
    return bytes(sink.getvalue())


def _features() -> Iterator[bytes]:
    batch = judged(write_table(table(need=[1.0, 2.0], items=[1, 2], place=pa.array([[1.0, 2.0]] * 2), made=[1, 2],
                                     country=["us", "de"], face=pa.array([None, None], pa.binary()))), ARROW).batch
    if batch is not None:
        yield features.encode_batch(batch)
        yield features.encode_table(pa.Table.from_batches([batch, batch]))
    yield from (example.value for example in (*examples.valid(Topic.FEATURES), *examples.invalid(Topic.FEATURES)))
    yield from _streams()


def _messages() -> Iterator[bytes]:
    from tests.fuzz.targets import _PROTOBUF
    for number, topic in enumerate(_PROTOBUF):
        yield from (bytes([number]) + example.value for example in (*examples.valid(topic), *examples.invalid(topic)))


def _pipelines() -> Iterator[bytes]:
    yield SPEC.encode()
    yield pipeline().canonical_json().encode()
    yield from (path.read_bytes() for path in sorted((Path(__file__).parents[2] / "examples").rglob("*.yaml")))
    yield b"a: &a [*a]\n"
    yield b"x: &x [" + b"&y [1], " * 10 + b"]\ny: [" + b"*x, " * 200 + b"]\n"
    yield b"{" * 10_000
    yield b"a: !!python/object/apply:os.system [ls]\n"


def _tensors() -> Iterator[bytes]:
    one = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[1.0, 2]]}
    raw = {"name": "y", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}
    for tensor, more in ((one, {}), (one, {"parameters": {"priority": 2**63, "timeout": 1.5}}),
                         (one | {"shape": [2**64, 0]}, {}), (one | {"shape": [4, 2**62], "data": []}, {}),
                         (one | {"datatype": "FP16", "data": [1e9, 1]}, {}), (one | {"data": [10**400, True]}, {}),
                         (one | {"datatype": "BYTES", "data": ["a", "ü"]}, {"id": "r"}),
                         ({**one, "parameters": {"shared_memory_region": "r", "shared_memory_offset": 2**70}}, {}),
                         (one, {"outputs": [{"name": "z", "parameters": {"classification": -2**64}}]})):
        yield json.dumps({"inputs": [tensor], **more}).encode()
    head = json.dumps({"inputs": [raw], "outputs": [{"name": "z", "parameters": {"binary_data": True}}]}).encode()
    yield str(len(head)).encode() + b"\n" + head + b"\x01\x00\x00\x00a"
    for length in (b"\xb2", b"9" * 5000, b"-1", b"1_0"):
        yield length + b"\n" + head
    yield from TRAPS


def _packed() -> Iterator[bytes]:
    yield zlib.compress(b"0" * 1_000_000)
    yield gzip.compress(b"1") + gzip.compress(b"2")
    yield gzip.compress(b"{}")[:-3]
    yield from TRAPS


def _files() -> Iterator[bytes]:
    yield from text_seeds()
    yield from parquet_seeds()
    yield from _streams()
    yield from TRAPS


_MADE = {**dict.fromkeys((one.__name__ for one in FILE_TARGETS), _files),
         "protocol_tensors": _tensors, "packed_body": _packed,
         "event_json": _events, "event_cloudevent": _cloudevents, "event_headers": _headers, "label": _labels,
         "event_arrow": _streams, "gateway_arrow": _streams, "features_batch": _features, "features_table": _features,
         "messages": _messages, "pipeline_text": _pipelines, "gateway_json": _cloudevents}
assert set(_MADE) == set(TARGETS)
