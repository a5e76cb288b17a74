"""The stream learner on real rows: what it knows when, what a stop leaves, what it keeps of long ago."""

from itertools import pairwise

import numpy as np
import pytest
from river import datasets as streams
from sklearn import datasets

from lepton.contracts.pipeline_blocks import Outliers
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.rows import Array, Inputs
from services.trainer.core.streaming.course import Course
from services.trainer.core.streaming.learner import StreamLearner
from services.trainer.core.streaming.record import Record
from services.trainer.core.streaming.replay import ReplayBuffer
from services.trainer.core.weights import pack, unpack
from tests.unit.trainer.samples import MEAN, MODE


def course(columns: int, **changes: object) -> Course:
    fields = tuple(PlannedField(name=f"f{place}", type="float", missing=MEAN) for place in range(columns))
    return Course(**{"fields": fields, "outliers": Outliers(), "task": "classification",  # type: ignore[arg-type]
                     "classes": 2, **changes})


def inputs(rows: Array) -> Inputs:
    return Inputs({f"f{place}": rows[:, place] for place in range(rows.shape[1])}, ~np.isfinite(rows))


def phishing(count: int) -> tuple[Inputs, Array]:
    found = [(list(row.values()), int(label)) for row, label in streams.Phishing().take(count)]
    return inputs(np.array([row for row, _ in found], dtype=np.float64)), np.array([label for _, label in found])


def fed(learner: StreamLearner, rows: Inputs, labels: Array, *cuts: int) -> Array:
    """Scores of the rows, cut into batches at `cuts`."""
    return np.concatenate([learner.test_then_train(rows.take(np.arange(begin, end)), labels[begin:end])
                           for begin, end in pairwise([0, *cuts, rows.rows])])


def bytes_of(learner: StreamLearner) -> bytes:
    return pack(learner.arrays(), learner.about())


def accuracy(scores: Array, labels: Array) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


def test_answers_beat_the_majority_on_a_real_stream() -> None:
    rows, labels = phishing(600)
    record = Record("classification")
    record.update(fed(StreamLearner(course(9)), rows, labels, *range(64, 600, 64)), labels)
    found = record.figures()
    assert found["accuracy"] > 0.85 > 0.65 > found["baseline_accuracy"]


def test_a_row_is_answered_without_its_own_label_and_those_after_it() -> None:
    rows, labels = phishing(200)
    changed = labels.copy()
    changed[150:] = 1 - changed[150:]
    before = fed(StreamLearner(course(9)), rows, labels, 100)
    after = fed(StreamLearner(course(9)), rows, changed, 100)
    np.testing.assert_allclose(before[:151], after[:151], atol=1e-9)
    assert np.abs(before[151:] - after[151:]).max() > 0.01


def test_batches_of_any_size_answer_alike() -> None:
    rows, labels = phishing(300)
    whole = fed(StreamLearner(course(9)), rows, labels)
    np.testing.assert_allclose(fed(StreamLearner(course(9)), rows, labels, *range(1, 300)), whole, atol=1e-7)
    np.testing.assert_allclose(fed(StreamLearner(course(9)), rows, labels, 5, 70, 71, 290), whole, atol=1e-7)


@pytest.mark.parametrize("stop", [0, 1, 37, 300])
def test_what_is_restored_from_bytes_goes_on_exactly_as_it_would_have(stop: int) -> None:
    rows, labels = phishing(400)
    whole, first = StreamLearner(course(9)), StreamLearner(course(9))
    expected = fed(whole, rows, labels, *([stop] if stop else []))
    if stop:
        first.test_then_train(rows.take(np.arange(stop)), labels[:stop])
    again = StreamLearner(course(9))
    again.load(*unpack(bytes_of(first)))
    found = again.test_then_train(rows.take(np.arange(stop, 400)), labels[stop:])
    assert np.array_equal(found, expected[stop:])
    assert bytes_of(again) == bytes_of(whole)
    assert again.seen == 400


def test_texts_and_gaps_are_kept_in_the_bytes() -> None:
    fields = (PlannedField(name="word", type="text", missing=MODE), PlannedField(name="size", type="int", missing=MEAN))
    chance = np.random.default_rng(3)
    words = np.array(["a", "b\x00", "Ω", ""], dtype=object)[chance.integers(0, 4, 80)]
    rows = Inputs({"word": words, "size": chance.integers(0, 9, 80)}, chance.random((80, 2)) < 0.1)
    labels = np.array([word == "b\x00" for word in words], dtype=np.int64)
    whole, first, again = (StreamLearner(Course(fields, Outliers(), "classification", 2)) for _ in range(3))
    expected = fed(whole, rows, labels, 50)
    first.test_then_train(rows.take(np.arange(50)), labels[:50])
    again.load(*unpack(bytes_of(first)))
    assert np.array_equal(again.test_then_train(rows.take(np.arange(50, 80)), labels[50:]), expected[50:])
    assert accuracy(expected[50:], labels[50:]) > 0.8


def test_a_class_that_comes_late_is_learnt() -> None:
    data = datasets.load_wine()
    order = np.argsort(data.target, kind="stable")
    order = np.concatenate([np.random.default_rng(1).permutation(order[:130]),
                            np.random.default_rng(2).permutation(order)])
    rows, labels = inputs(data.data[order]), data.target[order]
    learner = StreamLearner(course(13, classes=1))
    fed(learner, rows.take(np.arange(130)), labels[:130], 1)
    assert learner.classes == 2
    scores = fed(learner, rows.take(np.arange(130, 308)), labels[130:], 64)
    assert learner.classes == 3 and scores.shape == (178, 3)
    np.testing.assert_allclose(scores.sum(axis=1), 1.0)
    assert accuracy(scores[64:], labels[194:]) > 0.9


def test_a_number_is_answered_better_than_by_its_mean() -> None:
    data = datasets.load_diabetes()
    record = Record("regression")
    learner = StreamLearner(course(10, task="regression"))
    record.update(fed(learner, inputs(data.data), data.target, 64, 128), data.target)
    found = record.figures()
    assert found["rmse"] < 0.85 * found["baseline_rmse"]


def test_rows_that_move_are_noticed_and_what_was_before_is_not_forgotten() -> None:
    chance = np.random.default_rng(5)
    raw = chance.normal(size=(2304, 3))
    labels = (raw[:, 0] * raw[:, 1] > 0).astype(np.int64)
    raw[1280:] += 20.0
    learner = StreamLearner(course(3, replay=512))
    scores = fed(learner, inputs(raw), labels, *range(64, 2304, 64))
    assert learner.times_anew >= 1
    assert accuracy(scores[2000:], labels[2000:]) > 0.8
    then = learner.test_then_train(inputs(raw[:64]), labels[:64])
    assert accuracy(then, labels[:64]) > 0.7


def test_the_buffer_keeps_the_newest_and_a_fair_sample_of_the_rest() -> None:
    found = []
    for seed in range(20):
        buffer = ReplayBuffer(100, seed)
        for begin in range(0, 1000, 37):
            numbers = np.arange(begin, min(1000, begin + 37), dtype=np.float64)
            buffer.add(inputs(numbers[:, None]), numbers)
        rows, labels = buffer.rows()
        assert np.array_equal(rows.values["f0"], labels) and len(labels) == 100
        assert np.array_equal(labels[50:], np.arange(950, 1000))
        found.append(labels[:50].mean())
    assert abs(float(np.mean(found)) - 475) < 40
