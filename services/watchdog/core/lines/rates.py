"""How often each pattern of warnings and errors comes in a process, and when that is more than chance.

What is usual is learnt in minutes: their mean and spread, which follow slowly. The test is one-sided: Chernoff's bound
on the chance that a negative binomial count with that mean and spread is as high as this one; a pattern that comes in
bursts has a wide spread, and only a burst far beyond its others is found.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from services.watchdog.core.inputs import Lines
from services.watchdog.core.load.usage import REFUSED
from services.watchdog.core.symptom import ERRORS, Symptom
from services.watchdog.core.thresholds.limits import Limits

WINDOW_S: Final = 60.0
PARTS: Final = 12
LN_CHANCE: Final = math.log(1e-9)
"""Every pattern is tested many times a minute, for as long as the platform lives."""
TIMES_USUAL: Final = 3.0
"""Less than so many times the usual number is no fault, however surely it is more."""
FOLLOW: Final = 1 / 60
"""Weight of the newest minute in what is usual: about an hour counts, in the first hour all of it alike."""
MOST_EMPTY: Final = 300
"""After so many empty minutes nothing is left of what was usual before."""
ADOPT_S: Final = 3_600.0
"""What stands for so long is how it is now; a person was told of it."""
HOLD_S: Final = 10.0
"""It must last so long: a process that died is missed by others before its silence shows."""
SETTLE_S: Final = 30.0
"""Others log that they miss a process that is away, and go on for a while."""
MAX_PATTERNS: Final = 200
"""Of one process; past that the one that came longest ago is forgotten."""
SHOWN: Final = 3


@dataclass(slots=True)
class Usual:
    """Mean and variance of a count in a window; both follow slowly."""

    windows: int = 0
    """That were learnt from; those before it first came were empty."""
    mean: float = 0.0
    variance: float = 0.0

    def learn(self, count: int, windows: int) -> None:
        """From one window with `count`, after which `windows` - 1 were empty."""
        self._learn(count)
        for _ in range(min(windows - 1, MOST_EMPTY)):
            self._learn(0)

    def _learn(self, count: int) -> None:
        self.windows += 1
        weight, off = max(FOLLOW, 1 / self.windows), count - self.mean
        self.variance = (1 - weight) * (self.variance + weight * off * off)
        self.mean += weight * off

    def surprising(self, count: int) -> bool:
        """Whether a window may hold so many by chance less often than once in a billion."""
        # What was never seen is not impossible: about one in ten windows may hold one.
        mean = max(self.mean, 0.1)
        if count <= TIMES_USUAL * mean:
            return False
        spread = mean * mean / max(self.variance - mean, 1e-3 * mean)
        bound = (count + spread) * math.log((count + spread) / (mean + spread)) - count * math.log(count / mean)
        return bound < LN_CHANCE


@dataclass(slots=True)
class Pattern:
    """One pattern of one process: the last minute in parts, and what is usual."""

    usual: Usual
    seen_at: float = 0.0
    level: str = ""
    trace_id: str = ""
    standing_since: float | None = None
    _unusual_since: float | None = None
    _parts: deque[tuple[int, int]] = field(default_factory=deque)
    _total: int = 0
    _minute: int = -1
    _in_minute: int = 0

    def add(self, count: int, now: float) -> None:
        self.seen_at = now
        part = int(now * PARTS / WINDOW_S)
        if self._parts and self._parts[-1][0] == part:
            self._parts[-1] = (part, self._parts[-1][1] + count)
        else:
            self._parts.append((part, count))
        self._total += count
        self._roll(now)
        self._in_minute += count

    def look(self, now: float, limits: Limits, known: bool) -> bool:
        """Whether it comes more often than is usual. `known`: its process was listened to for long enough."""
        self._roll(now)
        oldest = int(now * PARTS / WINDOW_S) - PARTS
        while self._parts and self._parts[0][0] <= oldest:
            self._total -= self._parts.popleft()[1]
        if self.standing_since is None:
            if not known or self._total < limits.errors or not self.usual.surprising(self._total):
                self._unusual_since = None
            elif self._unusual_since is None:
                self._unusual_since = now
            elif now - self._unusual_since >= HOLD_S:
                self.standing_since = now
        elif 2 * self._total < limits.errors or not self.usual.surprising(2 * self._total):
            self.standing_since = None
        return self.standing_since is not None

    def forgive(self, now: float) -> None:
        """Leave out what came lately: something else accounts for it."""
        self._parts.clear()
        self._unusual_since = None
        self._total, self._in_minute, self._minute = 0, 0, int(now / WINDOW_S)

    @property
    def count(self) -> int:
        return self._total

    def _roll(self, now: float) -> None:
        minute = int(now / WINDOW_S)
        if self._minute < 0:
            self._minute = minute
        if minute == self._minute:
            return
        if self.standing_since is None or now - self.standing_since > ADOPT_S:
            self.usual.learn(self._in_minute, minute - self._minute)
        self._minute, self._in_minute = minute, 0


@dataclass(slots=True)
class Rates:
    """Patterns by process. Nothing counts while something is away that others may complain of."""

    limits: Limits
    _patterns: dict[str, dict[str, Pattern]] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)
    """By process, from when on it was listened to in peace."""
    _unsettled_at: float = float("-inf")
    _hot: dict[tuple[str, str], Pattern] = field(default_factory=dict)
    """Those that came in the last window, or stand: a tick looks at no other."""

    def see(self, one: Lines, now: float) -> None:
        settled = now - self._unsettled_at >= SETTLE_S
        heard_s = now - self._since.setdefault(one.instance, now)
        patterns = self._patterns.setdefault(one.instance, {})
        for name, level, count, trace_id in one.patterns:
            # Refused records are dead letters, which have a symptom and a limit of their own.
            if name in REFUSED:
                continue
            pattern = patterns.pop(name, None) or Pattern(Usual(int(heard_s / WINDOW_S)))
            # Put behind all others: the first is the one that came longest ago.
            patterns[name] = pattern
            pattern.level, pattern.trace_id = level, trace_id or pattern.trace_id
            if settled or pattern.standing_since is not None:
                pattern.add(count, now)
                self._hot[(one.instance, name)] = pattern
        while len(patterns) > MAX_PATTERNS:
            oldest = next(iter(patterns))
            del patterns[oldest]
            self._hot.pop((one.instance, oldest), None)

    def heard(self, instance: str, now: float) -> None:
        """It works: also a process that logs nothing is being learnt."""
        self._since.setdefault(instance, now)

    def look(self, now: float, calm: bool) -> None:
        """`calm`: the bus carries, nobody is silent or starting. What stands goes on standing meanwhile."""
        if calm:
            return
        self._unsettled_at = now
        for key, pattern in list(self._hot.items()):
            if pattern.standing_since is None:
                pattern.forgive(now)
                del self._hot[key]

    def gone(self, instance: str) -> None:
        for name in self._patterns.pop(instance, {}):
            self._hot.pop((instance, name), None)
        self._since.pop(instance, None)

    def symptoms(self, now: float) -> Iterator[Symptom]:
        """One of each process, of all its patterns that are not usual."""
        found: dict[str, list[tuple[int, str, Pattern]]] = {}
        for (instance, name), pattern in list(self._hot.items()):
            known = now - self._since.get(instance, now) >= self.limits.errors_learn_s
            if pattern.look(now, self.limits, known):
                found.setdefault(instance, []).append((pattern.count, name, pattern))
            elif not pattern.count:
                del self._hot[(instance, name)]
        for instance, patterns in sorted(found.items()):
            patterns.sort(key=lambda one: (-one[0], one[1]))
            told = "; ".join(_told(count, name, pattern) for count, name, pattern in patterns[:SHOWN])
            more = f"; {len(patterns) - SHOWN} more" if len(patterns) > SHOWN else ""
            yield Symptom(ERRORS, instance, told + more)


def _told(count: int, name: str, pattern: Pattern) -> str:
    trace = f", as in trace {pattern.trace_id}" if pattern.trace_id else ""
    usual = f"usually {pattern.usual.mean:.1f}" if pattern.usual.mean >= 0.05 else "usually none"
    return f"{count} {pattern.level} lines {name!r} in {WINDOW_S:.0f} s, {usual}{trace}"
