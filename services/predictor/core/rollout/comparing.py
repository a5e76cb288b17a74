"""Whether answers are answers at all, and whether two versions answer alike."""

from collections.abc import Mapping

import numpy as np

from services.predictor.core.answers import Answers
from services.predictor.core.signature import Array

CLOSE = 0.05
"""Numbers that differ by no more than this share of the larger one agree."""


def sound(outputs: Mapping[str, Array]) -> bool:
    """Whether every number among a run's outputs is finite."""
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in outputs.values())


def sound_answers(answers: Answers) -> bool:
    """The same of what was read from them."""
    beside = (answers.probabilities, answers.scores, answers.values, answers.score, answers.bounds)
    return (answers.numbers is None or bool(np.isfinite(answers.numbers).all())) and all(
        array is None or bool(np.isfinite(array).all()) for array in beside)


def agreed(one: Answers, other: Answers) -> int:
    """How many rows are answered alike: with the same label (of a ranking: the same first item), or close numbers."""
    if one.numbers is not None and other.numbers is not None:
        mine, theirs = np.asarray(one.numbers, float), np.asarray(other.numbers, float)
        return int((np.abs(mine - theirs) <= CLOSE * np.maximum(np.abs(mine), np.abs(theirs))).sum())
    return sum(mine == theirs for mine, theirs in zip(one.texts(), other.texts(), strict=True))
