"""What is written by hand is what protobuf would read and write."""

import itertools
from typing import Any

import numpy as np
import pytest

from lepton.contracts.pb.predictions_pb2 import PredictionServed
from services.predictor.core.answers import Answers
from services.predictor.core.streamed import rowbytes
from services.predictor.flow.beside import Scored

LABELS = np.array(["no", "", "größer", "x" * 300], object)
PAIRS = np.arange(8, dtype="f4").reshape(4, 2)


@pytest.mark.parametrize("more", [
    {"numbers": np.array([0.0, -1.5, np.inf, 1e300]), "labels": None},
    {"numbers": np.arange(4.0), "labels": None, "bounds": PAIRS.astype("f8")},
    {}, {"probabilities": PAIRS}, {"values": PAIRS.astype("f8")}, {"score": PAIRS[:, 0]},
    {"probabilities": np.zeros((4, 0), "f4")}, {"probabilities": np.ones((4, 100), "f4")},
    {"items": np.array([["a", "b"]] * 4, object), "scores": PAIRS},
], ids=["numbers", "bounds", "labels", "probabilities", "values", "score", "no classes", "many classes", "items"])
def test_each_kind_of_answer_is_read_back_as_it_was(more: dict[str, Any]) -> None:
    answers = Answers(**{"numbers": None, "labels": LABELS, "probabilities": None, "classes": ()} | more)
    event_ids, entities = [b"e", b"i" * 127, b"i" * 128, "ü".encode() * 9000], [b"", b"n", b"n" * 128, b"n" * 20_000]
    written = Scored(3, [answers]).written(event_ids, entities)
    for row, event_id, entity, members in zip(written, event_ids, entities, answers.rows(), strict=True):
        version, data = row
        assert version == 3
        assert PredictionServed.FromString(data) == PredictionServed(
            event_id=event_id.decode(), entity=entity.decode(), **members)


def test_rows_that_a_candidate_answered_have_its_answers_in_their_places() -> None:
    mine = Answers(np.array([1.0, 2.0]), None, None, ())
    theirs = Answers(np.array([10.0, 20.0, 30.0]), None, None, ())
    scored = Scored(1, [mine], 2, [theirs], [True, False, True, False, True])
    names = [f"e-{number}".encode() for number in range(5)]
    found = [(version, PredictionServed.FromString(data)) for version, data in scored.written(names, names)]
    assert [(version, one.number) for version, one in found] == [(2, 10.0), (1, 1.0), (2, 20.0), (1, 2.0), (2, 30.0)]
    assert [one.event_id for _, one in found] == [one.entity for _, one in found] == [name.decode() for name in names]


def test_no_rows_are_no_bytes() -> None:
    empty = Answers(None, np.array([], object), np.zeros((0, 2), "f4"), ("a", "b"))
    assert list(itertools.chain(rowbytes.answered([empty]))) == []
