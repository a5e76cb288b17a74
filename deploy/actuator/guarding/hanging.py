"""A process that runs and answers no more is ended: the process manager has it back, at work.

The process manager sees who ended and not who hangs. Of the services the watchdog sees that, and commands a restart; of
the watchdog itself nobody would.
"""

import asyncio
import http.client
import json
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from deploy.supervisor import Process, ProcessManager
from lepton.clock import Clock
from lepton.errors import Invalid, LeptonError, Missing
from lepton.runtime.loops import pause

EVERY_S: Final = 1.0
ANSWER_S: Final = 3.0
"""A door looks nothing up, but on a busy machine its process may not run for a second or two."""
LATE_S: Final = 10.0
"""A look that comes so much later than it should says that this process, or the machine, did not run meanwhile. One
that comes less late counts as one in time."""
BEGINS_S: Final = 60.0
"""Who has not been ready since its start may be at work without a word for so long."""
AGAIN_S: Final = 30.0
"""Between two ends of the same, and between two words about what is not ended."""
MOST, WITHIN_S = 3, 600.0
"""One that hangs again after so many ends is not mended by another: it is left alone, and a person is told."""

_WATCHED = re.compile(r"^([a-z][a-z0-9-]*)=http://([a-z0-9.-]+):(\d{1,5})$", re.IGNORECASE)
_OK: Final = 200
_MOST_BYTES: Final = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watched:
    """A program as the process manager calls it, and where its door for operators is."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a door says of itself: the status of `/readyz`, 0 for none in time, and whose it is, empty for no word."""

    status: int = 0
    instance: str = ""


def parse(text: str) -> list[Watched]:
    """`watchdog=http://127.0.0.1:8081`, with commas between several. Raises Invalid, naming the entry."""
    found = []
    for entry in filter(None, (one.strip() for one in text.split(","))):
        match = _WATCHED.match(entry)
        if match is None or not 0 < int(match[3]) < 1 << 16 or not _can_be_asked_for(match[2]):
            raise Invalid("whom to watch is written name=http://host:port", field="LEPTON_ACTUATOR_WATCHED",
                          place=entry, remedy="for instance watchdog=http://127.0.0.1:8081")
        found.append(Watched(match[1], match[2], int(match[3])))
    return found


def _can_be_asked_for(host: str) -> bool:
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


async def readiness(watched: Watched) -> Answer:
    """What the door answers, whatever it is, within ANSWER_S."""
    return await asyncio.to_thread(_answer, watched)


def _answer(watched: Watched) -> Answer:
    connection = http.client.HTTPConnection(watched.host, watched.port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return Answer(response.status, _instance(response.read(_MOST_BYTES)))
    except (OSError, http.client.HTTPException):
        return Answer()
    finally:
        connection.close()


def _instance(body: bytes) -> str:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(told.get("instance", "")) if isinstance(told, dict) else ""


class Guard:
    """Of one program. `ask` gives what its door answers; `hung_s` without an answer is a hang.

    Only one whose door answered this guard, and as that of `name`, is ever ended: of a door that never did nobody knows
    whether it is the right one.
    """

    def __init__(self, name: str, manager: ProcessManager, ask: Callable[[], Awaitable[Answer]],
                 tell: Callable[[str, str, str], None], clock: Clock, hung_s: float) -> None:
        self._name = name
        self._manager = manager
        self._ask = ask
        self._tell = tell
        self._clock = clock
        self._hung_s = hung_s
        self._pid = 0
        self._heard = False
        """Of any process of that name: it outlives their ends."""
        self._was_ready = False
        self._unseen: type[LeptonError] | None = None
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
        try:
            seen = await self._process()
        except LeptonError as error:
            self._not_seen(error)
            return
        self._unseen = None
        answer = await self._ask() if seen else Answer()
        now = self._clock.monotonic()
        passed, self._looked_at = now - self._looked_at, now
        if answer.status:
            self._hear(answer, now)
        if seen is None or seen.pid != self._pid or answer.status or passed > EVERY_S + ANSWER_S + LATE_S:
            self._begin(seen, answer)
            return
        self._silent_s += min(passed, EVERY_S + ANSWER_S)
        if self._silent_s >= (self._hung_s if self._was_ready else BEGINS_S) and now - self._acted_at >= AGAIN_S:
            await self._act(now)

    def _not_seen(self, error: LeptonError) -> None:
        """What was known of it still holds; whether it hangs is counted anew."""
        self._silent_s, self._looked_at = 0.0, self._clock.monotonic()
        if self._unseen is type(error):
            return
        self._unseen = type(error)
        if isinstance(error, Missing):
            self._tell("unknown", f"it is not watched: {error}; see LEPTON_ACTUATOR_WATCHED", self._name)
        else:
            log.warning("%s is not watched now: %s", self._name, error)

    def _hear(self, answer: Answer, now: float) -> None:
        self._heard = answer.instance == self._name
        if not self._heard and now - self._acted_at >= AGAIN_S:
            self._acted_at = now
            whose = f"of {answer.instance}" if answer.instance else "of nobody who says a name"
            self._tell("unheard", f"its door is that {whose}, so it is not watched: see LEPTON_ACTUATOR_WATCHED, and "
                                  "that the program has the name of its instance", self._name)

    def _begin(self, seen: Process | None, answer: Answer) -> None:
        pid = seen.pid if seen else 0
        self._was_ready = (self._was_ready and pid == self._pid) or (answer.status == _OK and self._heard)
        self._pid, self._silent_s = pid, 0.0

    async def _process(self) -> Process | None:
        """The program while it runs; None while it is down, begins or ends. Raises what the process manager does."""
        seen = await asyncio.to_thread(self._manager.process, self._name)
        return seen if seen.state == "RUNNING" else None

    async def _act(self, now: float) -> None:
        """End it, or say why not."""
        while self._ends and now - self._ends[0] >= WITHIN_S:
            self._ends.popleft()
        told = f"pid {self._pid} ran and did not answer for {self._silent_s:.1f} s"
        if not self._heard:
            self._acted_at = now
            self._tell("unheard", f"{told}, nor ever since this actuator began: it is not ended; see whether it hangs, "
                                  "and whether LEPTON_ACTUATOR_WATCHED names its door", self._name)
        elif len(self._ends) >= MOST:
            self._acted_at = now
            self._tell("hangs_again", f"{told}; it was ended {len(self._ends)} times within {WITHIN_S / 60:g} minutes "
                                      "and is left alone now: see its log", self._name)
        elif await self._end():
            self._tell("hung", f"{told}, and was ended to begin anew", self._name)
            self._ends.append(now)
            self._acted_at, self._silent_s = now, 0.0

    async def _end(self) -> bool:
        """Whether it was; not if it is another process by now, or the process manager does not do it."""
        try:
            seen = await self._process()
            if seen is None or seen.pid != self._pid:
                return False
            # One that is stopped, or in a loop, heeds nothing else.
            await asyncio.to_thread(self._manager.signal, self._name, "KILL")
        except LeptonError as error:
            log.warning("%s (pid %d) hangs, and the process manager does not end it: %s", self._name, self._pid, error)
            return False
        return True


def guards(text: str, manager: ProcessManager, tell: Callable[[str, str, str], None], clock: Clock,
           hung_s: float) -> list[Guard]:
    """Those of everybody that `text` names. Raises Invalid as `parse`."""
    return [Guard(one.name, manager, partial(readiness, one), tell, clock, hung_s) for one in parse(text)]
