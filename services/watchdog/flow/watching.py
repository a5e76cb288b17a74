"""The watchdog's pulse: a tick, what came by it, the decisions it makes, and the journal of all three."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lepton.clock import Clock
from lepton.errors import Unavailable
from lepton.runtime.health import Progress
from lepton.runtime.loops import pause
from services.watchdog.core.calling.graph import Graph
from services.watchdog.core.engine import Engine
from services.watchdog.core.inputs import Decision, Thresholds, Tick
from services.watchdog.core.journal import Journal
from services.watchdog.flow.observing import Observing

# While the bus is away entries wait; beyond these the oldest go, and the sequence shows the gap.
MAX_ENTRIES = 5_000
WRITE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal, numbered from 1 in each life of the process."""

    sequence: int
    fence: int
    tick_s: float
    at_s: float
    kind: str
    body: str


Write = Callable[[Entry], Awaitable[None]]
Decide = Callable[[int, list[Decision]], None]


class Watching:
    """`decide` is called with the fence and the decisions of a tick; it must not wait."""

    def __init__(self, thresholds: Thresholds, observing: Observing, decide: Decide, write: Write, clock: Clock,
                 tick_s: float) -> None:
        self._engine = Engine(thresholds)
        self._journal = Journal(thresholds)
        self._observing = observing
        self._decide = decide
        self._write = write
        self._clock = clock
        self._tick_s = tick_s
        self._entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._sequence = 0
        self._ticked_at: float | None = None

    @property
    def graph(self) -> Graph:
        """Who calls whom, as it is known by now."""
        return self._engine.state.graph

    async def tick(self, stop: asyncio.Event, progress: Progress) -> None:
        """Until `stop`: a tick every `tick_s`, or as soon after as this process gets to run."""
        while not stop.is_set():
            self.tick_once()
            progress.beat()
            await pause(stop, self._tick_s, self._clock)

    async def write(self, stop: asyncio.Event) -> None:
        """Bring journal entries to the log, in order; what is there at the stop is still tried once."""
        while True:
            last = stop.is_set()
            try:
                while self._entries:
                    await self._write(self._entries[0])
                    self._entries.popleft()
            except Unavailable:
                # They wait for the bus, within bounds.
                if last:
                    return
            if last:
                return
            await pause(stop, WRITE_EVERY_S, self._clock)

    def tick_once(self) -> None:
        now = self._clock.monotonic()
        gap_s = now - self._ticked_at if self._ticked_at is not None else 0.0
        self._ticked_at = now
        tick = Tick(now, self._clock.now().timestamp(), gap_s)
        inputs = self._observing.take()
        decisions = self._engine.step(tick, inputs)
        for kind, body in self._journal.note(tick, inputs, decisions):
            self._sequence += 1
            self._entries.append(Entry(self._sequence, self._engine.fence, tick.monotonic_s, tick.wall_s, kind, body))
        if decisions:
            self._decide(self._engine.fence, decisions)
