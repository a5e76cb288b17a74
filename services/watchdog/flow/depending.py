"""The graph of dependencies, written down for people by the watchdog that leads."""

import asyncio
import logging
from collections.abc import Iterator

from lepton.clock import Clock
from lepton.errors import Invalid, Unavailable
from lepton.runtime.loops import pause
from lepton.store.calls.graph import Dependencies, Dependency
from services.watchdog.core.calling.graph import Graph
from services.watchdog.flow.acting import Acting

EVERY_S = 5.0

log = logging.getLogger(__name__)


class Depending:
    """Writes what `graph` knows for as long as `acting` leads."""

    def __init__(self, graph: Graph, acting: Acting, store: Dependencies, clock: Clock) -> None:
        self._graph = graph
        self._acting = acting
        self._store = store
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; what cannot be written now is written the next time."""
        while not stop.is_set():
            if self._acting.leading:
                try:
                    await self._store.put(self._now())
                except (Unavailable, Invalid) as error:
                    log.warning("dependencies are not written down: %s", error)
            await pause(stop, EVERY_S, self._clock)

    def _now(self) -> Iterator[Dependency]:
        wall_s, now = self._clock.now().timestamp(), self._clock.monotonic()
        for caller, callee, edge in self._graph.edges():
            yield Dependency(caller, edge.way, callee, edge.count, edge.failed, round(edge.seconds, 3),
                             wall_s - (now - edge.seen_at))
