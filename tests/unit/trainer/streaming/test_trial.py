"""The rows that judge a stream's next candidate: the newest, whole whenever they are looked at."""

import numpy as np

from services.trainer.core.preparing.rows import Inputs
from services.trainer.core.streaming.trial import KEPT, Trial


def added(trial: Trial, first: int, count: int, classes: int = 2) -> None:
    numbers = np.arange(first, first + count, dtype=np.float64)
    trial.add(Inputs({"size": numbers}, np.zeros((count, 1), dtype=bool)), numbers % 2, np.ones((count, classes)))


def test_the_newest_rows_are_kept_however_many_came_and_in_whatever_parts() -> None:
    one, other = Trial(), Trial()
    added(one, 0, 3 * KEPT + 7)
    for first in range(0, 3 * KEPT + 7, 61):
        added(other, first, min(61, 3 * KEPT + 7 - first))
        # Looking changes nothing.
        assert other.rows == len(other.truth) <= KEPT
    assert one.rows == other.rows == KEPT
    assert one.inputs.values["size"].tolist() == list(range(2 * KEPT + 7, 3 * KEPT + 7))
    found = other.arrays()
    for name, array in one.arrays().items():
        assert np.array_equal(array, found[name]), name


def test_a_class_that_comes_late_had_no_chance_before_and_rows_outlive_their_bytes() -> None:
    trial, again = Trial(), Trial()
    added(trial, 0, 3)
    added(trial, 3, 2, classes=3)
    again.load(trial.arrays())
    assert again.scores.tolist() == [[1.0, 1.0, 0.0]] * 3 + [[1.0, 1.0, 1.0]] * 2
    trial.clear()
    again.load(trial.arrays())
    assert again.rows == trial.rows == len(trial.truth) == 0
