"""How many rows come, against what is usual: a surge, or a source that dried up."""

import math
from collections import deque
from dataclasses import dataclass, field

from services.watchdog.core.thresholds.limits import VolumeRule

# A pipeline of fewer rows than this within `over_s` is too quiet to say anything of.
FEWEST = 20.0
PARTS = 12
CLEAR = 0.8


@dataclass(slots=True)
class Volume:
    """Rows of the last `over_s`, in parts; the usual number follows with ten times `learn_s`, never during a fault."""

    parts: deque[tuple[int, float]] = field(default_factory=deque)
    usual: float | None = None
    began_at: float | None = None
    learnt_at: float = 0.0
    standing: str = ""
    """`surge` or `no_rows` while it is one."""

    def see(self, rows: float, at: float, rule: VolumeRule) -> None:
        if rows <= 0:
            return
        if self.began_at is None:
            self.began_at = self.learnt_at = at
        part = int(at * PARTS / rule.over_s)
        if self.parts and self.parts[-1][0] >= part:
            self.parts[-1] = (self.parts[-1][0], self.parts[-1][1] + rows)
        else:
            self.parts.append((part, rows))

    def look(self, now: float, rule: VolumeRule) -> str:
        """What stands at `now`."""
        oldest = int(now * PARTS / rule.over_s) - PARTS
        while self.parts and self.parts[0][0] <= oldest:
            self.parts.popleft()
        if self.began_at is None or now - self.began_at < rule.over_s:
            return ""
        rows = self.rows
        if self.usual is None:
            if now - self.began_at >= rule.over_s:
                self.usual, self.learnt_at = rows, now
            return ""
        if now - self.began_at >= rule.learn_s:
            self._judge(rows, self.usual, rule)
        if not self.standing:
            weight = 1 - math.exp(-(now - self.learnt_at) / self._time_s(now, rule))
            self.usual += weight * (rows - self.usual)
        self.learnt_at = now
        return self.standing

    @property
    def rows(self) -> float:
        return sum(rows for _, rows in self.parts)

    def _time_s(self, now: float, rule: VolumeRule) -> float:
        """In the beginning it follows faster, as a mean of what came so far does."""
        since = now - (self.began_at or now)
        return max(rule.over_s, min(10 * rule.learn_s, since))

    def _judge(self, rows: float, usual: float, rule: VolumeRule) -> None:
        if self.standing == "surge":
            self.standing = "surge" if rows > CLEAR * rule.high * usual else ""
        elif self.standing == "no_rows":
            self.standing = "no_rows" if rows * CLEAR < rule.low * usual or not rows else ""
        elif rows >= FEWEST and rows > rule.high * usual:
            self.standing = "surge"
        elif usual >= FEWEST and rows < rule.low * usual:
            self.standing = "no_rows"
