"""How the watchdog listens: topics followed from a little before now, by every watchdog alone, without a group.

After a restart it needs the present at once, not the end of a queue, and membership in a group would make it wait for
the session of its own former life. A group only remembers up to where records were looked at, so that one that cannot
be read is dead-lettered also when it came while no watchdog was there.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lepton.bus.care import Care, LagWatch
from lepton.bus.consumer import Message, message_of
from lepton.bus.letters.refusing import DeadLetters, LineStopped
from lepton.bus.records import Broker, Place, Reader, Record, Writer
from lepton.errors import LeptonError, Missing, Unavailable
from lepton.runtime.loops import pause
from services.watchdog.edge.errors import Fate, fate

POLL_S = 0.2
MAX_RECORDS = 2_000
BACKOFF_S = 0.5
COMMIT_EVERY_S = 1.0
# So many records of a partition, at most, are looked through for what could not be read while no watchdog was there.
MAX_OWED = 20_000
# A pipeline's topics are made before it is announced; one that is gone for good is looked for no more often.
ABSENT_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Who takes a topic's messages, and how many records of each partition before the present are read at start.

    `check` raises Invalid for one whose bytes nobody has read yet, where it is not wanted. Records that are not `ours`
    are others' to read and to refuse. Of as many as `before` ahead of the history, `brief` takes what is wanted.
    """

    take: Callable[[Message], None]
    history: int = 0
    check: Callable[[Message], None] = lambda message: None
    ours: Callable[[Record], bool] = lambda record: True
    brief: Callable[[Message], None] = lambda message: None
    before: int = 0


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
    """Follows topics and hands each message on, in order within a partition.

    `group` remembers how far records were looked at; it may be the same for all feeds.
    """

    def __init__(self, broker: Broker, sources: Mapping[str, Source], refusals: Refusals, care: Care,
                 group: str, client_id: str) -> None:
        self._broker = broker
        self._sources = sources
        self._group = group
        self._refusals = refusals
        self._care = care
        self._client_id = client_id

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; a bus that is away is waited for."""
        while not stop.is_set():
            reader = self._broker.reader(sorted(self._sources), group=self._group, client_id=self._client_id,
                                         start="latest", member=False)
            try:
                await reader.start()
                await self._follow(reader, await self._begin(reader), stop)
            except Missing as error:
                self._care.report("topic_missing", str(error))
                await pause(stop, ABSENT_S, self._care.clock)
            except Unavailable as error:
                log.warning("%s cannot be followed: %s", self._client_id, error.message)
                await pause(stop, BACKOFF_S, self._care.clock)
            finally:
                await reader.stop()

    async def _begin(self, reader: Reader) -> dict[Place, "_Bounds"]:
        """Go back to what is wanted or owed, whichever is earlier."""
        places = sorted(reader.assignment())
        ends, begins = await reader.end_offsets(places), await reader.begin_offsets(places)
        looked_at = await reader.committed(places)
        bounds = {}
        for place in places:
            source, begin, end = self._sources[place.topic], begins[place], ends[place]
            wanted = max(begin, end - source.history)
            found = bounds[place] = _Bounds(wanted, max(looked_at.get(place, begin), end - MAX_OWED),
                                            max(begin, wanted - source.before))
            await reader.seek(place, max(begin, min(found.brief, found.owed)))
        return bounds

    async def _follow(self, reader: Reader, bounds: Mapping[Place, "_Bounds"], stop: asyncio.Event) -> None:
        watch = LagWatch(reader, self._care)
        done: dict[Place, int] = {}
        commit_at = self._care.clock.monotonic()
        while not stop.is_set():
            found = await reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)
            for place in sorted(found):
                for record in found[place]:
                    if not await self._one(record, bounds[place], stop):
                        break
                    done[place] = record.offset + 1
            if found:
                watch.moved()
            else:
                await watch.idle()
            if done and (stop.is_set() or self._care.clock.monotonic() >= commit_at):
                await reader.commit(done)
                done = {}
                commit_at = self._care.clock.monotonic() + COMMIT_EVERY_S

    async def _one(self, record: Record, bounds: "_Bounds", stop: asyncio.Event) -> bool:
        """Whether the record is behind us."""
        source = self._sources[record.topic]
        if not source.ours(record):
            return True
        try:
            message = message_of(record)
            if record.offset >= bounds.wanted:
                source.take(message)
            elif record.offset >= bounds.brief:
                source.brief(message)
            elif record.offset >= bounds.owed:
                source.check(message)
        except LeptonError as error:
            if fate(error) is not Fate.DEAD_LETTER or record.offset < bounds.owed:
                # What lies before was refused when it was new.
                return True
            while not stop.is_set():
                try:
                    await self._refusals.refuse(record, error)
                    return True
                except Unavailable:
                    await pause(stop, BACKOFF_S, self._care.clock)
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Of a partition: the first offset whose message is `wanted`, the first whose dead letter is still `owed`, and the
    first of those before the wanted of which a `brief` look is."""

    wanted: int
    owed: int
    brief: int
