"""How often a version is right that is so sure: the share of right answers that its probabilities stand for.

Confidence-based performance estimation: the expected accuracy of answers is the mean of their calibrated probabilities
(Białek, Kuberski, Perrakis, Bifet: Estimating Model Performance Under Covariate Shift Without Labels, 2024,
arXiv:2401.08348). It holds where rows change and what follows from a row does not: a label that comes to mean something
else is not seen by it.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.watchdog.core.guessing.guess import Guess

PERCENTS = 101
# The newest labelled predictions calibrate; more would only be older.
LEARN = 1_000
MIN_LEARNT = 100
# What a version says of itself counts, at each percent, as so many labelled predictions: where the registry says that
# its probabilities were right on held-out rows, and where it does not.
TRUSTED, UNTRUSTED = 5.0, 0.5
# Above it probabilities are too far off to stand for anything before labels have set them right.
BADLY_CALIBRATED = 0.1


@dataclass(frozen=True, slots=True)
class _Block:
    """Neighbouring percents that are right equally often; `weight`: labelled predictions that say so."""

    right: float
    weight: float
    percents: int


@dataclass(slots=True)
class Calibrated:
    """One version's. `said`: its expected calibration error on so many held-out rows; None: nobody measured it."""

    said: float | None = None
    held_out: int = 0
    learnt: deque[tuple[int, bool]] = field(default_factory=lambda: deque(maxlen=LEARN))

    @property
    def margin(self) -> float:
        """By how much an estimate may be off because nobody has set the probabilities right yet."""
        return 0.0 if len(self.learnt) >= MIN_LEARNT else self.said or 0.0

    def learn(self, sure: float, right: bool) -> None:
        self.learnt.append((percent(sure), right))

    def guess(self, counts: Mapping[int, int]) -> Guess | None:
        """Expected accuracy of answers that were so often given with each percent; None: nothing calibrates them.

        The error has two parts: how the answers of this window differ, and how well each part of the curve is known.
        """
        trusted = self.said is not None and self.said <= BADLY_CALIBRATED
        total = sum(counts.values())
        if not total or not (trusted or len(self.learnt) >= MIN_LEARNT):
            return None
        # The error was measured over ten bins.
        measured = self.held_out / 10 if trusted else 0.0
        mean = square = doubt = 0.0
        at = 0
        for block in self._curve(TRUSTED if trusted else UNTRUSTED):
            share = sum(counts.get(at + place, 0) for place in range(block.percents)) / total
            at += block.percents
            mean += share * block.right
            square += share * block.right ** 2
            doubt += share ** 2 * block.right * (1 - block.right) / (block.weight + measured)
        spread = max(0.0, square - mean ** 2) / total
        return Guess(mean, math.sqrt(spread + doubt), total, len(self.learnt))

    def _curve(self, prior: float) -> list[_Block]:
        """Isotonic regression by pooling neighbours that are out of order (Ayer et al. 1955; for probabilities of
        classifiers Zadrozny and Elkan 2002), from what the version says itself where nobody knows better."""
        right, rows = [prior * (one / 100) for one in range(PERCENTS)], [prior] * PERCENTS
        for place, well in self.learnt:
            right[place] += well
            rows[place] += 1
        blocks: list[_Block] = []
        for place in range(PERCENTS):
            block = _Block(right[place] / rows[place], rows[place], 1)
            while blocks and blocks[-1].right >= block.right:
                block = _pooled(blocks.pop(), block)
            blocks.append(block)
        return blocks


def percent(sure: float) -> int:
    """A probability as the nearest percent; what is none is as near to one as can be."""
    return round(100 * min(1.0, max(0.0, sure)))


def _pooled(one: _Block, other: _Block) -> _Block:
    weight = one.weight + other.weight
    return _Block((one.right * one.weight + other.right * other.weight) / weight, weight,
                  one.percents + other.percents)
