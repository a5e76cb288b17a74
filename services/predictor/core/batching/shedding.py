"""Which requests are turned away while there is more to do than can be done: by priority, for a bounded time."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lepton.clock import Clock
from services.predictor.core.batching.limits import Limits
from services.predictor.core.oip.wishes import Shed

ALL: Final = "*"
"""All models that have priority levels, those that come later too."""

RETRY_S: Final = 5.0
"""A caller who comes back sooner, while the shed goes on, only costs more; the shed may end at any time."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Requests of the levels up to `keep` are answered. Of the level after it, those that name no level go only with
    `unnamed`."""

    keep: int
    unnamed: bool

    def spares(self, level: int, named: bool) -> bool:
        return level <= self.keep or (level == self.keep + 1 and not named and not self.unnamed)


class Shedding:
    """Belongs to the event loop. Of several sheds that a request falls under, one is enough to turn it away."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sheds: dict[str, tuple[Cut, float]] = {}
        self._asked: Counter[tuple[str, int, bool]] = Counter()
        self._turned_away: Counter[tuple[str, int]] = Counter()

    def begin(self, model: str, cut: Cut, left_s: float) -> None:
        """Turn away what `cut` does not spare for so many seconds; instead of what was shed of that model before."""
        self._sheds[model] = (cut, self._clock.monotonic() + left_s)

    def end(self, model: str) -> bool:
        """End a shed before its time; whether there was one."""
        return model in self.standing() and self._sheds.pop(model, None) is not None

    def standing(self) -> Mapping[str, Cut]:
        """What is shed now, by model."""
        now = self._clock.monotonic()
        for model in [model for model, (_, until) in self._sheds.items() if now >= until]:
            del self._sheds[model]
        return {model: cut for model, (cut, _) in self._sheds.items()}

    def enter(self, model: str, priority: int, limits: Limits) -> None:
        """Count a request of a model that is here; `priority` as it came, 0 for none. Raises Shed.

        Where a model has no levels all of its requests are equal, and none is turned away.
        """
        if not limits.priority_levels:
            return
        level, named = limits.level(priority), 1 <= priority <= limits.priority_levels
        self._asked[model, level, named] += 1
        if not self._sheds:
            return
        for about, cut in self.standing().items():
            if about in (model, ALL) and not cut.spares(level, named):
                self._turned_away[model, level] += 1
                left_s = self._sheds[about][1] - self._clock.monotonic()
                raise Shed(f"requests of priority {level} of {model} are turned away: there is more to do than can be "
                           "done", field="priority", retry_after_s=max(0.01, min(RETRY_S, left_s)),
                           remedy="send it again later, or with a priority that is answered")

    def take(self) -> tuple[Mapping[tuple[str, int, bool], int], Mapping[tuple[str, int], int]]:
        """Requests since the last call: all by model, level and whether they named it; those turned away by model and
        level."""
        asked, turned_away = self._asked, self._turned_away
        self._asked, self._turned_away = Counter(), Counter()
        return asked, turned_away
