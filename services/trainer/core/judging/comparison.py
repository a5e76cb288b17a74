"""Whether a candidate is better than the champion or only luckier: stated tests on the same held-out rows.

The interval and the chance are a paired bootstrap of the gate's metric (Efron and Tibshirani 1993): both are measured
on the same rows drawn with replacement. Beside them stands a test that assumes nothing of the metric: McNemar's exact
test of who is right where only one is (McNemar 1947; Dietterich 1998 for its use on classifiers), or Wilcoxon's signed
ranks of the absolute errors (Wilcoxon 1945, normal approximation with ties).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.contracts.pipeline_blocks import LOWER_IS_BETTER
from services.trainer.core.judging.answered import Answered

Array = npt.NDArray[Any]

MIN_DRAWS, MAX_DRAWS = 200, 1000
# Rows drawn in all: with more rows each draw says more.
_DRAWN_ROWS = 40_000_000
# A metric that is no mean over rows is computed anew for each draw, which costs more.
SLOW_DRAWS = 300
_SEED = 20_260_101
# Row numbers held at once.
_HELD_ROWS = 2_000_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """`lead` is towards better, in units of the metric, with its 95 % interval [low, high].

    `chance` is that the lead is not above `margin`, one-sided; `paired_chance` that of a difference as large as the
    rows show, were both equally good, two-sided, by the test called `paired_test`.
    """

    metric: str
    candidate: float
    champion: float
    lead: float
    low: float
    high: float
    margin: float
    chance: float
    paired_test: str
    paired_chance: float

    def metrics(self) -> dict[str, float]:
        """As they stand in a manifest."""
        return {"champion_lead": self.lead, "champion_lead_low": self.low, "champion_lead_high": self.high,
                "champion_chance": self.chance, "champion_paired_chance": self.paired_chance}


def compare(candidate: Answered, champion: Answered, metric: str, margin: float = 0.0) -> Comparison | None:
    """Both on the same rows, in the same order; None where the metric is not defined on them.

    `margin` is the lead that is asked for; below 0 it is how much worse is still as good (non-inferiority).
    """
    mine, theirs = candidate.metrics().get(metric), champion.metrics().get(metric)
    if mine is None or theirs is None:
        return None
    leads = _leads(candidate, champion, metric)
    if not len(leads):
        return None
    low, high = (float(one) for one in np.quantile(leads, [0.025, 0.975]))
    # A hair of tolerance, as the gate has: leads that are equal to the margin but for rounding are not above it.
    chance = (1 + int((leads <= margin + 1e-9).sum())) / (len(leads) + 1)
    test, paired = ("McNemar, exact", mcnemar(candidate, champion)) if candidate.classes else (
        "Wilcoxon signed ranks", wilcoxon(np.abs(champion.values - champion.truth)
                                          - np.abs(candidate.values - candidate.truth)))
    return Comparison(metric, mine, theirs, _towards_better(metric, mine, theirs), low, high, margin, chance,
                      test, paired)


def mcnemar(one: Answered, other: Answered) -> float:
    """Two-sided chance that one is right so much more often where the other is wrong, were each as likely."""
    right, wrong = one.said == one.truth, other.said == other.truth
    for_one, for_other = int((right & ~wrong).sum()), int((~right & wrong).sum())
    count, fewer = for_one + for_other, min(for_one, for_other)
    if not count:
        return 1.0
    # In logarithms: the binomials of thousands of rows are beyond what a float holds.
    terms = [math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - count * math.log(2)
             for k in range(fewer + 1)]
    highest = max(terms)
    return min(1.0, 2 * math.exp(highest) * sum(math.exp(term - highest) for term in terms))


def wilcoxon(differences: Array) -> float:
    """Two-sided chance of signed ranks so far from even, were the differences symmetric about zero."""
    present = differences[differences != 0]
    count = len(present)
    if not count:
        return 1.0
    _, places, ties = np.unique(np.abs(present), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[places]
    expected = count * (count + 1) / 4
    variance = count * (count + 1) * (2 * count + 1) / 24 - float((ties ** 3 - ties).sum()) / 48
    return math.erfc(abs(float(ranks[present > 0].sum()) - expected) / math.sqrt(2 * variance))


def _leads(candidate: Answered, champion: Answered, metric: str) -> Array:
    chance = np.random.default_rng(_SEED)
    mine, theirs = candidate.losses(metric), champion.losses(metric)
    if mine is None or theirs is None:
        found = []
        for _ in range(SLOW_DRAWS):
            rows = chance.integers(0, len(candidate), len(candidate))
            pair = [one.take(rows).metrics().get(metric) for one in (candidate, champion)]
            if pair[0] is not None and pair[1] is not None:
                found.append(_towards_better(metric, pair[0], pair[1]))
        return np.array(found)
    wanted = int(np.clip(_DRAWN_ROWS // len(candidate), MIN_DRAWS, MAX_DRAWS))
    at_once = max(1, _HELD_ROWS // len(candidate))
    parts = []
    for start in range(0, wanted, at_once):
        rows = chance.integers(0, len(candidate), (min(at_once, wanted - start), len(candidate)))
        means = [one[rows].mean(axis=1) for one in (mine, theirs)]
        if metric == "rmse":
            means = [np.sqrt(one) for one in means]
        parts.append(_towards_better(metric, means[0], means[1]))
    return np.concatenate(parts)


def _towards_better(metric: str, candidate: Any, champion: Any) -> Any:
    return champion - candidate if metric in LOWER_IS_BETTER else candidate - champion
