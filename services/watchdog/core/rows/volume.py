"""How many rows come, against what is usual: a surge, or a source that dried up.

After a restart some minutes of summaries are read back, in several goes; each teaches what was usual at its own time,
as if it had come then, and nothing is judged before they reach to the present, or so long after the first of them that
no more will: where no rows come, no summaries do.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from services.watchdog.core.thresholds.limits import VolumeRule

# A pipeline of fewer rows than this within `over_s` is too quiet to say anything of.
FEWEST = 20.0
PARTS = 12
CLEAR = 0.8
# A summary no older than so many parts, or seconds, when it comes is of the present.
PRESENT_PARTS, PRESENT_S = 2, 5.0


@dataclass(slots=True)
class Volume:
    """Rows of the last `over_s`, in parts; the usual number follows with ten times `learn_s`, never during a fault."""

    parts: deque[tuple[int, float]] = field(default_factory=deque)
    usual: float | None = None
    began_at: float | None = None
    learnt_at: float = 0.0
    standing: str = ""
    """`surge` or `no_rows` while it is one."""
    _stands_since: float = 0.0
    _heard_at: float | None = None
    """When the first summary came, of whatever time it was."""
    _newest_at: float = 0.0
    _present: bool = False
    """Whether summaries have reached to the present."""

    def see(self, rows: float, at: float, now: float, rule: VolumeRule) -> None:
        """Rows of a summary of `at` that came `now`."""
        self._heard_at = now if self._heard_at is None else self._heard_at
        # One that is late always is no reason to wait for ever.
        self._present = (self._present or now - self._heard_at >= rule.over_s
                         or now - at <= max(PRESENT_S, PRESENT_PARTS * rule.over_s / PARTS))
        if rows <= 0:
            return
        if self.began_at is None:
            self._begin(at)
        elif at - self.learnt_at > rule.over_s / PARTS:
            # Nobody looked meanwhile.
            self._catch_up(at, rule)
        self._newest_at = max(self._newest_at, at)
        part = int(at * PARTS / rule.over_s)
        if not self.parts or self.parts[-1][0] < part:
            self.parts.append((part, rows))
        elif part > self.parts[-1][0] - PARTS:
            self.parts[-1] = (self.parts[-1][0], self.parts[-1][1] + rows)

    def look(self, now: float, rule: VolumeRule) -> str:
        """What stands at `now`."""
        self._present = self._present or (self._heard_at is not None and now - self._heard_at >= rule.over_s)
        return self._pass(now, rule) if self._present else ""

    @property
    def known(self) -> bool:
        """Whether what comes now is held to what is usual: where nothing stands, nothing does."""
        return self._present and self.usual is not None

    @property
    def rows(self) -> float:
        return sum(rows for _, rows in self.parts)

    def _begin(self, at: float) -> None:
        self.usual, self.standing = None, ""
        self.began_at = self.learnt_at = at

    def _catch_up(self, at: float, rule: VolumeRule) -> None:
        if at - self._newest_at < rule.over_s:
            self._pass(at, rule)
        else:
            # Nobody saw how they ceased and came again: what they are now is not to be held to what they were.
            self.parts.clear()
            self._begin(at)

    def _pass(self, now: float, rule: VolumeRule) -> str:
        oldest = int(now * PARTS / rule.over_s) - PARTS
        while self.parts and self.parts[0][0] <= oldest:
            self.parts.popleft()
        if self.began_at is None or now - self.began_at < rule.over_s:
            return ""
        rows = self.rows
        if self.usual is None:
            self.usual, self.learnt_at = rows, now
            return ""
        if now - self.began_at >= rule.learn_s:
            before = self.standing
            self._judge(rows, self.usual, now, rule)
            if self.standing != before:
                self._stands_since = now
        if not self.standing:
            weight = 1 - math.exp(-(now - self.learnt_at) / self._time_s(now, rule))
            self.usual += weight * (rows - self.usual)
        self.learnt_at = now
        return self.standing

    def _time_s(self, now: float, rule: VolumeRule) -> float:
        """In the beginning it follows faster, as a mean of what came so far does."""
        since = now - (self.began_at or now)
        return max(rule.over_s, min(10 * rule.learn_s, since))

    def _judge(self, rows: float, usual: float, now: float, rule: VolumeRule) -> None:
        if self.standing == "surge" and usual < FEWEST and now - self._stands_since >= rule.learn_s:
            # There is no multiple of hardly any rows: what came for so long is how it is.
            self._begin(now)
            self.usual = rows
        elif self.standing == "surge":
            self.standing = "surge" if rows > CLEAR * rule.high * usual else ""
        elif self.standing == "no_rows":
            self.standing = "no_rows" if rows * CLEAR < rule.low * usual or not rows else ""
        elif rows >= FEWEST and rows > rule.high * usual:
            self.standing = "surge"
        elif usual >= FEWEST and rows < rule.low * usual:
            self.standing = "no_rows"
