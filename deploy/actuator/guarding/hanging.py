"""A process that runs and answers no more is ended: the process manager has it back, at work.

The process manager sees who ended and not who hangs. Of the services the watchdog sees that, and commands a restart; of
the watchdog itself nobody would.
"""

import asyncio
import http.client
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from deploy.supervisor import Process, ProcessManager
from lepton.clock import Clock
from lepton.errors import Invalid, Missing, Unavailable
from lepton.runtime.loops import pause

EVERY_S: Final = 1.0
ANSWER_S: Final = 1.0
"""A door has this long to answer: it looks nothing up."""
AWAY_S: Final = 1.0
"""A look that comes so much later than it should says that this process, or the machine, did not run meanwhile."""
BEGINS_S: Final = 60.0
"""Who has not been ready since its start may be at work without a word for so long."""
AGAIN_S: Final = 30.0
"""Between two ends of the same."""
MOST, WITHIN_S = 3, 600.0
"""One that hangs again after so many ends is not mended by another: it is left alone, and a person is told."""

_WATCHED = re.compile(r"^([a-z][a-z0-9-]*)=http://([a-z0-9.-]+):(\d{1,5})$", re.IGNORECASE)
_OK: Final = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watched:
    """A program as the process manager calls it, and where its door for operators is."""

    name: str
    host: str
    port: int


def parse(text: str) -> list[Watched]:
    """`watchdog=http://127.0.0.1:8081`, with commas between several. Raises Invalid, naming the entry."""
    found = []
    for entry in filter(None, (one.strip() for one in text.split(","))):
        match = _WATCHED.match(entry)
        if match is None or not 0 < int(match[3]) < 1 << 16:
            raise Invalid("whom to watch is written name=http://host:port", field="LEPTON_ACTUATOR_WATCHED",
                          place=entry, remedy="for instance watchdog=http://127.0.0.1:8081")
        found.append(Watched(match[1], match[2], int(match[3])))
    return found


async def readiness(watched: Watched) -> int:
    """The status that `/readyz` answers, whatever it is; 0 where nothing answers in time."""
    return await asyncio.to_thread(_status, watched)


def _status(watched: Watched) -> int:
    connection = http.client.HTTPConnection(watched.host, watched.port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


class Guard:
    """Of one program. `ask` gives the status that its door answers, 0 for none; `hung_s` without one is a hang."""

    def __init__(self, name: str, manager: ProcessManager, ask: Callable[[], Awaitable[int]],
                 tell: Callable[[str, str, str], None], clock: Clock, hung_s: float) -> None:
        self._name = name
        self._manager = manager
        self._ask = ask
        self._tell = tell
        self._clock = clock
        self._hung_s = hung_s
        self._pid = 0
        self._was_ready = False
        self._looked_at = clock.monotonic()
        self._silent_s = 0.0
        self._ends: deque[float] = deque()
        self._acted_at = float("-inf")

    async def watch(self, stop: asyncio.Event) -> None:
        """Look again and again until `stop`."""
        while not await pause(stop, EVERY_S, self._clock):
            await self.look()

    async def look(self) -> None:
        """What cannot be ended now is ended at a later look."""
        seen = await self._process()
        status = await self._ask() if seen else 0
        now = self._clock.monotonic()
        passed, self._looked_at = now - self._looked_at, now
        if seen is None or seen.pid != self._pid or status or passed > EVERY_S + ANSWER_S + AWAY_S:
            self._begin(seen, status)
            return
        self._silent_s += passed
        if self._silent_s >= (self._hung_s if self._was_ready else BEGINS_S) and now - self._acted_at >= AGAIN_S:
            await self._end(now)

    def _begin(self, seen: Process | None, status: int) -> None:
        pid = seen.pid if seen else 0
        self._was_ready = (self._was_ready and pid == self._pid) or status == _OK
        self._pid, self._silent_s = pid, 0.0

    async def _process(self) -> Process | None:
        """The program while it runs; None while it is down, begins, ends, or the process manager does not answer."""
        try:
            seen = await asyncio.to_thread(self._manager.process, self._name)
        except (Missing, Unavailable) as error:
            if self._pid:
                log.warning("%s is not watched now: %s", self._name, error)
            return None
        return seen if seen.state == "RUNNING" else None

    async def _end(self, now: float) -> None:
        while self._ends and now - self._ends[0] >= WITHIN_S:
            self._ends.popleft()
        told = f"pid {self._pid} ran and did not answer for {self._silent_s:.1f} s"
        if len(self._ends) >= MOST:
            self._acted_at = now
            self._tell("hangs_again", f"{told}; it was ended {len(self._ends)} times within {WITHIN_S / 60:g} minutes "
                                      "and is left alone now: see its log", self._name)
            return
        seen = await self._process()
        if seen is None or seen.pid != self._pid:
            return
        try:
            # One that is stopped, or in a loop, heeds nothing else.
            await asyncio.to_thread(self._manager.signal, self._name, "KILL")
        except (Missing, Unavailable) as error:
            log.warning("%s (pid %d) hangs, and the process manager does not end it: %s", self._name, self._pid, error)
            return
        self._tell("hung", f"{told}, and was ended to begin anew", self._name)
        self._ends.append(now)
        self._acted_at, self._silent_s = now, 0.0


def guards(text: str, manager: ProcessManager, tell: Callable[[str, str, str], None], clock: Clock,
           hung_s: float) -> list[Guard]:
    """Those of everybody that `text` names. Raises Invalid as `parse`."""
    return [Guard(one.name, manager, partial(readiness, one), tell, clock, hung_s) for one in parse(text)]
