"""A row's answer as the bytes of a PredictionServed, by hand where a stream has many; protobuf writes the rest.

The form is protobuf's (field numbers of predictions.proto, and whether eight bytes or a length follow); in it the
concatenation of two messages is the message with the members of both.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lepton.contracts.pb import predictions_pb2
from services.predictor.core.answers import Answers
from services.predictor.core.signature import Array

_EIGHT_BYTES, _LENGTH = 1, 2
_SEVEN_BITS = 0x7F


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > _SEVEN_BITS:
        parts.append(number & _SEVEN_BITS | _SEVEN_BITS + 1)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _tag(member: str, kind: int) -> bytes:
    return _varint(predictions_pb2.PredictionServed.DESCRIPTOR.fields_by_name[member].number << 3 | kind)


_EVENT_ID, _ENTITY, _LABEL = (_tag(member, _LENGTH) for member in ("event_id", "entity", "label"))
_NUMBER = _tag("number", _EIGHT_BYTES)
_SHORT = _SEVEN_BITS + 1
_EVENT_IDS, _ENTITIES = ([tag + _varint(length) for length in range(_SHORT)] for tag in (_EVENT_ID, _ENTITY))
"""What stands before a short one, by its length."""


def whose(event_id: bytes, entity: bytes) -> bytes:
    """The members that name a row, of texts in UTF-8."""
    before = _EVENT_IDS[len(event_id)] if len(event_id) < _SHORT else _EVENT_ID + _varint(len(event_id))
    between = _ENTITIES[len(entity)] if len(entity) < _SHORT else _ENTITY + _varint(len(entity))
    return before + event_id + between + entity


def answered(parts: Iterable[Answers]) -> Iterator[bytes]:
    """The members that answer, for each row of these."""
    return itertools.chain.from_iterable(map(_of, parts))


def _of(answers: Answers) -> Iterable[bytes]:
    if answers.bounds is not None or answers.items is not None:
        return (predictions_pb2.PredictionServed(**members).SerializeToString() for members in answers.rows())
    if answers.numbers is not None:
        data = np.asarray(answers.numbers, "<f8").tobytes()
        return (_NUMBER + data[at:at + 8] for at in range(0, len(data), 8))
    labels = _labels(answers.texts())
    if answers.probabilities is not None:
        return map(bytes.__add__, labels, _floats("probabilities", answers.probabilities))
    beside = answers.values if answers.values is not None else answers.score
    return labels if beside is None else map(bytes.__add__, labels, _floats("scores", beside))


def _labels(labels: Sequence[str]) -> list[bytes]:
    known: dict[str, bytes] = {}
    for label in set(labels):
        text = label.encode()
        known[label] = _LABEL + _varint(len(text)) + text
    return [known[label] for label in labels]


def _floats(member: str, rows: Array) -> Iterator[bytes]:
    """[rows] or [rows, k] as the packed numbers of each row."""
    data, size = rows.astype("<f4").tobytes(), 4 * (rows.size // max(1, len(rows)))
    if not size:
        return itertools.repeat(b"", len(rows))
    head = _tag(member, _LENGTH) + _varint(size)
    return (head + data[at:at + size] for at in range(0, len(data), size))
