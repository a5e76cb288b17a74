"""How far two distributions are apart, how likely that is by chance, and what many such tests together may say."""

import math
from collections.abc import Mapping, Sequence

HALF = 0.5


def psi(reference: Sequence[float], window: Sequence[float]) -> float:
    """Population stability index of counts over the same bins (Siddiqi, Credit Risk Scorecards, 2006).

    Half a row is added to each bin, so that an empty one is no infinity. 0.1 is little, 0.25 is much.
    """
    pairs = list(zip(_shares(reference), _shares(window), strict=True))
    return sum((now - before) * math.log(now / before) for before, now in pairs)


def jensen_shannon(reference: Sequence[float], window: Sequence[float]) -> float:
    """Distance between 0 and 1: the root of the divergence to base 2 (Lin 1991; Endres and Schindelin 2003)."""
    total = 0.0
    for before, now in zip(_shares(reference), _shares(window), strict=True):
        middle = (before + now) / 2
        total += before * math.log2(before / middle) + now * math.log2(now / middle)
    return math.sqrt(max(0.0, total / 2))


def kolmogorov_smirnov(reference: Sequence[float], window: Sequence[float],
                       effect: float = 1.0) -> tuple[float, float]:
    """Largest distance of the two distribution functions at the edges of the bins, and its chance.

    Between edges they may be further apart, so the chance is never too small. Smirnov's limit with Stephens'
    correction (JRSS B 1970). `effect`: so many rows say as much as one that is independent of the others would.
    """
    n, m = sum(reference), sum(window)
    if not n or not m:
        return 0.0, 1.0
    distance, before, now = 0.0, 0.0, 0.0
    for one, other in zip(reference, window, strict=True):
        before, now = before + one / n, now + other / m
        distance = max(distance, abs(before - now))
    root = math.sqrt(n * m / (n + m) / effect)
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.3:
        return distance, 1.0
    tail = 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * scaled * scaled) for k in range(1, 101))
    return distance, min(1.0, max(0.0, tail))


def chi_square(reference: Sequence[float], window: Sequence[float], effect: float = 1.0) -> float:
    """Chance that two rows of counts come from the same shares: Pearson's test (1900) of homogeneity.

    The tail is Wilson and Hilferty's (PNAS 1931). Bins that are empty in both are left out. `effect` divides the
    statistic (Rao and Scott, JASA 1981): so many rows say as much as one that is independent of the others would.
    """
    n, m = sum(reference), sum(window)
    pairs = [(one, other) for one, other in zip(reference, window, strict=True) if one + other > 0]
    if not n or not m or len(pairs) < 2:
        return 1.0
    statistic = 0.0
    for one, other in pairs:
        share = (one + other) / (n + m)
        statistic += (one - n * share) ** 2 / (n * share) + (other - m * share) ** 2 / (m * share)
    freedom = len(pairs) - 1
    spread = 2 / (9 * freedom)
    z = ((statistic / effect / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return math.erfc(z / math.sqrt(2)) / 2


def more_often(usual: float, count: float, rows: float) -> float:
    """Chance of `count` or more of so many rows where `usual` of them are expected: one-sided, normal, continuous."""
    if rows <= 0:
        return 1.0
    expected = min(1 - 1e-9, max(usual, HALF / rows)) * rows
    z = (count - HALF - expected) / math.sqrt(expected * (1 - expected / rows))
    return math.erfc(z / math.sqrt(2)) / 2


def holm(chances: Mapping[str, float], level: float) -> frozenset[str]:
    """Those that are significant together: at most `level` that even one of them is by chance (Holm 1979)."""
    found: list[str] = []
    for place, (name, chance) in enumerate(sorted(chances.items(), key=lambda one: (one[1], one[0]))):
        if chance > level / (len(chances) - place):
            break
        found.append(name)
    return frozenset(found)


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts) + HALF * len(counts)
    return [(count + HALF) / total for count in counts]
