"""Membership and reading inside one process: who holds which partition, where each reader stands."""

import asyncio
import bisect
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from lepton.bus.records import Assigned, Place, Record, Revoked
from lepton.errors import Invalid, Unavailable
from lepton.runtime.loops import unless_stopped

if TYPE_CHECKING:
    from lepton.bus.memory import MemoryBroker


class Group:
    """Members by name, committed offsets, and the rebalance: everyone lets go, then everyone is told its share."""

    def __init__(self, broker: "MemoryBroker") -> None:
        self._broker = broker
        self._members: dict[str, MemoryReader] = {}
        self._rebalancing = asyncio.Lock()
        self.offsets: dict[Place, int] = {}

    def holds(self, reader: "MemoryReader") -> bool:
        return self._members.get(reader.client_id) is reader

    async def join(self, reader: "MemoryReader") -> None:
        before = self._members.get(reader.client_id)
        self._members[reader.client_id] = reader
        if before is not None and before is not reader and before.topics == reader.topics:
            # The same name again: the newcomer takes over what the other held, and nobody else notices.
            await reader.gained(before.drop())
            return
        await self._rebalance()

    async def leave(self, reader: "MemoryReader") -> None:
        if self.holds(reader):
            del self._members[reader.client_id]
            reader.drop()
            await self._rebalance()

    async def _rebalance(self) -> None:
        async with self._rebalancing:
            for member in list(self._members.values()):
                await member.lost()
            for client_id, places in self._shares().items():
                if client_id in self._members:
                    await self._members[client_id].gained(frozenset(places))
        self._broker.wake()

    def _shares(self) -> dict[str, list[Place]]:
        """Range assignment, topic by topic, over the members that read it."""
        shares: dict[str, list[Place]] = {client_id: [] for client_id in self._members}
        for topic in sorted({topic for member in self._members.values() for topic in member.topics}):
            readers = sorted(client_id for client_id, member in self._members.items() if topic in member.topics)
            places = self._broker.places([topic])
            each, rest = divmod(len(places), len(readers))
            start = 0
            for index, client_id in enumerate(readers):
                end = start + each + (1 if index < rest else 0)
                shares[client_id].extend(places[start:end])
                start = end
        return shares


class MemoryReader:
    """See `records.Reader` for the promises."""

    def __init__(self, broker: "MemoryBroker", topics: tuple[str, ...], group: Group | None, client_id: str,
                 start: str, callbacks: tuple[Assigned | None, Revoked | None] = (None, None),
                 offsets: dict[Place, int] | None = None) -> None:
        self._broker = broker
        self._group = group
        # What is kept in a group's name; a reader that is no member may keep there too.
        self._offsets = group.offsets if group is not None else offsets
        self._from_start = start == "earliest"
        self._on_assigned, self._on_revoked = callbacks
        self.topics = topics
        self.client_id = client_id
        self._running = False
        self._positions: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._turn = 0

    async def start(self) -> None:
        places = self._broker.places(self.topics)
        self._running = True
        if self._group is None:
            self._positions = {place: self._resume_at(place) for place in places}
        else:
            await self._group.join(self)

    async def stop(self) -> None:
        self._running = False
        self._positions = {}
        if self._group is not None:
            await self._group.leave(self)

    async def rejoin(self) -> None:
        if self._group is not None:
            self.drop()
            await self._group.join(self)

    def drop(self) -> frozenset[Place]:
        """Forget the partitions without a word; returns what was held."""
        held = frozenset(self._positions)
        self._positions = {}
        return held

    async def lost(self) -> None:
        held = self.drop()
        if held and self._on_revoked is not None:
            await self._on_revoked(sorted(held))

    async def gained(self, places: frozenset[Place]) -> None:
        self._paused &= places
        self._positions = {place: self._resume_at(place) for place in places}
        if self._on_assigned is not None:
            await self._on_assigned(sorted(places))

    def _resume_at(self, place: Place) -> int:
        committed = self._offsets.get(place) if self._offsets is not None else None
        return self._beginning(place) if committed is None else committed

    def _beginning(self, place: Place) -> int:
        return 0 if self._from_start else self._broker.log(place).next_offset

    async def poll(self, *, max_records: int, timeout_s: float, without: Collection[Place] = (),
                   until: asyncio.Event | None = None) -> Mapping[Place, list[Record]]:
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            arrival = self._broker.arrival
            found = self._take(max_records, without)
            if found or not self._running or (until is not None and until.is_set()):
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await (arrival.wait() if until is None else unless_stopped(until, arrival.wait()))
            except TimeoutError:
                return {}

    def _take(self, max_records: int, without: Collection[Place]) -> dict[Place, list[Record]]:
        found: dict[Place, list[Record]] = {}
        places = sorted(self._positions)
        self._turn += 1
        for index in range(len(places)):
            # Start with another partition each time, so that none starves.
            place = places[(index + self._turn) % len(places)]
            if place in self._paused or place in without or max_records < 1:
                continue
            log = self._broker.log(place)
            first = bisect.bisect_left(log.records, self._positions[place], key=lambda record: record.offset)
            records = log.records[first:first + max_records]
            exhausted = first + len(records) == len(log.records)
            self._positions[place] = log.next_offset if exhausted else records[-1].offset + 1
            if records:
                found[place] = records
                max_records -= len(records)
        return found

    async def commit(self, offsets: Mapping[Place, int]) -> None:
        if self._offsets is None:
            raise Invalid("a reader without a group has nothing to commit")
        if (self._group is not None and not self._group.holds(self)) or not set(offsets) <= set(self._positions):
            raise Unavailable("cannot commit: the partitions moved on")
        self._offsets.update(offsets)

    async def committed(self, places: Sequence[Place]) -> Mapping[Place, int]:
        if self._offsets is None:
            raise Invalid("a reader without a group has committed nothing")
        return {place: self._offsets[place] for place in places if place in self._offsets}

    def assignment(self) -> frozenset[Place]:
        return frozenset(self._positions)

    def position(self, place: Place) -> int:
        return self._positions.get(place, -1)

    def behind(self, place: Place) -> int:
        position = self._positions.get(place)
        return 0 if position is None else self._broker.log(place).next_offset - position

    async def seek(self, place: Place, offset: int) -> None:
        if place in self._positions:
            self._positions[place] = offset
            self._broker.wake()

    def pause(self, place: Place) -> None:
        self._paused.add(place)

    def resume(self, place: Place) -> None:
        self._paused.discard(place)
        self._broker.wake()

    async def end_offsets(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return {place: self._broker.log(place).next_offset for place in places}

    async def high_watermarks(self, places: Sequence[Place]) -> Mapping[Place, int]:
        # Transactions begin and end at once here.
        return await self.end_offsets(places)

    async def begin_offsets(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return dict.fromkeys(places, 0)
