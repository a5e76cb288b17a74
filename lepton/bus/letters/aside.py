"""Dead letters of topics that a process reads from the beginning at every start: each record is refused once."""

import asyncio
import logging
from collections import deque

from lepton.bus.letters.finding import read_letters
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.records import Broker, Record
from lepton.clock import Clock
from lepton.errors import LeptonError, Unavailable
from lepton.runtime.loops import pause

ASIDE_S = 0.25

_log = logging.getLogger(__name__)


class Aside:
    """Writes the dead letters of topics that a process follows without a group, from the beginning at every start.

    A resource and a loop. `refuse` is the `on_invalid` of their tables. Each record goes to the dead letters once,
    however often it is read again.
    """

    def __init__(self, broker: Broker, client_id: str, letters: DeadLetters, clock: Clock) -> None:
        self._broker = broker
        self._writer = broker.writer(f"{client_id}-aside")
        self._letters = letters
        self._clock = clock
        self._waiting: deque[tuple[Record, LeptonError]] = deque()
        self._written: dict[str, set[str]] = {}

    def refuse(self, record: Record, error: LeptonError) -> None:
        self._waiting.append((record, error))

    async def start(self) -> None:
        await self._writer.start()

    async def stop(self) -> None:
        await self._writer.stop()

    async def run(self, stop: asyncio.Event) -> None:
        """Raises LineStopped past the limit of a topic."""
        while not stop.is_set():
            try:
                while self._waiting:
                    await self._write(*self._waiting[0])
                    self._waiting.popleft()
            except Unavailable as error:
                _log.warning("a dead letter waits: %s", error.message)
            await pause(stop, ASIDE_S, self._clock)

    async def _write(self, record: Record, error: LeptonError) -> None:
        if record.topic not in self._written:
            self._written[record.topic] = {letter.origin for letter in await read_letters(self._broker, record.topic)}
        written = self._written[record.topic]
        if record.place not in written:
            await self._writer.send(self._letters.letter(record, error))
            written.add(record.place)
