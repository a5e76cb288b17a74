"""Prequential figures: the same in any batches, the plainest answer beside them, kept by bytes."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from services.trainer.core.streaming.record import FADING, MOST_POINTS, Record
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


def test_the_course_has_the_figures_as_they_were_in_any_batches_and_never_more_points_than_it_may() -> None:
    chance = np.random.default_rng(5)
    rows = 2 * 16 * MOST_POINTS + 5
    scores, truth = chance.dirichlet([1, 1], rows), chance.integers(0, 2, rows)
    whole, first, parts = (Record("classification") for _ in range(3))
    whole.update(scores, truth)
    first.update(scores[:32], truth[:32])
    then = first.figures()
    for begin in range(0, rows, 61):
        if begin == 61 * 9:
            again = Record("classification")
            again.load(unpack(pack(parts.arrays(), {}))[0])
            parts = again
        parts.update(scores[begin:begin + 61], truth[begin:begin + 61])
    course = whole.course()
    assert [one["rows"] for one in course] == list(range(32, rows, 32)) and len(course) == MOST_POINTS
    assert course[0] == pytest.approx({"rows": 32, **{name: then[name] for name in course[0] if name != "rows"}})
    assert {"fading_accuracy", "baseline_fading_accuracy", "last_value_fading_accuracy"} < set(course[0])
    for one, other in zip(course, parts.course(), strict=True):
        assert one == pytest.approx(other)


def test_a_state_from_before_the_course_was_kept_begins_one() -> None:
    record, older = Record("regression"), Record("regression")
    record.update(np.ones((20, 1)), np.zeros(20))
    older.load({name: some for name, some in record.arrays().items() if name != "points"})
    assert older.course() == []
    older.update(np.ones((20, 1)), np.zeros(20))
    assert [one["rows"] for one in older.course()] == [32]
    assert older.course()[0]["fading_rmse"] == 1.0
