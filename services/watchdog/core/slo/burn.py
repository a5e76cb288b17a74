"""How fast the error budget of an objective burns, over a long and a short time together."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

# Rate, and the long and short time it must hold in, in seconds: 2 % of a month's budget in an hour, 5 % in six, 10 % in
# three days (Beyer et al., The Site Reliability Workbook, O'Reilly 2018, chapter 5, table 5-8).
BURNS: Final = ((14.4, 3_600.0, 300.0), (6.0, 21_600.0, 1_800.0), (1.0, 259_200.0, 21_600.0))
FEWEST_BAD: Final = 10
"""Of so few bad requests nothing follows, however few the good ones are."""
PARTS: Final = 30
NOW_S: Final = 300.0
CLEAR: Final = 0.5
"""Below this part of the budget over NOW_S it burns no more, whatever longer times still remember."""


@dataclass(slots=True)
class Span:
    """Good and bad of the last `window_s`, in parts; memory does not grow with what is counted."""

    window_s: float
    good: float = 0.0
    bad: float = 0.0
    _parts: deque[tuple[int, float, float]] = field(default_factory=deque)

    def add(self, good: float, bad: float, now: float) -> None:
        part = int(now * PARTS / self.window_s)
        if self._parts and self._parts[-1][0] == part:
            _, before, before_bad = self._parts[-1]
            self._parts[-1] = (part, before + good, before_bad + bad)
        else:
            self._parts.append((part, good, bad))
        self.good += good
        self.bad += bad

    def look(self, now: float) -> None:
        oldest = int(now * PARTS / self.window_s) - PARTS
        while self._parts and self._parts[0][0] <= oldest:
            _, good, bad = self._parts.popleft()
            self.good -= good
            self.bad -= bad

    @property
    def share(self) -> float:
        """Of the requests, how many were bad."""
        total = self.good + self.bad
        return self.bad / total if total > 0 else 0.0


@dataclass(slots=True)
class Burning:
    """One objective: at least `objective` of all requests are good. It stands while any pair of times burns too fast.

    The long time says that it matters, the short one that it is lately so; the last five minutes must show it too, and
    end it: what is healed is well, though its hours still remember.
    """

    objective: float
    standing: str = ""
    """What burns, in words; empty while nothing does."""
    _pairs: list[tuple[float, Span, Span]] = field(default_factory=list)
    _now: Span = field(default_factory=lambda: Span(NOW_S))

    def __post_init__(self) -> None:
        self._pairs = [(rate, Span(long_s), Span(short_s)) for rate, long_s, short_s in BURNS]

    def add(self, good: float, bad: float, now: float) -> None:
        self._now.add(good, bad, now)
        for _, long, short in self._pairs:
            long.add(good, bad, now)
            short.add(good, bad, now)

    def look(self, now: float) -> str:
        """What stands at `now`."""
        budget = 1 - self.objective
        self._now.look(now)
        still = self._now.share >= (CLEAR if self.standing else 1) * budget
        told = self.standing if still else ""
        for rate, long, short in self._pairs:
            long.look(now)
            short.look(now)
            # A share cannot pass one: of a budget of a tenth, ten times is everything.
            limit = min(rate * budget, (1 + budget) / 2)
            if still and not told and long.bad >= FEWEST_BAD and long.share >= limit and short.share >= limit:
                told = (f"{long.share:.2%} of {long.good + long.bad:.0f} requests, {long.share / budget:.1f} "
                        f"times what {self.objective:.3%} allows")
        self.standing = told
        return told
