"""One target per decoder: of any bytes comes a row, a dead letter or an outcome, and every event is counted."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache

from lepton.bus.letters.letter import mark_of, read_letter
from lepton.bus.records import Headers, Record
from lepton.contracts import codec, features
from lepton.contracts.arrow import stream
from lepton.contracts.envelope import Envelope
from lepton.contracts.pipeline import Pipeline, from_json, parse
from lepton.contracts.topics import Topic, spec
from lepton.errors import Invalid
from services.gateway.core import arrow, requests
from services.gateway.edge import tensors
from services.gateway.edge.protocol import compression
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.clean.past import Past
from services.ingest.core.judged import Accepted
from services.ingest.core.labels import Labels
from tests.fuzz.files import FILE_TARGETS

# Every type of field, and what is done to some of their values before they are judged.
SPEC = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: fuzz}
events:
  id: id
  entity: entity
  time: at
  partitions: 3
  fields:
    amount: {type: float, range: [0, 1000], out_of_range: clip, unit: degC, accept_units: [degF]}
    items: {type: int, range: [-5, 5]}
    member: {type: bool}
    country: {type: category, categories: [us, de], normalise: [trim, lower]}
    note: {type: text, normalise: [nfc, collapse]}
    place: {type: vector, dims: 2, input: false}
    steps: {type: sequence, max_length: 4, input: false}
    face: {type: image, max_bytes: 4096, input: false}
    made: {type: timestamp, input: false}
    need: {type: float, required: true}
  label: {field: bought, type: bool, arrives: with_event}
"""
AT_MS = 1_780_000_000_000
ARROW: Headers = (("content-type", stream.CONTENT_TYPE.encode()),)
CLOUDEVENT: Headers = (("content-type", b"application/cloudevents+json"),)
_PROTOBUF = tuple(topic for topic in Topic if spec(topic).content.encoding == "protobuf")


@cache
def pipeline() -> Pipeline:
    return parse(SPEC)


@cache
def acceptance() -> Acceptance:
    return Acceptance(pipeline(), 1)


def event_json(data: bytes) -> None:
    _single(data, ())


def event_cloudevent(data: bytes) -> None:
    _single(data, CLOUDEVENT)


def event_headers(data: bytes) -> None:
    """A good body under headers of which every second line is a value: `name NEWLINE value NEWLINE…`."""
    parts = data.split(b"\n")
    headers = tuple((name.decode("utf-8", "replace"), value) for name, value in zip(parts[::2], parts[1::2],
                                                                                 strict=False))
    accepted = judged(b'{"id":"1","entity":"e","need":1.5}', headers)
    assert len(accepted.rejections) + _rows(accepted) == 1
    with suppress(Invalid):
        Envelope.from_headers(headers)
    letter = read_letter(record(data, headers))
    assert letter.attempts >= 0
    mark_of(record(data, headers))


def event_arrow(data: bytes) -> None:
    accepted = judged(data, ARROW)
    strays = sum(stray.rows for _, stray in accepted.strays)
    refused = sum(rejection.events for rejection in accepted.rejections)
    with suppress(Invalid):
        found = stream.read_table(data).num_rows
        assert _rows(accepted) + strays + refused + accepted.tally.duplicates >= found
    for rejection in accepted.rejections:
        assert (rejection.row is None) == (rejection.original is None)
    for _, stray in accepted.strays:
        assert stream.read_table(stray.data).num_rows == stray.rows


def label(data: bytes) -> None:
    for headers in ((), CLOUDEVENT):
        intake = Labels(_with_late_label(), 1).read([record(data, headers)])
        assert len(intake.outcomes) + len(intake.rejections) == 1


def features_batch(data: bytes) -> None:
    with suppress(Invalid):
        features.spec_version(features.decode_batch(data).schema)


def features_table(data: bytes) -> None:
    with suppress(Invalid):
        features.projected(features.decode_table(data), pipeline())


def messages(data: bytes) -> None:
    """The first byte says of which topic."""
    topic = _PROTOBUF[data[0] % len(_PROTOBUF)] if data else _PROTOBUF[0]
    with suppress(Invalid):
        message = codec.decode(topic, data[1:])
        assert codec.decode(topic, codec.encode(topic, message)) == message


def pipeline_text(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for read in (parse, from_json):
        with suppress(Invalid):
            assert parse(read(text).to_yaml()) == read(text)


def gateway_json(data: bytes) -> None:
    for form in ("json", "ndjson", "cloudevent", "cloudevents"):
        with suppress(Invalid):
            requests.events(pipeline(), requests.Body(form, data))
        with suppress(Invalid):
            requests.labels(pipeline(), requests.Body(form, data))


def gateway_arrow(data: bytes) -> None:
    with suppress(Invalid):
        pieces = arrow.pieces(pipeline(), 3, data)
        assert sum(piece.rows for piece in pieces) == stream.read_table(data).num_rows


def protocol_tensors(data: bytes) -> None:
    """The first line, if it is one, is the length of the JSON as a header says it."""
    length, _, rest = data.partition(b"\n")
    for body, header in ((data, None), (rest, length.decode("latin-1"))):
        with suppress(Invalid):
            request, wanted = tensors.read("shop", "", body, header)
            assert len(request.raw_input_contents) <= len(request.inputs)
            assert wanted.names <= {output.name for output in request.outputs}
            type(request).FromString(request.SerializeToString())


def packed_body(data: bytes) -> None:
    for coding in ("gzip", "deflate", "br"):
        with suppress(Invalid):
            assert len(compression.unpacked(data, coding, 100_000)) <= 100_000
    assert compression.unpacked(compression.packed(data, "gzip"), "gzip", len(data)) == data


TARGETS: Mapping[str, Callable[[bytes], None]] = {one.__name__: one for one in (
    event_json, event_cloudevent, event_headers, event_arrow, label, features_batch, features_table, messages,
    pipeline_text, gateway_json, gateway_arrow, protocol_tensors, packed_body,
    *FILE_TARGETS)}


def record(value: bytes, headers: Headers = ()) -> Record:
    return Record("lepton-events-fuzz", 0, 0, None, value, headers, AT_MS)


def judged(value: bytes, headers: Headers) -> Accepted:
    """What the accept stage makes of one record in partition 0."""
    accepted = acceptance().judge([record(value, headers)], Past.of(pipeline()), {}, frozenset())
    if accepted.batch is not None:
        accepted.batch.validate(full=True)
        features.decode_batch(features.encode_batch(accepted.batch))
    return accepted


def _single(data: bytes, headers: Headers) -> None:
    accepted = judged(data, headers)
    assert len(accepted.rejections) + _rows(accepted) == 1


def _rows(accepted: Accepted) -> int:
    return 0 if accepted.batch is None else int(accepted.batch.num_rows)


@cache
def _with_late_label() -> Pipeline:
    return parse(SPEC.replace("arrives: with_event", "arrives: later"))
