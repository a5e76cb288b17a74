"""Follows the features and outcomes topics of a pipeline from where its segments end, and hands rows over in bulk."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lepton.bus.care import Care
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.records import Broker, Place, Reader, Record
from lepton.errors import Invalid, LeptonError, Refused, Unavailable
from lepton.runtime.loops import pause

POLL_S = 0.1
BACKOFF_S = 1.0
LOOK_EVERY_S = 1.0
MAX_RECORDS = 5000
# Encoded rows held back for one segment; a segment is one artefact, read as a whole.
MAX_SEGMENT_BYTES = 32 * 1024 * 1024

Row = TypeVar("Row")
Keep = Callable[[int, int, int, Sequence[Row]], Awaitable[int]]
"""(partition, first offset, next offset, rows) -> rows kept"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stream(Generic[Row]):
    """One topic whose rows are kept. `read` raises Invalid; rows of one segment share what `kind` says."""

    topic: str
    read: Callable[[Record], Row]
    size: Callable[[Row], int]
    kind: Callable[[Row], object]
    next_offset: Callable[[int], Awaitable[int]]
    keep: Keep[Row]
    kept: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Bulk:
    """When a segment is full."""

    rows: int
    interval_s: float


@dataclass(slots=True)
class _Chain(Generic[Row]):
    """Rows of a partition on their way into its next segment: offsets `[first, next)`."""

    first: int
    next: int
    rows: list[Row] = field(default_factory=list)
    count: int = 0
    size_bytes: int = 0
    since: float = 0.0


class SegmentWriter(Generic[Row]):
    """Keeps each row of the partitions this process owns; which those are, `owned` says at any time.

    The place to read from is where the stored chain ends, never a committed offset, so nothing is kept twice and
    nothing is passed over. Two writers of one partition do no harm: the store refuses the slower.
    """

    def __init__(self, broker: Broker, stream: Stream[Row], bulk: Bulk, care: Care, *, client_id: str,
                 owned: Callable[[], frozenset[int]], dead_letters: DeadLetters) -> None:
        self._stream = stream
        self._bulk = bulk
        self._care = care
        self._owned = owned
        self._dead_letters = dead_letters
        self._letters = broker.writer(f"{client_id}-dead-letters")
        self._reader: Reader = broker.reader([stream.topic], group=None, client_id=client_id)
        self._chains: dict[int, _Chain[Row]] = {}
        self._look_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; rows in hand are kept first, unless the store does not answer."""
        await self._letters.start()
        await self._reader.start()
        try:
            while not stop.is_set():
                try:
                    if await self._round() or await self._nothing_waits():
                        self._care.beat()
                except (Unavailable, Refused) as error:
                    await self._start_over(error, stop)
            await self._flush(everything=True)
        except (Unavailable, Refused) as error:
            log.info("rows of %s are kept by whoever comes next: %s", self._stream.topic, error.message)
        finally:
            await self._reader.stop()
            await self._letters.stop()

    async def _round(self) -> bool:
        await self._follow_ownership()
        found = await self._reader.poll(max_records=MAX_RECORDS, timeout_s=min(POLL_S, self._bulk.interval_s))
        for place, records in found.items():
            if place.partition in self._chains:
                await self._collect(place, records)
        return await self._flush(everything=False)

    async def _nothing_waits(self) -> bool:
        """Asks the broker, once a second at most; False in between, and while rows are on their way."""
        now = self._care.clock.monotonic()
        if now < self._look_at or any(chain.rows for chain in self._chains.values()):
            return False
        self._look_at = now + LOOK_EVERY_S
        places = [Place(self._stream.topic, partition) for partition in self._chains]
        ends = await self._reader.end_offsets(places) if places else {}
        return all(self._reader.position(place) >= end for place, end in ends.items())

    async def _start_over(self, error: LeptonError, stop: asyncio.Event) -> None:
        # What the store has is the truth: forget what is in hand and read on from there.
        self._chains.clear()
        self._care.report("segments_wait", str(error), self._stream.topic)
        await pause(stop, BACKOFF_S, self._care.clock)

    async def _follow_ownership(self) -> None:
        owned = self._owned()
        for place in sorted(self._reader.assignment()):
            number = place.partition
            if number in owned and number not in self._chains:
                first = await self._stream.next_offset(number)
                begin = (await self._reader.begin_offsets([place]))[place]
                if begin > first:
                    self._care.report("rows_lost", f"rows from offset {first} to {begin} left the log before they were "
                                      "kept; lengthen its retention", f"{place.topic}/{number}")
                await self._reader.seek(place, max(first, begin))
                self._chains[number] = _Chain(first, max(first, begin))
                self._reader.resume(place)
            elif number not in owned:
                self._chains.pop(number, None)
                self._reader.pause(place)

    async def _collect(self, place: Place, records: Sequence[Record]) -> None:
        chain = self._chains[place.partition]
        for record in records:
            row = await self._read(record)
            if row is not None:
                if chain.rows and self._stream.kind(chain.rows[0]) != self._stream.kind(row):
                    await self._keep(place.partition, chain)
                if not chain.rows:
                    chain.since = self._care.clock.monotonic()
                chain.rows.append(row)
                chain.count += self._stream.size(row)
                chain.size_bytes += len(record.value or b"")
            chain.next = record.offset + 1
            if chain.count >= self._bulk.rows or chain.size_bytes >= MAX_SEGMENT_BYTES:
                await self._keep(place.partition, chain)

    async def _read(self, record: Record) -> Row | None:
        try:
            return self._stream.read(record)
        except Invalid as error:
            await self._letters.send(self._dead_letters.letter(record, error))
            self._care.report("refused_record", str(error), record.place)
            return None

    async def _flush(self, *, everything: bool) -> bool:
        due = self._care.clock.monotonic() - self._bulk.interval_s
        moved = False
        for partition, chain in self._chains.items():
            if chain.rows and (everything or chain.since <= due):
                await self._keep(partition, chain)
                moved = True
        return moved

    async def _keep(self, partition: int, chain: _Chain[Row]) -> None:
        rows = await self._stream.keep(partition, chain.first, chain.next, chain.rows)
        chain.first, chain.rows, chain.count, chain.size_bytes = chain.next, [], 0, 0
        self._stream.kept(rows)
