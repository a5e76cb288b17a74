"""A compacted topic as a dictionary: followed for as long as the process lives, or read to its end once."""

import asyncio
import logging
from asyncio import Event
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Generic, TypeVar

from lepton.bus.care import Care, LagWatch
from lepton.bus.records import Broker, Place, Reader, Record
from lepton.clock import Clock
from lepton.errors import Invalid, Unavailable
from lepton.runtime.loops import pause

POLL_S = 0.25
MAX_RECORDS = 5000
BACKOFF_S = 0.5
# Other writers' transactions last some milliseconds; whoever reads a state meanwhile opens no other partition.
SETTLE_S = 0.5
LOOK_S = 0.02

Value = TypeVar("Value")
OnChange = Callable[[str, Value | None], Awaitable[None]]
OnInvalid = Callable[[Record, Invalid], None]

_log = logging.getLogger(__name__)


class Table(Generic[Value]):
    """Latest value of every key. A resource (`start`, `stop`) and a loop (`run`) for the service.

    `decode` raises Invalid for a record that cannot be read: it is reported, counted by `on_invalid`, and the value
    before it stays.
    """

    def __init__(self, broker: Broker, topic_name: str, decode: Callable[[Record], Value], *, client_id: str,
                 care: Care, on_change: OnChange[Value] | None = None, on_invalid: OnInvalid | None = None) -> None:
        self.values: dict[str, Value] = {}
        self.loaded = False
        self._topic_name = topic_name
        self._decode = decode
        self._care = care
        self._on_change = on_change
        self._on_invalid = on_invalid
        self._reader: Reader = broker.reader([topic_name], group=None, client_id=client_id)

    async def start(self) -> None:
        """Return when everything that was there at the call has been read; `on_change` is not called for it yet."""
        await self._reader.start()
        places = sorted(self._reader.assignment())
        ends = await self._reader.end_offsets(places)
        while any(self._reader.position(place) < ends[place] for place in places):
            for record in await self._poll():
                self._apply(record)
        self.loaded = True

    async def stop(self) -> None:
        await self._reader.stop()

    async def run(self, stop: Event) -> None:
        """Call `on_change` for every value loaded, then follow: for each change in order, None meaning deleted."""
        watch = LagWatch(self._reader, self._care)
        for key, value in list(self.values.items()):
            await self._tell(key, value)
        while not stop.is_set():
            try:
                records = await self._poll()
            except Unavailable as error:
                # What is known stays known; the check shows that nothing new is.
                _log.warning("%s is not followed: %s", self._topic_name, error.message)
                await pause(stop, BACKOFF_S, self._care.clock)
                continue
            for record in records:
                if self._apply(record) and record.key is not None:
                    key = record.key.decode("utf-8", "replace")
                    await self._tell(key, self.values.get(key))
            if records:
                watch.moved()
            else:
                await watch.idle()

    async def _poll(self) -> list[Record]:
        found = await self._reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)
        return [record for place in sorted(found) for record in found[place]]

    def _apply(self, record: Record) -> bool:
        """Whether the record changed the table."""
        if record.key is None:
            self._refuse(record, Invalid("a record of a compacted topic needs a key", place=record.place))
            return False
        key = record.key.decode("utf-8", "replace")
        if record.value is None:
            return self.values.pop(key, None) is not None
        try:
            self.values[key] = self._decode(record)
        except Invalid as error:
            self._refuse(record, error)
            return False
        return True

    def _refuse(self, record: Record, error: Invalid) -> None:
        self._care.report("invalid_record", f"{self._topic_name}: {error}", record.place)
        if self._on_invalid is not None:
            self._on_invalid(record, error)

    async def _tell(self, key: str, value: Value | None) -> None:
        if self._on_change is not None:
            await self._on_change(key, value)


class StateReader:
    """How a partition's state comes back, once its former owner is fenced.

    Reads the given partition numbers of a topic to their end, once, however many partitions ask at the same time.
    `whole` False: as far as it can be read now, for those who can tell by themselves whether that is all.
    """

    def __init__(self, broker: Broker, client_id: str, partitions: Collection[int], clock: Clock, *,
                 whole: bool = True) -> None:
        self._broker = broker
        self._client_id = client_id
        self._partitions = frozenset(partitions)
        self._clock = clock
        self._whole = whole
        self._lock = asyncio.Lock()
        self._read: dict[str, dict[int, dict[bytes, Record]]] = {}
        self._held_back: dict[str, frozenset[int]] = {}

    async def latest(self, topic: str, partition: int) -> Mapping[bytes, Record]:
        """Last committed record of every key in a partition, deleted ones left out.

        Raises Unavailable while another writer's transaction, open in the partition, hides what was committed after
        its beginning: group offsets are beyond that already. Ask a new reader later; the broker ends what is left open.
        """
        async with self._lock:
            if topic not in self._read:
                self._read[topic] = await self._read_to_end(topic)
        if partition in self._held_back[topic]:
            raise Unavailable("the state cannot be read to its end yet: another writer's transaction is open before it",
                              place=f"{topic}/{partition}")
        return self._read[topic][partition]

    async def _read_to_end(self, topic: str) -> dict[int, dict[bytes, Record]]:
        reader = self._broker.reader([topic], group=None, client_id=f"{self._client_id}-state")
        await reader.start()
        try:
            # A fetch that waits for records would hold up what is asked on the same connection, by half a second each.
            for place in reader.assignment():
                reader.pause(place)
            places = [place for place in sorted(reader.assignment()) if place.partition in self._partitions]
            held_back = await self._behind_open(reader, places) if self._whole else frozenset[Place]()
            self._held_back[topic] = frozenset(place.partition for place in held_back)
            places = [place for place in places if place not in held_back]
            ends = await reader.end_offsets(places)
            begins = await reader.begin_offsets(places)
            for place in places:
                await reader.seek(place, begins[place])
                reader.resume(place)
            return await self._collect(reader, ends)
        finally:
            await reader.stop()

    async def _behind_open(self, reader: Reader, places: Sequence[Place]) -> frozenset[Place]:
        """Those of which something written before the call is not settled yet, after a moment for what is under way.

        Compared by offsets: an empty partition, or one whose records were removed, is settled.
        """
        written = await reader.high_watermarks(places)
        deadline = self._clock.monotonic() + SETTLE_S
        while True:
            ends = await reader.end_offsets(places)
            held_back = frozenset(place for place in places if ends[place] < written[place])
            if not held_back or self._clock.monotonic() >= deadline:
                return held_back
            await self._clock.sleep(LOOK_S)

    @staticmethod
    async def _collect(reader: Reader, ends: Mapping[Place, int]) -> dict[int, dict[bytes, Record]]:
        found: dict[int, dict[bytes, Record]] = {place.partition: {} for place in ends}
        while any(reader.position(place) < end for place, end in ends.items()):
            polled = await reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)
            for place, records in polled.items():
                for record in records:
                    _fold(found[place.partition], record)
        return found


def _fold(latest: dict[bytes, Record], record: Record) -> None:
    if record.key is None:
        return
    if record.value is None:
        latest.pop(record.key, None)
    else:
        latest[record.key] = record
