"""Whether labels ceased to come although the events they are of do not.

How many labels are expected follows from how many are usual and from how many rows come. Fewer than `low` of that are a
symptom once they have been for longer than labels are usually away, and half as long again as they are late: so labels
of events that stopped may follow once these are back, and labels that come once a week, or never, are nobody's fault.
"""

from collections import deque
from dataclasses import dataclass, field
from math import exp, inf

from services.watchdog.core.summaries.counts import Labelled
from services.watchdog.core.thresholds.limits import VolumeRule

# Fewer than so many expected labels say nothing when they do not come.
FEWEST = 20.0
PARTS = 12
CLEAR = 0.8
# More labels than so many for each row are of events of long ago, and end with these.
BACKLOG = 2.0
# So much longer than usual they must be away.
LONGER = 1.5
# The newest labelled predictions, of which nine in ten are not later; of fewer it is not known how late labels come.
LATE_ROWS, LATE_FEWEST, LATE_SHARE = 200, 20, 0.9
# So long it is waited for labels of which nobody knows how late they come.
UNKNOWN_S = 86_400.0
# Of the newest times without labels as many may be longer than what counts as usual: these may have been faults.
SPELLS, FAULTS = 20, 4


@dataclass(slots=True)
class Recent:
    """What came in the last `over_s`, in parts."""

    parts: deque[tuple[int, float]] = field(default_factory=deque)

    def add(self, count: float, at: float, over_s: float) -> None:
        part = int(at * PARTS / over_s)
        if self.parts and self.parts[-1][0] >= part:
            self.parts[-1] = (self.parts[-1][0], self.parts[-1][1] + count)
        elif count:
            self.parts.append((part, count))
            self._forget(part - PARTS)

    def total(self, now: float, over_s: float) -> float:
        self._forget(int(now * PARTS / over_s) - PARTS)
        return sum(count for _, count in self.parts)

    def _forget(self, oldest: int) -> None:
        while self.parts and self.parts[0][0] <= oldest:
            self.parts.popleft()


@dataclass(slots=True)
class LabelFlow:
    """One pipeline's. Usual numbers follow with ten times `learn_s` while labels come as expected, and only then."""

    rows: Recent = field(default_factory=Recent)
    labels: Recent = field(default_factory=Recent)
    usual_rows: float = 0.0
    usual: float = 0.0
    """Labels in `over_s`."""
    well_s: float = 0.0
    """For how long labels were seen to come as expected."""
    began_at: float | None = None
    looked_at: float = 0.0
    low_since: float | None = None
    standing: str = ""
    """What is told while they do not come."""
    _late: deque[float] = field(default_factory=lambda: deque(maxlen=LATE_ROWS))
    _spells: deque[float] = field(default_factory=lambda: deque(maxlen=SPELLS))
    """How long the newest times without labels took that came to an end."""

    def accepted(self, rows: float, at: float, rule: VolumeRule) -> None:
        self.rows.add(rows, at, rule.over_s)

    def labelled(self, seen: Labelled, now: float, rule: VolumeRule) -> None:
        if self.began_at is None:
            self.began_at = now
        self.labels.add(seen.count, now, rule.over_s)
        if seen.with_event:
            self._late.append(0.0)

    def late(self, late_s: float) -> None:
        """A label met a prediction that was made so long before."""
        self._late.append(late_s)

    def look(self, now: float, rule: VolumeRule) -> str:
        """What stands at `now`."""
        passed_s = now - self.looked_at
        if self.began_at is None or now - self.began_at < rule.over_s or passed_s < rule.over_s / PARTS:
            return self.standing
        self.looked_at = now
        came, rows = self.labels.total(now, rule.over_s), self.rows.total(now, rule.over_s)
        if not self.usual or not self.usual_rows:
            self.usual, self.usual_rows = came, rows
            return self.standing
        expected = self.usual * min(1.0, rows / self.usual_rows)
        if not came or came * (CLEAR if self.standing else 1.0) < rule.low * expected:
            self._away(came, expected, now, rule)
            # What came first may have been a backlog: nobody knows yet what is usual.
            learns = self.well_s < rule.learn_s
        else:
            self._back(now)
            learns = True
        if learns and came and rows:
            self._learn(came, rows, min(passed_s, rule.over_s), rule)
        return self.standing

    @property
    def late_s(self) -> float:
        """How late labels usually come."""
        if len(self._late) < LATE_FEWEST:
            return inf
        return sorted(self._late)[int(LATE_SHARE * (len(self._late) - 1))]

    def _away(self, came: float, expected: float, now: float, rule: VolumeRule) -> None:
        if self.standing:
            return
        if expected < FEWEST:
            # Events stopped too.
            self.low_since = None
            return
        if self.low_since is None:
            self.low_since = now
        if (self.well_s < rule.learn_s or self.usual > BACKLOG * self.usual_rows
                or now - self.low_since < LONGER * self._usually_away()):
            return
        self.standing = f"{came:.0f} labels in {rule.over_s:.0f} s where {expected:.0f} are expected of the rows"

    def _usually_away(self) -> float:
        """The longest time without labels that came more often than faults do; no shorter than they are late."""
        spells = sorted(self._spells)
        late_s = self.late_s
        return max(spells[-1 - FAULTS] if len(spells) > FAULTS else 0.0, UNKNOWN_S if late_s == inf else late_s)

    def _back(self, now: float) -> None:
        if self.low_since is not None:
            self._spells.append(now - self.low_since)
        self.low_since, self.standing = None, ""

    def _learn(self, came: float, rows: float, passed_s: float, rule: VolumeRule) -> None:
        """In the beginning it follows faster, as a mean of what came so far does."""
        self.well_s += passed_s
        weight = 1 - exp(-passed_s / max(rule.over_s, min(10 * rule.learn_s, self.well_s)))
        self.usual += weight * (came - self.usual)
        self.usual_rows += weight * (rows - self.usual_rows)
