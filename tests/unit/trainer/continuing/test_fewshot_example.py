"""The example of two clinics: a few rows and a teacher are better than a few rows, over several seeds."""

import numpy as np

from examples.fewshot import compare, data
from services.trainer.core.continuing.beginning import beginning
from tests.unit.trainer.continuing.test_beginning import EMPTY, TRAIN, command

SHOTS = data.SHOTS[0]
AHEAD = 0.015


def test_a_model_that_goes_on_from_a_teacher_beats_one_that_begins_with_nothing() -> None:
    teacher = compare.taught()
    alone, with_teacher = ([compare.accuracy(SHOTS, seed, one) for seed in compare.SEEDS] for one in (None, teacher))
    assert np.mean(with_teacher) > np.mean(alone) + AHEAD
    assert min(with_teacher) > min(alone)
    assert np.mean(with_teacher) > 0.93


def test_the_pupils_pipeline_says_where_its_first_run_begins() -> None:
    begun = beginning(command(kind=TRAIN, reason="rows"), data.spec("pupil"), "mlp", EMPTY, 2 * SHOTS)
    assert begun is not None
    assert begun.model == data.spec("teacher").name
