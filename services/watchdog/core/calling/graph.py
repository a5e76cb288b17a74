"""Who calls whom, as the processes themselves count it; it forgets what was not called for an hour.

A part is a process, `database`, `broker`, a pipeline's topic, or one of the things that `MADE_OF` takes apart. A
process hangs on whom it calls and on the topics it reads, a topic on the processes that write it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from services.watchdog.core.calling.shipped import DEPENDS, MADE_OF
from services.watchdog.core.inputs import Announced, Called
from services.watchdog.core.signals import Lives

REQUEST, DATABASE, WRITE, READ = "request", "database", "write", "read"
BROKER: Final = "broker"
FORGET_S: Final = 3600.0
LOOK_EVERY_S: Final = 60.0
FRESH_S: Final = 60.0
"""So long a call that failed says that calls fail; the next heartbeat tells of it, so it is hardly older than that."""


@dataclass(slots=True)
class Edge:
    """What one process told of its calls of one kind to one other part, summed since it is known."""

    way: str
    callee: str
    count: int = 0
    failed: int = 0
    seconds: float = 0.0
    seen_at: float = 0.0
    failed_at: float = float("-inf")


@dataclass(slots=True)
class Graph:
    """`lives` says which processes there are, those included that have told nothing yet."""

    lives: Lives
    _edges: dict[str, dict[tuple[str, str], Edge]] = field(default_factory=dict)
    """By caller, and by way and callee."""
    _services: dict[str, str] = field(default_factory=dict)
    _at: dict[str, str] = field(default_factory=dict)
    """Instance by address, as it was announced last."""
    _writers: dict[str, set[str]] = field(default_factory=dict)
    _reach: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of this tick: distances of all parts below one that was asked for."""
    _look_at: float = 0.0

    def see(self, told: Called, now: float) -> None:
        self._services[told.instance] = told.service
        edges = self._edges.setdefault(told.instance, {})
        for way, callee, count, failed, seconds in told.calls:
            edge = edges.get((way, callee))
            if edge is None:
                edge = edges[(way, callee)] = Edge(way, callee)
                if way == WRITE and callee != BROKER:
                    self._writers.setdefault(callee, set()).add(told.instance)
            edge.count += count
            edge.failed += failed
            edge.seconds += seconds
            edge.seen_at = now
            if failed:
                edge.failed_at = now

    def announce(self, entry: Announced) -> None:
        if entry.address:
            self._at[entry.address] = entry.instance

    def look(self, now: float) -> None:
        """Forget what was not seen for an hour; distances are worked out anew."""
        self._reach.clear()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        for caller, edges in list(self._edges.items()):
            for key in [key for key, edge in edges.items() if now - edge.seen_at > FORGET_S]:
                del edges[key]
                if key[0] == WRITE and key[1] != BROKER:
                    self._writers[key[1]].discard(caller)
                    if not self._writers[key[1]]:
                        del self._writers[key[1]]
            if not edges:
                del self._edges[caller], self._services[caller]

    @property
    def observed(self) -> bool:
        return bool(self._edges)

    def edges(self) -> Iterator[tuple[str, str, Edge]]:
        """(caller, callee, calls) by name; a callee that is a process by its name, where it is known."""
        for caller, edges in sorted(self._edges.items()):
            for (_, callee), edge in sorted(edges.items()):
                yield caller, self._at.get(callee, callee), edge

    def below(self, part: str) -> dict[str, int]:
        """All that `part` hangs on, directly or by others, each with the number of steps to it; itself excepted."""
        known = self._reach.get(part)
        if known is None:
            known = self._reach[part] = _steps(part, self._needs)
        return known

    def hangs_on(self, part: str, other: str) -> bool:
        """Whether `part` needs `other`; in a circle, the one that is nearer below the other is needed."""
        steps = self.below(part).get(other)
        return steps is not None and steps < self.below(other).get(part, steps + 1)

    def mutual(self, part: str, other: str) -> bool:
        """Whether they are in a circle and equally far below each other: neither is the root of the other."""
        steps = self.below(part).get(other)
        return steps is not None and steps == self.below(other).get(part)

    def failing(self, caller: str, process: str, now: float) -> bool:
        """Whether calls on every step of a way from one process to another have failed lately."""

        def failed(part: str) -> Iterable[str]:
            return {self._at.get(edge.callee, edge.callee) for edge in self._edges.get(part, {}).values()
                    if edge.way == REQUEST and now - edge.failed_at <= FRESH_S}

        return process in _steps(caller, failed)

    def _needs(self, part: str) -> set[str]:
        if part in MADE_OF:
            return self._all_of(MADE_OF[part])
        if part in self._writers:
            return set(self._writers[part])
        if part in self._edges:
            return self._called([part])
        life = self.lives.by_name.get(part)
        service = life.service if life is not None else part
        siblings = [name for name, its in self._services.items() if its == service]
        # A process that has told nothing yet will do as its siblings do; before that, what is shipped.
        return self._called(siblings) if siblings else self._all_of(DEPENDS.get(service, ()))

    def _called(self, callers: Iterable[str]) -> set[str]:
        found = set()
        for caller in callers:
            for edge in self._edges[caller].values():
                if edge.way in (WRITE, READ):
                    found.add(BROKER)
                if edge.way != WRITE:
                    found.add(self._at.get(edge.callee, edge.callee))
        return found

    def _all_of(self, parts: Iterable[str]) -> set[str]:
        """The parts themselves, and of a service its processes."""
        return {name for part in parts for name in (part, *(life.instance for life in self.lives.of(part)))}


def _steps(start: str, needs: Callable[[str], Iterable[str]]) -> dict[str, int]:
    """Distances from `start`, breadth first, so that circles end."""
    found = {start: 0}
    ahead = [start]
    for part in ahead:
        for one in sorted(needs(part)):
            if one not in found:
                found[one] = found[part] + 1
                ahead.append(one)
    del found[start]
    return found
