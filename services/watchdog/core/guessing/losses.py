"""How far off numbers like these usually are: the loss of labelled answers, by how large the answer was.

Direct loss estimation as far as predictions carry what it needs (Białek et al. 2024, arXiv:2401.08348, name it for
regression): the loss is learnt from the answer alone, as its mean over bins of equal shares (a regressogram, Tukey
1961). Fields of the row take no part: predictions do not carry them.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.watchdog.core.guessing.guess import Guess

BINS = 10
LEARN = 1_000
MIN_LEARNT = 200
# More answers outside everything that was ever labelled, and nothing is said of them.
OUTSIDE = 0.05


@dataclass(slots=True)
class Losses:
    """One version's, of `metric`: mae, else by squares (mse, rmse)."""

    metric: str
    learnt: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=LEARN))

    def learn(self, answer: float, truth: float) -> None:
        off = abs(answer - truth)
        self.learnt.append((answer, off if self.metric == "mae" else off * off))

    def usual(self) -> Guess | None:
        """The metric over the labelled answers themselves; None: too few."""
        return self.guess([answer for answer, _ in self.learnt])

    def guess(self, answers: Sequence[float]) -> Guess | None:
        """The metric that such answers usually have; None while too few were labelled, or none like these."""
        if len(self.learnt) < MIN_LEARNT or not answers:
            return None
        known = sorted(self.learnt)
        outside = sum(not known[0][0] <= one <= known[-1][0] for one in answers)
        if outside > OUTSIDE * len(answers):
            return None
        parts = [known[len(known) * place // BINS:len(known) * (place + 1) // BINS] for place in range(BINS)]
        edges = [part[0][0] for part in parts[1:]]
        shares = [0.0] * BINS
        for one in answers:
            shares[bisect_right(edges, one)] += 1 / len(answers)
        means = [math.fsum(loss for _, loss in part) / len(part) for part in parts]
        mean = math.fsum(share * one for share, one in zip(shares, means, strict=True))
        spread = math.fsum(share * (one - mean) ** 2 for share, one in zip(shares, means, strict=True)) / len(answers)
        doubt = math.fsum(share ** 2 * math.fsum((loss - one) ** 2 for _, loss in part) / len(part) ** 2
                          for share, one, part in zip(shares, means, parts, strict=True))
        return self._in_units(Guess(mean, math.sqrt(spread + doubt), len(answers), len(known)))

    def _in_units(self, found: Guess) -> Guess:
        if self.metric != "rmse":
            return found
        root = math.sqrt(found.value)
        # The error of a root, to first order.
        return Guess(root, found.error / (2 * root) if root else 0.0, found.rows, found.learnt)
