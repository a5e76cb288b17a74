"""Whether a young champion takes far longer to answer than the version before it did.

It does when of its newest answers nine of ten took longer than four times what 95 % of the answers of the version
before took no longer than, and than 50 ms, for three seconds. Where a Pipeline promises its callers a time, that alone
says what is slow. So many must be slow because a busy machine makes some answers slow, and a slow version all of them:
were both versions alike, one answer in twenty would be, and nine of ten by chance at one look in 5 x 10^10 (binomial).
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from lepton.contracts.modelling.watching import LATENCIES_MS
from services.watchdog.core.inputs import ModelSeen, Requests, Rules
from services.watchdog.core.symptom import SLOW_MODEL, Symptom

NEWEST: Final = 10
"""Fewer answers say nothing of a version."""
REMEMBERED: Final = 200
USUAL: Final = 0.95
TIMES: Final = 4.0
LEAST_MS: Final = 50.0
"""What takes no longer is not slow, however fast the version before was."""
SLOW: Final = 0.9
WELL: Final = 0.5
"""A smaller share of slow answers ends it."""
FOR_S: Final = 3.0
SETTLE_S: Final = 2.0
"""So long after a promotion predictors may still answer with the version before."""

Lengths = tuple[tuple[float, int], ...]
"""(up to so many ms, how many answers)."""


@dataclass(slots=True)
class Newest:
    """Lengths of a version's newest answers, by whole heartbeats: within one nobody knows their order."""

    total: int = 0
    _told: deque[tuple[int, Lengths]] = field(default_factory=deque)

    def add(self, times: Lengths) -> None:
        count = sum(number for _, number in times)
        if count:
            self._told.append((count, times))
            self.total += count
        while self._told and self.total - self._told[0][0] >= REMEMBERED:
            self.total -= self._told.popleft()[0]

    def slower(self, than_ms: float) -> tuple[int, int]:
        """Of the newest answers, NEWEST or a few more: how many took longer, and how many there are."""
        slow = seen = 0
        for count, times in reversed(self._told):
            seen += count
            slow += sum(number for up_to_ms, number in times if up_to_ms > than_ms)
            if seen >= NEWEST:
                break
        return slow, seen

    def usual_ms(self) -> float | None:
        """What USUAL of all that are remembered took no longer than; None of too few."""
        if self.total < NEWEST:
            return None
        lengths = sorted(one for _, times in self._told for one in times)
        counted = accumulate(number for _, number in lengths)
        return next(up_to_ms for (up_to_ms, _), so_far in zip(lengths, counted, strict=True)
                    if so_far >= USUAL * self.total)


@dataclass(slots=True)
class Speed:
    """One model's. `before_ms`: the usual length of the version before, while the present one is young."""

    since: float
    newest: Newest = field(default_factory=Newest)
    before_ms: float | None = None
    slow_since: float | None = None
    standing: bool = False

    def see(self, times: Lengths, now: float) -> None:
        if now - self.since >= SETTLE_S:
            self.newest.add(times)

    def succeeded(self, now: float) -> None:
        """Another version answers. Of two that came soon one after the other, it is held to the faster one."""
        known = [one for one in (self.newest.usual_ms(), self.before_ms) if one is not None]
        self.before_ms = min(known, default=None)
        self.newest, self.since, self.slow_since, self.standing = Newest(), now, None, False

    def look(self, now: float, young_s: float) -> None:
        if self.before_ms is None:
            return
        if now - self.since > young_s and not self.standing:
            self.before_ms = self.slow_since = None
            return
        slow, seen = self.newest.slower(self.limit_ms)
        share = slow / seen if seen >= NEWEST else 0.0
        if share < (WELL if self.standing else SLOW):
            self.slow_since, self.standing = None, False
            return
        self.slow_since = now if self.slow_since is None else self.slow_since
        self.standing = now - self.slow_since >= FOR_S

    @property
    def limit_ms(self) -> float:
        """The least length that is counted by and is beyond what the version before makes one expect."""
        place = bisect_left(LATENCIES_MS, TIMES * (self.before_ms or 0.0))
        return max(LEAST_MS, LATENCIES_MS[place] if place < len(LATENCIES_MS) else float("inf"))

    @property
    def known(self) -> bool:
        """Whether enough was answered to say how fast the version is."""
        return self.newest.total >= NEWEST

    def text(self) -> str:
        slow, seen = self.newest.slower(self.limit_ms)
        return (f"{slow} of its newest {seen} answers took longer than {self.limit_ms:g} ms; "
                f"of the version before {USUAL:.0%} took no longer than {self.before_ms:g}")


@dataclass(slots=True)
class Speeds:
    """Those of all models."""

    by_model: dict[str, Speed] = field(default_factory=dict)
    _promised: set[str] = field(default_factory=set)

    def rule(self, rules: Rules) -> None:
        self._promised.discard(rules.pipeline)
        if rules.deleted:
            self.by_model.pop(rules.pipeline, None)
        elif rules.slo is not None and rules.slo.latency_ms is not None:
            self._promised.add(rules.pipeline)

    def crowned(self, model: str, now: float, *, another: bool) -> None:
        """A model has a champion; `another`: it had one before."""
        if another and model in self.by_model:
            self.by_model[model].succeeded(now)
        else:
            self.by_model[model] = Speed(now)

    def see(self, seen: Requests, now: float) -> None:
        speed = self.by_model.get(seen.model)
        if speed is not None:
            speed.see(seen.times, now)

    def look(self, now: float, young_s: float) -> None:
        for speed in self.by_model.values():
            speed.look(now, young_s)

    def symptoms(self, models: Mapping[str, ModelSeen]) -> Iterator[Symptom]:
        for name, speed in sorted(self.by_model.items()):
            if speed.standing and name in models and name not in self._promised:
                version = models[name].champion
                yield Symptom(SLOW_MODEL, name, f"version {version}: {speed.text()}", name, version=version)
