"""How much each service that may be scaled gets to do, what one of its processes could do, and since when it idles."""

from dataclasses import dataclass, field
from typing import Final

from services.watchdog.core.load.bursts import Burst

WORK_S: Final = 8.0
"""Work is counted over this time."""
FITS: Final = 0.5
"""A service may lose a process when the others would do no more than this part of what was too much for them."""


@dataclass(slots=True)
class _Work:
    """`full`: what one process did a second when another had to be added; None: that was not seen. `began_at`: since
    when there is any."""

    asked: Burst = field(default_factory=lambda: Burst(1, WORK_S))
    done: Burst = field(default_factory=lambda: Burst(1, WORK_S))
    began_at: float = 0.0
    full: float | None = None
    replicas: int = 0
    changed_at: float = 0.0
    idle_since: float | None = None


@dataclass(slots=True)
class Work:
    """Requests of predictors, rows of ingest: units only ever compared with those of the same service."""

    _by_service: dict[str, _Work] = field(default_factory=dict)

    def add(self, service: str, asked: int, done: int, now: float) -> None:
        work = self._by_service.setdefault(service, _Work())
        if not work.asked.count:
            work.began_at = now
        work.asked.add(asked, now)
        work.done.add(done, now)

    def filled(self, service: str, replicas: int, now: float) -> None:
        """So many processes are too few now: what they do is all they can."""
        work = self._by_service.setdefault(service, _Work())
        work.done.look(now)
        if replicas and work.done.count:
            # Who has just begun to watch has not seen it for as long as that.
            seen_s = min(WORK_S, max(1.0, now - work.began_at))
            work.full = work.done.count / seen_s / replicas

    def look(self, service: str, replicas: int, calm: bool, now: float) -> None:
        """Take note whether one process fewer would do now. `calm`: nothing waits, and all processes work."""
        work = self._by_service.setdefault(service, _Work())
        work.asked.look(now)
        if replicas != work.replicas:
            work.replicas, work.changed_at, work.idle_since = replicas, now, None
        if not (calm and self._fits(work, replicas - 1)):
            work.idle_since = None
        elif work.idle_since is None:
            work.idle_since = now

    def disturb(self, service: str) -> None:
        """Something is wrong about it: what it idled so far does not count."""
        self._by_service.setdefault(service, _Work()).idle_since = None

    def idle_s(self, service: str, now: float) -> float:
        """For how long one process fewer would have done; 0 when it would not now."""
        work = self._by_service.get(service)
        return now - work.idle_since if work is not None and work.idle_since is not None else 0.0

    def unchanged_s(self, service: str, now: float) -> float:
        """For how long it has had as many processes as now."""
        work = self._by_service.get(service)
        return now - work.changed_at if work is not None else 0.0

    def told(self, service: str) -> str:
        work = self._by_service[service]
        measured = f", of which one process did {work.full:.0f} when it was too much" if work.full is not None else ""
        return f"{work.asked.count / WORK_S:.1f} a second to do{measured}"

    def _fits(self, work: _Work, replicas: int) -> bool:
        """Where nobody saw how much one can do, only a service without any work is sure to have too many."""
        rate = work.asked.count / WORK_S
        return rate <= FITS * work.full * replicas if work.full is not None else rate == 0
