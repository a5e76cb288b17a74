"""Answers as columns say what answers as messages say, and every reader takes both forms."""

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lepton.bus.consumer import message_of
from lepton.bus.records import Record
from lepton.contracts import topics
from lepton.contracts.arrow import predictions, stream
from lepton.contracts.pb import predictions_pb2
from lepton.contracts.topics import Topic
from lepton.errors import Invalid
from services.predictor.core.answers import Answers
from services.predictor.flow.beside import Scored
from tests.harness.predictions import served
from tests.unit.predictor.test_rowbytes import LABELS, PAIRS

NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)
TOPIC = topics.name(Topic.PREDICTIONS, "tiny")


def rows(count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{"event_id": f"e-{number}", "entity": f"ü-{number % 3}", "occurred_at": NOW, "traceparent": None,
          "predicted_at": NOW, "latency_s": number / 4} for number in range(count)],
        pa.schema([one for one in predictions.OURS if one.name != "version"]))


def record(value: bytes | None, content_type: bytes = stream.CONTENT_TYPE.encode()) -> Record:
    return Record(TOPIC, 0, 0, None, value, (("content-type", content_type),))


def written(scored: Scored, count: int) -> list[Record]:
    return [record(value) for value in scored.batches(rows(count), "tiny", "predictor-0")]


@pytest.mark.parametrize("more", [
    {"numbers": np.array([0.0, -1.5, np.inf, 1e300]), "labels": None},
    {"numbers": np.arange(4, dtype="f4"), "labels": None, "bounds": PAIRS},
    {}, {"labels": np.array([True, False, True, False])}, {"labels": np.array([7, -1, 2, 3])},
    {"labels": np.array([1.0, 2.5, 0.0, 3.0])},
    {"probabilities": PAIRS}, {"values": PAIRS.astype("f8")}, {"score": PAIRS[:, 0]},
    {"probabilities": np.zeros((4, 0), "f4")}, {"probabilities": np.ones((4, 100), "f4")},
    {"items": np.array([["a", "b"]] * 4, object), "scores": PAIRS},
], ids=["numbers", "bounds", "labels", "truths", "whole numbers", "other numbers", "probabilities", "values", "score",
        "no classes", "many classes", "items"])
def test_each_kind_of_answer_is_read_back_as_a_message_has_it(more: dict[str, Any]) -> None:
    answers = Answers(**{"numbers": None, "labels": LABELS, "probabilities": None, "classes": ()} | more)
    (one,) = written(Scored(3, [answers]), 4)
    expected = [predictions_pb2.PredictionServed(
        event_id=f"e-{number}", entity=f"ü-{number % 3}", model="tiny", version=3, instance="predictor-0",
        source=predictions_pb2.PREDICTION_SOURCE_STREAM, latency_s=number / 4, **members)
        for number, members in enumerate(answers.rows())]
    for message in expected:
        message.predicted_at.FromDatetime(NOW)
    assert served([one]) == expected
    told = list(predictions.told(message_of(one).payload))
    assert told == [next(predictions.told(message)) for message in expected]


def test_rows_that_a_candidate_answered_are_in_a_batch_of_their_own_each_in_order() -> None:
    mine, theirs = (Answers(np.array(numbers), None, None, ()) for numbers in ([1.0, 2.0], [10.0, 20.0, 30.0]))
    found = written(Scored(1, [mine], 2, [theirs], [True, False, True, False, True]), 5)
    assert [[(one.version, one.event_id, one.number) for one in served([each])] for each in found] == [
        [(1, "e-1", 1.0), (1, "e-3", 2.0)], [(2, "e-0", 10.0), (2, "e-2", 20.0), (2, "e-4", 30.0)]]


def test_rows_are_cut_into_records_that_a_topic_takes_and_one_row_never() -> None:
    chance = np.random.default_rng(7)
    wide = Answers(None, np.array(["a"] * 9, object), chance.random((9, 100), "f4"), ())
    batch = predictions.decode_batch(written(Scored(1, [wide]), 9)[0].value or b"")
    four = len(next(predictions.encode_batches(batch.slice(0, 4))))
    for most_rows, most_bytes, sizes in ((4, 10**6, [4, 4, 1]), (9, four, [3, 2, 4]), (9, 1, [1] * 9)):
        found = list(predictions.encode_batches(batch, most_rows, most_bytes))
        assert [predictions.decode_batch(one).num_rows for one in found] == sizes
        ids = [row.event_id for one in found for row in predictions.told(one)]
        assert ids == [f"e-{number}" for number in range(9)]


def broken(change: str) -> bytes:
    batch = predictions.decode_batch(written(Scored(1, [Answers(np.arange(2.0), None, None, ())]), 2)[0].value or b"")
    match change:
        case "drop":
            batch = batch.drop_columns(["entity"])
        case "cast":
            batch = batch.set_column(4, "version", batch.column("version").cast(pa.int64()))
        case "null":
            batch = batch.set_column(0, "event_id", pa.array(["e", None]))
        case "both":
            batch = batch.append_column("label", pa.array(["a", "b"]))
        case "neither":
            batch = batch.drop_columns(["number"])
    return b"no arrow" if change == "bytes" else stream.write_table(
        pa.Table.from_batches([batch, batch]) if change == "twice" else batch)


@pytest.mark.parametrize(("change", "field", "why"), [
    ("bytes", None, "not an Arrow stream of predictions"), ("twice", None, "one batch, this one 2"),
    ("drop", "entity", "lacks one of its columns"), ("cast", "version", "a column of int64"),
    ("null", "event_id", "lacks a value"), ("both", "number", "either number or label"),
    ("neither", "number", "either number or label")])
def test_what_is_no_batch_of_predictions_is_refused(change: str, field: str | None, why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        predictions.told(message_of(record(broken(change))).payload)
    assert refused.value.field == field


def test_a_column_of_a_newer_writer_is_let_by() -> None:
    batch = predictions.decode_batch(written(Scored(1, [Answers(np.arange(2.0), None, None, ())]), 2)[0].value or b"")
    newer = batch.append_column("surprise", pa.array([1, 2]))
    assert [one.answer for one in predictions.told(stream.write_table(newer))] == [0.0, 1.0]


def test_a_record_without_its_content_type_is_read_as_a_message() -> None:
    message = predictions_pb2.PredictionServed(event_id="e", model="m", version=2, number=math.pi,
                                               source=predictions_pb2.PREDICTION_SOURCE_STREAM)
    (one,) = predictions.told(message_of(record(message.SerializeToString(), b"application/x-protobuf")).payload)
    assert one == ("e", 2, math.pi, ())
    with pytest.raises(Invalid):
        message_of(record(b"\xff", b"application/x-protobuf"))
    with pytest.raises(Invalid, match="no value"):
        message_of(record(None))
