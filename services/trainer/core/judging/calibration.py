"""Whether probabilities are what they say: of the rows told 70 %, seven in ten."""

from dataclasses import dataclass

import numpy as np

from services.trainer.core.judging.answered import Answered

CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows whose probability fell into one tenth: what was said on average, and how often it was so."""

    said: float
    true: float
    rows: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """`error` is the expected calibration error (Naeini et al. 2015): the mean distance of `said` and `true`, by rows.

    `brier` is the mean squared distance of the probabilities from what was true (Brier 1950), over all classes.
    """

    bins: tuple[Bin, ...]
    error: float
    brier: float


def calibration(answered: Answered) -> Calibration:
    """Of the second class where there are two, else of the class answered."""
    two = len(answered.classes) == 2
    rows = np.arange(len(answered))
    said = answered.values[:, 1] if two else answered.values[rows, answered.said]
    true = (answered.truth == 1) if two else (answered.truth == answered.said)
    places = np.minimum((said * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    bins = [Bin(float(said[places == one].mean()), float(true[places == one].mean()), int((places == one).sum()))
            for one in range(CALIBRATION_BINS) if (places == one).any()]
    error = sum(abs(one.said - one.true) * one.rows for one in bins) / len(answered)
    wanted = answered.truth[:, None] == np.arange(len(answered.classes))[None, :]
    return Calibration(tuple(bins), error, float(((answered.values - wanted) ** 2).sum(axis=1).mean()))
