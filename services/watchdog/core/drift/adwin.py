"""Whether the mean of a stream changed at some time, found at whatever pace it did."""

import math
from collections import deque
from dataclasses import dataclass, field

# Buckets of one size before the two oldest are merged; more cut more exactly and cost more.
BUCKETS = 5
MAX_SIZES = 16
MIN_SIDE = 5


@dataclass(slots=True)
class Adwin:
    """Adaptive windowing (Bifet and Gavalda, SDM 2007), with the bound of its implementation that uses the variance.

    Keeps a logarithmic number of buckets of a window that grows while the mean stays, and drops its oldest part when
    two parts of it differ by more than chance allows at `delta`.
    """

    delta: float = 0.002
    width: float = 1.0
    """Of the interval that values lie in. 0 for means of many rows, of which the normal law is bound enough."""
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    _sizes: list[deque[tuple[float, float]]] = field(default_factory=lambda: [deque()])
    """By power of two, newest first: (sum, sum of squares) of each bucket, oldest on the right."""

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def see(self, value: float) -> bool:
        """Whether the window was cut: the mean is another than before."""
        self._sizes[0].appendleft((value, value * value))
        self.count += 1
        self.total += value
        self.squares += value * value
        self._merge()
        cut = False
        while self._cuts():
            self._drop_oldest()
            cut = True
        return cut

    def _merge(self) -> None:
        for power, row in enumerate(self._sizes):
            if len(row) <= BUCKETS:
                return
            if power + 1 == len(self._sizes):
                if power + 1 >= MAX_SIZES:
                    self._drop_oldest()
                    return
                self._sizes.append(deque())
            (one, one_squares), (other, other_squares) = row.pop(), row.pop()
            self._sizes[power + 1].appendleft((one + other, one_squares + other_squares))

    def _cuts(self) -> bool:
        if self.count < 2 * MIN_SIDE:
            return False
        variance = max(0.0, self.squares / self.count - self.mean ** 2)
        # The confidence is shared among the cuts that are tried.
        chance = math.log(2 * math.log(self.count) / self.delta)
        old, old_sum = 0, 0.0
        for power in range(len(self._sizes) - 1, -1, -1):
            for bucket, _ in reversed(self._sizes[power]):
                old += 1 << power
                old_sum += bucket
                new = self.count - old
                if old < MIN_SIDE:
                    continue
                if new < MIN_SIDE:
                    return False
                apart = abs(old_sum / old - (self.total - old_sum) / new)
                inverse = 1 / (old - MIN_SIDE + 1) + 1 / (new - MIN_SIDE + 1)
                if apart > math.sqrt(2 * inverse * variance * chance) + 2 / 3 * self.width * inverse * chance:
                    return True
        return False

    def _drop_oldest(self) -> None:
        power = max(power for power, row in enumerate(self._sizes) if row)
        bucket, squares = self._sizes[power].pop()
        self.count -= 1 << power
        self.total -= bucket
        self.squares -= squares
        while len(self._sizes) > 1 and not self._sizes[-1]:
            self._sizes.pop()
