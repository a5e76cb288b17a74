"""What is asked of each model by priority, and how much of it has to be turned away for the rest to find room.

What is turned away still counts as asked: only so does it show when load fell.
"""

from dataclasses import dataclass, field
from typing import Final

from services.watchdog.core.inputs import Requests
from services.watchdog.core.load.bursts import Burst

# As long as it takes to see a share of what heartbeats tell that is not chance.
LATELY_S: Final = 8.0
# What is kept is to fit into this part of what was answered.
FILLED: Final = 0.8
# Less than this part of what finds no room is not worth turning anybody away for.
WORTH: Final = 0.5
# Load must stay below what there is room for so long before all are let in again: callers that were told to come back
# later come back by then.
CALM_S: Final = 30.0
FIRST: Final = 1
"""The level that is always answered."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Requests of the levels up to `keep` are answered; of the level after it, those that name no level go only with
    `unnamed`. `room`: requests a second that fit."""

    keep: int
    unnamed: bool
    room: float


NOTHING: Final = Cut(16, False, 0.0)
"""No model may have more levels."""


@dataclass(slots=True)
class _Shed:
    """What there was room for, with so many processes, when it was ordered; since when no more is asked."""

    room: float
    processes: int
    calm_since: float | None = None


@dataclass(slots=True)
class Levels:
    """Of all models that have priority levels, over all predictors."""

    _asked: dict[str, dict[tuple[int, bool], Burst]] = field(default_factory=dict)
    _sheds: dict[str, _Shed] = field(default_factory=dict)

    def see(self, seen: Requests, now: float) -> None:
        for level, named, count in seen.levels:
            ranks = self._asked.setdefault(seen.model, {})
            ranks.setdefault((level, named), Burst(1, LATELY_S)).add(count, now)

    def look(self, now: float, processes: int) -> None:
        """Take note of the time that passed; `processes`: predictors that there are."""
        for model, ranks in list(self._asked.items()):
            for rank in [rank for rank, burst in ranks.items() if not burst.look(now)]:
                del ranks[rank]
            if not ranks:
                del self._asked[model]
        for model, shed in self._sheds.items():
            if self._rate(model) > shed.room / shed.processes * max(1, processes):
                shed.calm_since = None
            elif shed.calm_since is None:
                shed.calm_since = now

    def cut(self, model: str, asked: float, refused: float) -> Cut | None:
        """The least that has to be turned away for the rest to find room; all but the first level where that is not
        enough. None where it would not be worth it.

        `asked`, `refused`: requests a second for the model at the predictors, those that are shed already left out. Of
        one level, requests that name none go last.
        """
        ranks = self._asked.get(model, {})
        room, kept, found = FILLED * (asked - refused), self._rate(model), None
        freed = 0.0
        for level, named in sorted(ranks, reverse=True):
            if level <= FIRST or kept <= room:
                break
            rate = ranks[level, named].count / LATELY_S
            kept, freed = kept - rate, freed + rate
            found = Cut(level - 1, not named, room)
        return found if freed >= WORTH * refused else None

    def begin(self, model: str, cut: Cut, processes: int) -> None:
        """A shed was ordered."""
        self._sheds[model] = _Shed(cut.room, max(1, processes))

    def needed(self, model: str, now: float) -> bool:
        """Whether more is asked than there is room for, or was until a moment ago; False where nothing was ordered."""
        shed = self._sheds.get(model)
        return shed is not None and (shed.calm_since is None or now - shed.calm_since < CALM_S)

    def _rate(self, model: str) -> float:
        return sum(burst.count for burst in self._asked.get(model, {}).values()) / LATELY_S
