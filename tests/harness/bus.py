"""How tests read a broker to a known point and keep a loop running for as long as a block lasts."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from lepton.bus.records import Broker, Outgoing, Place, Reader, Record
from lepton.bus.table import StateReader
from lepton.clock import SystemClock
from lepton.runtime.loops import pause
from tests.harness.wait import apoll_until

Loop = Callable[[asyncio.Event], Awaitable[None]]


@asynccontextmanager
async def running(*loops: Loop) -> AsyncIterator[asyncio.Event]:
    """Run loops until the block ends, then set the event that stops them; a loop that fails fails the test."""
    stop = asyncio.Event()
    tasks = [asyncio.ensure_future(loop(stop)) for loop in loops]
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)


@asynccontextmanager
async def repeated(say: Callable[[], Awaitable[None]], every_s: float = 1.0) -> AsyncIterator[None]:
    """Say it before the block begins, and again for as long as it lasts: what a process says of itself goes stale."""
    async def again(stop: asyncio.Event) -> None:
        while not await pause(stop, every_s, SystemClock()):
            await say()

    await say()
    async with running(again):
        yield


async def take(reader: Reader, count: int, timeout_s: float = 30.0) -> list[Record]:
    """The next `count` records, in the order they were given."""
    found: list[Record] = []

    async def enough() -> bool:
        polled = await reader.poll(max_records=1000, timeout_s=0.2)
        found.extend(record for records in polled.values() for record in records)
        return len(found) >= count

    await apoll_until(enough, f"{count} records", timeout_s, every_s=0.0)
    return found


async def read_all(broker: Broker, topic: str) -> list[Record]:
    """Every committed record of a topic up to its present end, by partition and offset."""
    reader = broker.reader([topic], group=None, client_id="read-all")
    await reader.start()
    try:
        ends = await reader.end_offsets(sorted(reader.assignment()))
        found: list[Record] = []

        async def at_end() -> bool:
            polled = await reader.poll(max_records=1000, timeout_s=0.2)
            found.extend(record for records in polled.values() for record in records)
            return all(reader.position(place) >= end for place, end in ends.items())

        await apoll_until(at_end, f"the end of {topic}", every_s=0.0)
    finally:
        await reader.stop()
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def committed(broker: Broker, group: str, offsets: Mapping[Place, int]) -> None:
    """Until the group's offsets are these: a transaction's become visible a moment after it was ended."""
    async def there() -> bool:
        return await broker.group_offsets(group) == offsets

    await apoll_until(there, f"offsets {offsets} of group {group}")


async def holding(reader: Reader, count: int) -> None:
    """Poll until the reader holds `count` partitions."""
    async def held() -> bool:
        await reader.poll(max_records=1, timeout_s=0.05)
        return len(reader.assignment()) == count

    await apoll_until(held, f"{count} partitions", every_s=0.0)


class Summing:
    """A stage handler whose state is a sum and a count per partition, kept in a compacted topic with every batch.

    It copies each record to `output`, so that output, state and offsets can be compared from outside.
    """

    def __init__(self, output: str, state: str) -> None:
        self.output = output
        self.state = state
        self.kept: dict[Place, tuple[int, int]] = {}
        self.provisional: dict[Place, tuple[int, int]] = {}
        self.calls: dict[str, int] = defaultdict(int)

    async def restore(self, place: Place, state: StateReader) -> None:
        self.calls["restore"] += 1
        latest = await state.latest(self.state, place.partition)
        told = latest.get(b"sum")
        total, count = (told.value or b"0 0").split() if told is not None else (b"0", b"0")
        self.kept[place] = (int(total), int(count))

    async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
        self.calls["handle"] += 1
        total, count = self.kept[place]
        for record in records:
            total, count = total + int(record.value or b"0"), count + 1
        self.provisional[place] = (total, count)
        copies = [Outgoing(self.output, record.value, record.key, partition=place.partition) for record in records]
        return [*copies, Outgoing(self.state, b"%d %d" % (total, count), b"sum", partition=place.partition)]

    async def committed(self, place: Place) -> None:
        self.calls["committed"] += 1
        self.kept[place] = self.provisional.pop(place)

    async def aborted(self, place: Place) -> None:
        self.calls["aborted"] += 1
        self.provisional.pop(place, None)

    async def released(self, place: Place) -> None:
        self.calls["released"] += 1
        self.kept.pop(place, None)
        self.provisional.pop(place, None)
