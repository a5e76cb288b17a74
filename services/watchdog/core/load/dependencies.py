"""Whether database and predictors answer: slow for one process it is the way to it, slow for most of them it itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from lepton.contracts import names
from services.watchdog.core.inputs import Figures
from services.watchdog.core.load.sustained import Sustained
from services.watchdog.core.load.usage import STALE_S
from services.watchdog.core.symptom import SLOW_DEPENDENCY, Symptom
from services.watchdog.core.thresholds.limits import Limits

DATABASE: Final = "database"
ALONE_S: Final = 3.0
"""A process is slow alone only after this time: the others may be about to say the same."""
FEWEST: Final = 2
"""With fewer processes that are slow, it is not told apart from their ways to it."""


@dataclass(slots=True)
class _Way:
    """From one process to the database."""

    level: Sustained
    stands_since: float | None = None

    def look(self, now: float) -> bool:
        if not self.level.look(now):
            self.stands_since = None
        elif self.stands_since is None:
            self.stands_since = now
        return self.level.standing


@dataclass(slots=True)
class _Calls:
    """From one gateway to one predictor; `since`: from when on they have had no answer for too long."""

    value: float = 0.0
    seen_at: float = 0.0
    since: float | None = None

    def see(self, value: float, now: float) -> None:
        self.value, self.seen_at = value, now
        self.since = None if not value else now if self.since is None else self.since


@dataclass(slots=True)
class Dependencies:
    """What the processes said of how long they wait for the database, and gateways for predictors."""

    limits: Limits
    _ways: dict[str, _Way] = field(default_factory=dict)
    _calls: dict[str, _Calls] = field(default_factory=dict)
    _all: bool = False
    """Whether the database itself is slow; it is until every process has its answers again."""

    def figures(self, one: Figures, now: float) -> None:
        for name, predictor, value in one.readings:
            if name == names.DATABASE_SECONDS:
                way = self._ways.setdefault(one.instance, _Way(Sustained(self.limits.database, self.limits.database_s)))
                way.level.see(value, now)
            elif name == names.UNREACHED_SECONDS:
                call = self._calls.setdefault(f"{predictor}/{one.instance}", _Calls())
                call.see(value if value >= self.limits.unreached else 0.0, now)

    def look(self, now: float, hearing: bool) -> None:
        """Forget who says nothing any more; while the bus does not carry, nobody can."""
        if hearing:
            for name in [name for name, way in self._ways.items() if now - way.level.seen_at > STALE_S]:
                del self._ways[name]
            for name in [name for name, call in self._calls.items() if now - call.seen_at > STALE_S]:
                del self._calls[name]

    def symptoms(self, now: float) -> Iterator[Symptom]:
        """Whose calls have had no answer for a while, and who waits for the database."""
        for name, call in sorted(self._calls.items()):
            if call.since is not None and now - call.since >= ALONE_S:
                predictor, _, gateway = name.partition("/")
                yield Symptom(SLOW_DEPENDENCY, name, f"calls of {gateway} to {predictor} have had no answer for "
                                                     f"{call.value:.0f} s")
        yield from self._database(now)

    def _database(self, now: float) -> Iterator[Symptom]:
        slow = [name for name, way in sorted(self._ways.items()) if way.look(now)]
        self._all = bool(slow) and (self._all or (len(slow) >= FEWEST and 2 * len(slow) >= len(self._ways)))
        if self._all:
            longest_s = max(self._ways[name].level.value for name in slow)
            yield Symptom(SLOW_DEPENDENCY, DATABASE, f"{len(slow)} of {len(self._ways)} processes waited for it for "
                                                     f"{self.limits.database:g} s and more, {longest_s:.1f} s now")
            return
        for name in slow:
            since = self._ways[name].stands_since
            if since is not None and now - since >= ALONE_S:
                yield Symptom(SLOW_DEPENDENCY, f"{DATABASE}/{name}",
                              f"{name} alone waits for it, {self._ways[name].level.value:.1f} s now")
