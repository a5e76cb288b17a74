"""Which models have more asked of them than is answered: the share of their requests that found no room."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from services.watchdog.core.inputs import Requests
from services.watchdog.core.load.bursts import Burst
from services.watchdog.core.load.sustained import Sustained
from services.watchdog.core.symptom import OVERLOAD, Symptom
from services.watchdog.core.thresholds.limits import Limits

# Heartbeats bring the native door's counts once a second and the other's twice: one alone says little.
SHARE_S: Final = 3.0
# Of fewer requests no share is taken.
FEWEST: Final = 20


@dataclass(slots=True)
class _Asked:
    """One model's requests of the last SHARE_S. Well again after as long below the limit as it takes to be at it."""

    level: Sustained
    all: Burst = field(default_factory=lambda: Burst(1, SHARE_S))
    refused: Burst = field(default_factory=lambda: Burst(1, SHARE_S))

    def look(self, now: float) -> bool:
        """Whether anything was asked at all, or is still judged."""
        self.all.look(now)
        self.refused.look(now)
        share = self.refused.count / self.all.count if self.all.count >= FEWEST else 0.0
        self.level.see(share, now)
        return self.all.count > 0 or self.level.standing


@dataclass(slots=True)
class Refusals:
    """Those of all models, of both doors of all predictors."""

    limits: Limits
    _asked: dict[str, _Asked] = field(default_factory=dict)

    def see(self, seen: Requests, now: float) -> None:
        asked = self._asked.get(seen.model)
        if asked is None:
            limits = self.limits
            asked = self._asked[seen.model] = _Asked(Sustained(limits.refused, limits.refused_s, limits.refused_s))
        asked.all.add(seen.ok + seen.failed, now)
        asked.refused.add(seen.refused, now)

    def look(self, now: float) -> None:
        """Take the shares of this moment."""
        for model in [model for model, asked in self._asked.items() if not asked.look(now)]:
            del self._asked[model]

    @property
    def any(self) -> bool:
        """Whether a single request was refused of late."""
        return bool(self.troubled())

    def troubled(self) -> frozenset[str]:
        """Models of which a request found no room of late."""
        return frozenset(model for model, asked in self._asked.items() if asked.refused.count)

    def rates(self, model: str) -> tuple[float, float]:
        """Requests a second of late, and those of them that found no room."""
        asked = self._asked.get(model)
        return (asked.all.count / SHARE_S, asked.refused.count / SHARE_S) if asked is not None else (0.0, 0.0)

    def symptoms(self) -> Iterator[Symptom]:
        for model, asked in sorted(self._asked.items()):
            if asked.level.standing:
                yield Symptom(OVERLOAD, model, f"{asked.level.value:.0%} of the requests found no room; "
                              f"{asked.level.limit:.0%} and more for {asked.level.for_s:.0f} s", model)
