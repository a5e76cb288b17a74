"""Prequential figures: the same in any batches, the plainest answer beside them, kept by bytes."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from services.trainer.core.streaming.record import FADING, Record
from services.trainer.core.weights import pack, unpack


def test_figures_are_those_of_all_rows_and_of_a_fading_window() -> None:
    chance = np.random.default_rng(1)
    scores, truth = chance.dirichlet([1, 1, 1], 500), chance.integers(0, 3, 500)
    truth[250:] = scores[250:].argmax(axis=1)
    record = Record("classification")
    for begin in range(0, 500, 45):
        record.update(scores[begin:begin + 45], truth[begin:begin + 45])
    right = scores.argmax(axis=1) == truth
    weights = FADING ** np.arange(499, -1, -1)
    found = record.figures()
    assert record.rows == 500
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["fading_accuracy"] == pytest.approx((weights * right).sum() / weights.sum())
    assert found["log_loss"] == pytest.approx(log_loss(truth, scores))
    assert found["fading_accuracy"] > found["accuracy"]


def test_the_majority_is_of_the_labels_before_each_row() -> None:
    record = Record("classification")
    truth = np.array([1, 1, 0, 2, 2, 2, 2])
    answers = [0, 1, 1, 1, 1, 1, 2]  # after 1 1 0 2 2 classes 1 and 2 are level: the least counts
    record.update(np.full((4, 3), 1 / 3), truth[:4])
    record.update(np.full((3, 3), 1 / 3), truth[4:])
    assert record.figures()["baseline_accuracy"] == pytest.approx(np.mean(truth == answers))


def test_numbers_are_compared_with_the_mean_so_far() -> None:
    record = Record("regression")
    record.update(np.array([[1.0], [2.0]]), np.array([1.0, 3.0]))
    record.update(np.array([[2.0]]), np.array([2.0]))
    found = record.figures()
    assert found["rmse"] == pytest.approx(np.sqrt(1 / 3)) and found["mae"] == pytest.approx(1 / 3)
    assert found["baseline_mae"] == pytest.approx((1 + 2 + 0) / 3)


@pytest.mark.parametrize("batches", [[(0, 7)], [(0, 1), (1, 3), (3, 7)]])
def test_repeating_the_label_before_is_measured_beside_it_in_any_batches(batches: list[tuple[int, int]]) -> None:
    classes, numbers = np.array([1, 1, 0, 2, 2, 2, 1]), np.array([1.0, 3.0, 2.0, 2.0, 0.0, 4.0, 4.0])
    one, other = Record("classification"), Record("regression")
    for begin, end in batches:
        one.update(np.full((end - begin, 3), 1 / 3), classes[begin:end])
        other.update(np.zeros((end - begin, 1)), numbers[begin:end])
    # The first row has no label before it.
    weights = FADING ** np.arange(5, -1, -1)
    right, apart = classes[1:] == classes[:-1], np.abs(np.diff(numbers))
    found = one.figures() | other.figures()
    assert found["last_value_accuracy"] == pytest.approx(right.mean())
    assert found["last_value_fading_accuracy"] == pytest.approx((weights * right).sum() / weights.sum())
    assert found["last_value_mae"] == pytest.approx(apart.mean())
    assert found["last_value_rmse"] == pytest.approx(np.sqrt((apart ** 2).mean()))


def test_one_row_has_nothing_to_repeat_and_an_older_state_begins_with_its_next_row() -> None:
    record, older = Record("classification"), Record("classification")
    record.update(np.full((1, 2), 0.5), np.array([1]))
    assert not [name for name in record.figures() if name.startswith("last_value")]
    older.load({name: some for name, some in record.arrays().items() if not name.startswith("last")})
    older.update(np.full((3, 2), 0.5), np.array([1, 1, 0]))
    assert older.rows == 4 and older.figures()["last_value_accuracy"] == 0.5


def test_a_record_goes_on_from_its_bytes() -> None:
    chance = np.random.default_rng(2)
    scores, truth = chance.dirichlet([1, 1], 100), chance.integers(0, 2, 100)
    whole, first, again = (Record("classification") for _ in range(3))
    assert first.figures() == {}
    for record in (whole, first):
        record.update(scores[:60], truth[:60])
    again.load(unpack(pack(first.arrays(), {}))[0])
    for record in (whole, again):
        record.update(scores[60:], truth[60:])
    assert again.figures() == whole.figures()
