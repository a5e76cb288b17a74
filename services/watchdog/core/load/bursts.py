"""How often something happens lately, against a limit: restarts, failures, dead letters."""

from collections import deque
from dataclasses import dataclass, field

# A window is counted in so many parts; memory does not grow with what is counted.
PARTS = 12


@dataclass(slots=True)
class Burst:
    """`limit` or more within `window_s` stands, until fewer than half of it are left in the window."""

    limit: int
    window_s: float
    standing: bool = False
    last: str = ""
    _parts: deque[tuple[int, int]] = field(default_factory=deque)
    _total: int = 0

    def add(self, count: int, now: float, what: str = "") -> None:
        if count <= 0:
            return
        part = int(now * PARTS / self.window_s)
        if self._parts and self._parts[-1][0] == part:
            self._parts[-1] = (part, self._parts[-1][1] + count)
        else:
            self._parts.append((part, count))
        self._total += count
        self.last = what or self.last
        self.look(now)

    def look(self, now: float) -> bool:
        """Whether it stands at `now`."""
        oldest = int(now * PARTS / self.window_s) - PARTS
        while self._parts and self._parts[0][0] <= oldest:
            self._total -= self._parts.popleft()[1]
        if self._total >= self.limit:
            self.standing = True
        elif 2 * self._total < self.limit:
            self.standing = False
        return self.standing

    @property
    def count(self) -> int:
        return self._total
