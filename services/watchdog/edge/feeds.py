"""How the watchdog listens: topics followed from a little before now, by every watchdog alone, without a group.

It observes and answers for no record: after a restart it needs the present at once, not the end of a queue, and a
group would make it wait for the session of its own former life.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lepton.bus.care import Care, LagWatch
from lepton.bus.consumer import Message, message_of
from lepton.bus.deadletter import DeadLetters, LineStopped
from lepton.bus.records import Broker, Reader, Record, Writer
from lepton.errors import LeptonError, Missing, Unavailable
from lepton.runtime.loops import pause
from services.watchdog.edge.errors import Fate, fate

POLL_S = 0.2
MAX_RECORDS = 2_000
BACKOFF_S = 0.5
# A pipeline's topics are made before it is announced; one that is gone for good is looked for no more often.
ABSENT_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Who takes a topic's messages, and how many records of each partition before the present are read at start."""

    take: Callable[[Message], None]
    history: int = 0


class Refusals:
    """Where records go that cannot be read. A resource: started before, stopped after its feeds."""

    def __init__(self, broker: Broker, letters: DeadLetters, care: Care, client_id: str) -> None:
        self._writer: Writer = broker.writer(f"{client_id}-dead-letters")
        self._letters = letters
        self._care = care

    async def start(self) -> None:
        await self._writer.start()

    async def stop(self) -> None:
        await self._writer.stop()

    async def refuse(self, record: Record, error: LeptonError) -> None:
        """Write the dead letter. Past the topic's limit only the report remains: a watchdog must not stop watching."""
        self._care.report("refused_record", str(error), record.place)
        try:
            if self._letters.accepts(record.topic):
                await self._writer.send(self._letters.letter(record, error))
        except LineStopped as stopped:
            self._care.report("dead_letter_limit", str(stopped), record.place)


class Feed:
    """Follows topics and hands each message on, in order within a partition."""

    def __init__(self, broker: Broker, sources: Mapping[str, Source], refusals: Refusals, care: Care,
                 client_id: str) -> None:
        self._broker = broker
        self._sources = sources
        self._refusals = refusals
        self._care = care
        self._client_id = client_id

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; a bus that is away is waited for."""
        while not stop.is_set():
            reader = self._broker.reader(sorted(self._sources), group=None, client_id=self._client_id, start="latest")
            try:
                await reader.start()
                fresh = await self._begin(reader)
                await self._follow(reader, fresh, stop)
            except Missing as error:
                self._care.report("topic_missing", str(error))
                await pause(stop, ABSENT_S, self._care.clock)
            except Unavailable as error:
                log.warning("%s cannot be followed: %s", self._client_id, error.message)
                await pause(stop, BACKOFF_S, self._care.clock)
            finally:
                await reader.stop()

    async def _begin(self, reader: Reader) -> dict[tuple[str, int], int]:
        """Go back by the history wanted; where the present begins, by partition."""
        places = sorted(reader.assignment())
        ends, begins = await reader.end_offsets(places), await reader.begin_offsets(places)
        for place in places:
            await reader.seek(place, max(begins[place], ends[place] - self._sources[place.topic].history))
        return {(place.topic, place.partition): ends[place] for place in places}

    async def _follow(self, reader: Reader, fresh: Mapping[tuple[str, int], int], stop: asyncio.Event) -> None:
        watch = LagWatch(reader, self._care)
        while not stop.is_set():
            found = await reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)
            for place in sorted(found):
                for record in found[place]:
                    await self._one(record, record.offset >= fresh[(record.topic, record.partition)], stop)
            if found:
                watch.moved()
            else:
                await watch.idle()

    async def _one(self, record: Record, fresh: bool, stop: asyncio.Event) -> None:
        try:
            self._sources[record.topic].take(message_of(record))
        except LeptonError as error:
            # What lies before the present was refused when it was new.
            while fresh and fate(error) is Fate.DEAD_LETTER and not stop.is_set():
                try:
                    await self._refusals.refuse(record, error)
                    return
                except Unavailable:
                    await pause(stop, BACKOFF_S, self._care.clock)
