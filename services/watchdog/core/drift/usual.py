"""How much windows of rows differ among themselves while nothing is wrong, so that no more than that is a drift."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

MAX_WINDOWS = 40
WAVES = 2.0
"""From which effect on windows differ by more than chance; by chance a few windows may show nearly as much."""


@dataclass(slots=True)
class Usual:
    """Counts over the same bins of the newest windows that showed nothing.

    Rows that follow one another in waves, or hang on the one before, are not as many independent ones. How many they
    are is told by the windows: a share of independent rows has the variance of a binomial; where it has more, that
    many times as many rows say the same (the design effect of Kish 1965; Rao and Scott, JASA 1981).
    """

    windows: deque[list[float]] = field(default_factory=lambda: deque(maxlen=MAX_WINDOWS))
    _effects: dict[bool, float] = field(default_factory=dict)
    _apart: float | None = None

    def learn(self, counts: Sequence[float]) -> None:
        self.windows.append(list(counts))
        self._effects, self._apart = {}, None

    def learn_all(self, counts: Iterable[Sequence[float]], rows: float) -> None:
        """Counts of small parts, in order, put together to windows of so many rows; what is left joins the last."""
        parts: list[list[float]] = []
        for part in counts:
            if parts and sum(parts[-1]) < rows:
                parts[-1] = _sum([parts[-1], part])
            else:
                parts.append(list(part))
        if len(parts) > 1 and sum(parts[-1]) < rows:
            parts[-2:] = [_sum(parts[-2:])]
        for one in parts:
            self.learn(one)

    def total(self) -> list[float]:
        return _sum(self.windows)

    def effect(self, *, ordered: bool) -> float:
        """So many rows say as much as an independent one, at least 1; `ordered`: of shares up to each bin."""
        if ordered not in self._effects:
            self._effects[ordered] = max(1.0, _effect([_up_to(one) if ordered else one for one in self.windows],
                                                      [sum(one) for one in self.windows]))
        return self._effects[ordered]

    def apart(self, index: Callable[[Sequence[float], Sequence[float]], float]) -> float:
        """Largest index of one window against all of them, always the same index; 0 where only chance parts them."""
        if self._apart is None:
            total = self.total()
            waves = max(self.effect(ordered=True), self.effect(ordered=False)) >= WAVES
            self._apart = max((index(total, one) for one in self.windows), default=0.0) if waves else 0.0
        return self._apart


def _effect(windows: Sequence[Sequence[float]], rows: Sequence[float]) -> float:
    """Variance of shares between windows, as a multiple of what independent rows have."""
    if len(windows) < 3:
        return 1.0
    whole = sum(rows)
    between, within = 0.0, 0.0
    for counts in zip(*windows, strict=True):
        share = sum(counts) / whole
        within += share * (1 - share)
        between += sum((count - share * n) ** 2 / n for count, n in zip(counts, rows, strict=True) if n)
    return between / (len(windows) - 1) / within if within > 0 else 1.0


def _up_to(counts: Sequence[float]) -> list[float]:
    found, total = [], 0.0
    for count in counts[:-1]:
        total += count
        found.append(total)
    return found


def _sum(rows: Iterable[Sequence[float]]) -> list[float]:
    return [sum(counts) for counts in zip(*rows, strict=True)]
