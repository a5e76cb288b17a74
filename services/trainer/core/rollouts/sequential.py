"""Tests that may be looked at as often as one likes while rows come in, and still err no more often than they say.

The mixture sequential probability ratio test (Robbins 1970, The Annals of Mathematical Statistics 41, "Statistical
methods related to the law of the iterated logarithm"), as Johari, Koomen, Pekelis and Walsh use it for two arms
("Always Valid Inference: Continuous Monitoring of A/B Tests", Operations Research 70, 2022; arXiv:1512.04922).
"""

import math
from dataclasses import dataclass

from services.trainer.core.rollouts.labelled import Losses

SPREAD = 0.05
"""Standard deviation of the normal mixture, in units of a share: differences of about this size are found soonest. Any
other value keeps the error what it is."""

MEAN_SPREAD, FEWEST = 0.1, 30
"""The same for means, in units of the standard deviation; before so many losses a mean is not nearly normal."""


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `among` trials."""

    hits: int
    among: int

    @property
    def value(self) -> float:
        return self.hits / self.among if self.among else 0.0

    @property
    def variance(self) -> float:
        """Of `value`, with one hit and one miss more (Laplace), so that it is not 0 where all were alike."""
        likely = (self.hits + 1) / (self.among + 2)
        return likely * (1 - likely) / max(self.among, 1)


def log_ratio(lead: float, variance: float, spread: float = SPREAD) -> float:
    """Logarithm of how much likelier `lead` is under the mixture than under no difference.

    `variance` is the lead's. The chance that it ever exceeds log(1/a), at whatever moment one looks, is at most a.
    """
    mixed = variance + spread * spread
    return 0.5 * math.log(variance / mixed) + spread * spread * lead * lead / (2 * variance * mixed)


def larger(mine: Share, theirs: Share, allowed: float, significance: float) -> bool:
    """Whether my share is shown to exceed theirs by more than `allowed`."""
    if not mine.among or not theirs.among:
        return False
    lead = mine.value - theirs.value - allowed
    return lead > 0 and log_ratio(lead, mine.variance + theirs.variance) >= -math.log(significance)


def costlier(mine: Losses, theirs: Losses, significance: float) -> bool:
    """Whether my answers are shown to cost more on average than theirs."""
    if min(mine.count, theirs.count) < FEWEST:
        return False
    lead, spread = mine.mean - theirs.mean, math.sqrt((mine.spread + theirs.spread) / 2)
    if lead <= 0 or spread == 0:
        return lead > 0
    # In units of one loss's standard deviation, as shares are: what it is of is no matter then.
    variance = (mine.spread / mine.count + theirs.spread / theirs.count) / spread ** 2
    return log_ratio(lead / spread, variance, MEAN_SPREAD) >= -math.log(significance)
