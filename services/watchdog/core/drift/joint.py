"""Whether fields go together as they did: a test of each pair, and adaptive windowing over a score of all of them.

Rank correlations r of n rows are compared as atanh r (Fisher 1921), whose variance is about 1.06 / (n - 3) (Fieller,
Hartley and Pearson, Biometrika 1957). The joint score of an interval is the sum over all pairs of the squared change
of atanh r, less what chance adds to it; many pairs that change a little move it as one does that changes much.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from services.watchdog.core.drift.adwin import MIN_SIDE, Adwin

VARIANCE = 1.06
# A correlation that changed by less is no drift, however sure it is: a medium effect (Cohen 1988).
TURNED = 0.3
# The same of the joint score: one pair that changed by 0.5, or twelve by 0.15.
SCORE = 0.25
MIN_ROWS = 8


@dataclass(slots=True)
class Sums:
    """Of atanh r by pair, each summary with the weight of its rows."""

    weight: float = 0.0
    values: list[float] = field(default_factory=list)

    def add(self, weight: float, values: list[float]) -> None:
        self.weight += weight
        if not self.values:
            self.values = [0.0] * len(values)
        for place, value in enumerate(values):
            self.values[place] += weight * value

    def means(self) -> list[float]:
        return [value / self.weight for value in self.values] if self.weight else []


@dataclass(slots=True)
class Joint:
    """Pairs of one pipeline's fields. Until `settle` what comes is kept; then only sums."""

    fields: tuple[str, ...] = ()
    reference: Sums = field(default_factory=Sums)
    window: Sums = field(default_factory=Sums)
    effects: list[float] = field(default_factory=list)
    """By pair, how many times the variance of independent rows the reference shows."""
    adwin: Adwin = field(default_factory=lambda: Adwin(width=0.0))
    _first: list[tuple[float, list[float]]] = field(default_factory=list)

    def see(self, fields: tuple[str, ...], rows: int, correlations: Sequence[float]) -> None:
        """Correlations by pair: of the first field with each after it, then of the second, and so on.

        Other fields than before are those of another version of the pipeline: they are only compared once they are the
        reference.
        """
        if rows < MIN_ROWS or len(correlations) != math.comb(len(fields), 2):
            return
        if not self.fields:
            self.fields = fields
        if fields != self.fields:
            return
        weight = float(rows - 3)
        values = [math.atanh(max(-0.999, min(0.999, one))) for one in correlations]
        if not self.reference.weight:
            self._first.append((weight, values))
            return
        self.window.add(weight, values)
        self.adwin.see(self._score(weight, values))

    def settle(self, rows: float) -> None:
        """What was seen so far is the reference, in windows of so many rows."""
        windows = [Sums()]
        for weight, values in self._first:
            self.reference.add(weight, values)
            if windows[-1].weight >= rows:
                windows.append(Sums())
            windows[-1].add(weight, values)
        usual = self.reference.means()
        singly = _effects(self._first, usual)
        windowed = _effects([(one.weight, one.means()) for one in windows], usual)
        # A few windows say little of a pair, but all pairs of them together say how much hangs on what came before.
        pooled = sum(windowed) / len(windowed) if windowed else 1.0
        self.effects = [max(1.0, one, pooled) for one in singly]
        self._first = []

    def chances(self) -> dict[str, float]:
        """By pair, how likely so large a change is by chance."""
        return {name: math.erfc(abs(now - before) / math.sqrt(effect * self._variance()) / math.sqrt(2))
                for name, before, now, effect in self._pairs()}

    def changed(self) -> dict[str, str]:
        """Pairs whose correlation changed by so much that it matters, and what it was and is."""
        return {name: f"rank correlation {math.tanh(now):+.2f} where {math.tanh(before):+.2f} is usual"
                for name, before, now, _ in self._pairs() if abs(math.tanh(now) - math.tanh(before)) >= TURNED}

    @property
    def moved(self) -> float:
        """The joint score since it changed last, where that is a drift; else 0."""
        return self.adwin.mean if self.adwin.count >= 2 * MIN_SIDE and self.adwin.mean >= SCORE else 0.0

    def begin_anew(self) -> None:
        """Forget what came lately; the reference stays."""
        self.window, self.adwin = Sums(), Adwin(width=0.0)

    def turn(self, learn: bool) -> None:
        """Begin a new window; the one before is taken into the reference if `learn`."""
        if learn and self.window.weight:
            self.reference.add(self.window.weight, self.window.means())
        self.window = Sums()

    def _pairs(self) -> Iterator[tuple[str, float, float, float]]:
        """Name, atanh r in the reference and in the window, and the effect of each pair; none before both are there."""
        names = (f"{one} with {other}" for one, other in combinations(self.fields, 2))
        if self.window.weight and self.reference.weight:
            yield from zip(names, self.reference.means(), self.window.means(), self.effects, strict=True)

    def _variance(self) -> float:
        return VARIANCE * (1 / self.window.weight + 1 / self.reference.weight)

    def _score(self, weight: float, values: list[float]) -> float:
        usual = self.reference.means()
        return sum((value - before) ** 2 - effect * VARIANCE / weight
                   for value, before, effect in zip(values, usual, self.effects, strict=True))


def _effects(parts: list[tuple[float, list[float]]], usual: list[float]) -> list[float]:
    if len(parts) < 3:
        return [1.0] * len(usual)
    return [sum(weight * (values[place] - before) ** 2 for weight, values in parts) / VARIANCE / (len(parts) - 1)
            for place, before in enumerate(usual)]
