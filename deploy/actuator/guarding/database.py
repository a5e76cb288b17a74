"""A database that answers but can read nothing any more is ended: the process manager has it back, whole.

So the bundled one is after its disk was full: its storage engine panics, and stays so until it begins anew. Nobody
could command that: the watchdog's lease lies in there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from deploy.supervisor import ProcessManager
from lepton.clock import Clock
from lepton.errors import Missing, Unavailable
from lepton.runtime.loops import pause

DATABASE: Final = "database"
"""As the process manager calls it; a database of somebody else it does not know."""
EVERY_S: Final = 1.0
BROKEN_S: Final = 5.0
"""Refused for so long at every look, it does not mend itself."""
AGAIN_S: Final = 30.0
"""One that was ended has this time to begin anew."""

log = logging.getLogger(__name__)


class Guard:
    """`broken` says what the database answers to a read where something in itself is broken, else nothing."""

    def __init__(self, manager: ProcessManager, broken: Callable[[], Awaitable[str]],
                 tell: Callable[[str, str, str], None], clock: Clock) -> None:
        self._manager = manager
        self._broken = broken
        self._tell = tell
        self._clock = clock
        self._since: float | None = None
        self._ended_at = float("-inf")

    async def watch(self, stop: asyncio.Event) -> None:
        """Look again and again until `stop`."""
        while not await pause(stop, EVERY_S, self._clock):
            await self.look()

    async def look(self) -> None:
        """What cannot be ended now is ended at a later look."""
        told, now = await self._broken(), self._clock.monotonic()
        if not told:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        if now - self._since < BROKEN_S or now - self._ended_at < AGAIN_S:
            return
        try:
            # What its storage engine refuses to write, it cannot write at an orderly end either.
            await asyncio.to_thread(self._manager.signal, DATABASE, "KILL")
        except Missing:
            log.warning("the database is broken, and is none of this installation: %s", told)
            self._ended_at = now
            return
        except Unavailable as error:
            log.warning("the database is broken, and the process manager does not end it: %s", error)
            return
        self._ended_at, self._since = now, None
        self._tell("database_broken", f"it answered {told}, and was ended to begin anew", DATABASE)
