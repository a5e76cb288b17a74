"""Whether answers are answers at all, and whether two versions answer alike."""

import math
from collections.abc import Mapping

import numpy as np

from services.predictor.core.answers import Answers
from services.predictor.core.signature import Array

CLOSE = 0.05
"""Numbers that differ by no more than this share of the larger one agree."""


def sound(outputs: Mapping[str, Array]) -> bool:
    """Whether every number among a run's outputs is finite."""
    for array in outputs.values():  # noqa: SIM110 - it is done for every batch, and `all` costs half as much again
        if array.dtype.kind == "f" and not _finite(array):
            return False
    return True


def _finite(array: Array) -> bool:
    """A product with itself is no number where one of its numbers is none, and costs a third of looking at each; very
    large numbers are looked at."""
    return (array.dtype.char in "fd" and math.isfinite(np.vdot(array, array))) or bool(np.isfinite(array).all())


def sound_answers(answers: Answers) -> bool:
    """The same of what was read from them."""
    beside = (answers.probabilities, answers.scores, answers.values, answers.score, answers.bounds)
    return (answers.numbers is None or bool(np.isfinite(answers.numbers).all())) and all(
        array is None or bool(np.isfinite(array).all()) for array in beside)


def unsound_rows(answers: Answers) -> int:
    """How many rows have a number among their answers that is none."""
    beside = (answers.numbers, answers.probabilities, answers.scores, answers.values, answers.score, answers.bounds)
    bad = np.zeros(len(answers), dtype=np.bool_)
    for array in beside:
        if array is not None:
            bad |= ~np.isfinite(array).reshape(len(answers), -1).all(axis=1)
    return int(bad.sum())


def agreed(one: Answers, other: Answers) -> int:
    """How many rows are answered alike: with the same label (of a ranking: the same first item), or close numbers."""
    if one.numbers is not None and other.numbers is not None:
        mine, theirs = np.asarray(one.numbers, float), np.asarray(other.numbers, float)
        return int((np.abs(mine - theirs) <= CLOSE * np.maximum(np.abs(mine), np.abs(theirs))).sum())
    return sum(mine == theirs for mine, theirs in zip(one.texts(), other.texts(), strict=True))
