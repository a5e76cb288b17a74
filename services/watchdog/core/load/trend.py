"""Whether a series rises by more than chance, how fast, and when it will be at its limit."""

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

# One-sided normal quantile of a chance of one in ten thousand: every process and partition is tested, again and again.
Z_RISING = 3.72
MIN_POINTS = 20


@dataclass(slots=True)
class Trend:
    """Points at least `step_s` apart, the newest `size` of them.

    The test is Mann's (Econometrica 1945) with Kendall's variance (Rank Correlation Methods, 1975), the slope Sen's
    (JASA 1968): both look at signs and medians, so neither a spike nor a restart's step makes a trend. Equal values
    are not corrected for, which only makes the test more careful. The score is kept up to date by the point that comes
    and the one that goes.
    """

    step_s: float
    size: int = 60
    _points: deque[tuple[float, float]] = field(default_factory=deque)
    _score: int = 0

    def see(self, value: float, now: float) -> bool:
        """Whether it was taken as a point."""
        if self._points and now - self._points[-1][0] < self.step_s:
            return False
        if len(self._points) == self.size:
            _, oldest = self._points.popleft()
            self._score -= sum(_sign(later - oldest) for _, later in self._points)
        self._score += sum(_sign(value - earlier) for _, earlier in self._points)
        self._points.append((now, value))
        return True

    def clear(self) -> None:
        """A new process begins from nothing: what the one before it had says nothing of it."""
        self._points.clear()
        self._score = 0

    @property
    def rising(self) -> bool:
        n = len(self._points)
        if n < MIN_POINTS:
            return False
        spread = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
        return (self._score - 1) / spread > Z_RISING

    @property
    def per_s(self) -> float:
        """Median slope of all pairs of points; 0 of fewer than two."""
        return _slope(list(self._points))

    def goes_on_to(self, limit: float) -> float:
        """As `reaches_in_s`, by the slower of its slope and that of its newest third: a step's other side is flat."""
        points = list(self._points)
        if not self.rising:
            return math.inf
        slope = min(_slope(points), _slope(points[-(len(points) // 3):]))
        return max(0.0, (limit - points[-1][1]) / slope) if slope > 0 else math.inf

    def reaches_in_s(self, limit: float) -> float:
        """Seconds until the limit at this slope, from the newest point; infinite unless it rises."""
        if not self.rising:
            return math.inf
        slope, newest = self.per_s, self._points[-1][1]
        return max(0.0, (limit - newest) / slope) if slope > 0 else math.inf


def _slope(points: list[tuple[float, float]]) -> float:
    slopes = [(later - earlier) / (then - at) for place, (at, earlier) in enumerate(points)
              for then, later in points[place + 1:]]
    return statistics.median(slopes) if slopes else 0.0


def _sign(apart: float) -> int:
    return (apart > 0) - (apart < 0)
