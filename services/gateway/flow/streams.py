"""What the log holds right now: the newest records of a topic, dead letters, and how far each group is behind."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from lepton.bus.records import Broker, Place, Reader, Record
from lepton.clock import Clock
from lepton.contracts import codec
from lepton.contracts.topics import Topic
from lepton.errors import Invalid

Kind = TypeVar("Kind", bound=Message)

# Opening a reader costs the broker a connection, so one answer serves all who ask within this time.
LAGS_FRESH_S = 2.0
UNREAD_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Lag:
    """Records of `topic` that `group` has not committed yet."""

    group: str
    topic: str
    records: int


class Streams:
    """Short-lived readers without a group; what they read is not consumed."""

    def __init__(self, broker: Broker, client_id: str, clock: Clock) -> None:
        self._broker = broker
        self._client_id = client_id
        self._clock = clock
        self._lags: list[Lag] = []
        self._lags_at = float("-inf")
        self._turn = asyncio.Lock()

    async def latest(self, topic_name: str, count: int) -> list[Record]:
        """At most `count` records, newest first; from each partition the last `count` offsets are looked at."""
        reader = self._broker.reader([topic_name], group=None, client_id=f"{self._client_id}-latest")
        await reader.start()
        try:
            records = await _read_tail(reader, count)
        finally:
            await reader.stop()
        records.sort(key=lambda record: (record.timestamp_ms, record.offset), reverse=True)
        return records[:count]

    async def messages(self, topic: Topic, kind: type[Kind], topic_name: str, count: int) -> list[Kind]:
        """The messages among the newest `count` records, newest first; what cannot be read lies in the dead letters."""
        found: list[Kind] = []
        for record in await self.latest(topic_name, count):
            with suppress(Invalid):
                found.append(codec.decode_as(topic, kind, record.value or b""))
        return found

    async def lags(self, groups: Mapping[str, Iterable[str]]) -> list[Lag]:
        """For each group and each topic it reads; topics that do not exist are left out. Up to two seconds old."""
        async with self._turn:
            if self._clock.monotonic() - self._lags_at >= LAGS_FRESH_S:
                self._lags = await self._measure(groups)
                self._lags_at = self._clock.monotonic()
            return self._lags

    async def read_to_the_end(self, groups: Mapping[str, Sequence[str]], within_s: float) -> bool:
        """Wait until each group has read its topics to their ends, one group after the other; False when time is up."""
        until = self._clock.monotonic() + within_s
        for group, topic_names in groups.items():
            while await self.unread(topic_names, await self._broker.group_offsets(group)):
                if self._clock.monotonic() >= until:
                    return False
                await self._clock.sleep(UNREAD_EVERY_S)
        return True

    async def unread(self, topic_names: Sequence[str], offsets: Mapping[Place, int]) -> int:
        """Whether records wait behind `offsets` (a place left out: from its beginning): some of them counted, 0: none.

        Offsets alone do not tell: the end of a transaction takes one too.
        """
        reader = self._broker.reader(list(topic_names), group=None, client_id=f"{self._client_id}-unread")
        await reader.start()
        try:
            places = sorted(reader.assignment())
            ends, begins = await reader.end_offsets(places), await reader.begin_offsets(places)
            behind = [place for place in places if offsets.get(place, begins[place]) < ends[place]]
            for place in places:
                await reader.seek(place, max(begins[place], offsets.get(place, 0)) if place in behind else ends[place])
            found = 0
            while not found and any(reader.position(place) < ends[place] for place in behind):
                polled = await reader.poll(max_records=1000, timeout_s=0.2)
                found = sum(len(records) for records in polled.values())
            return found
        finally:
            await reader.stop()

    async def _measure(self, groups: Mapping[str, Iterable[str]]) -> list[Lag]:
        wanted = sorted({topic for read in groups.values() for topic in read})
        present = await self._broker.describe_topics(wanted)
        if not present:
            return []
        reader = self._broker.reader(sorted(present), group=None, client_id=f"{self._client_id}-lags")
        await reader.start()
        try:
            places = sorted(reader.assignment())
            ends, begins = await reader.end_offsets(places), await reader.begin_offsets(places)
        finally:
            await reader.stop()
        by_topic: defaultdict[str, list[Place]] = defaultdict(list)
        for place in places:
            by_topic[place.topic].append(place)
        found: list[Lag] = []
        for group, read in sorted(groups.items()):
            committed = await self._broker.group_offsets(group)
            for topic in read:
                if topic in present:
                    behind = [max(0, ends[place] - committed.get(place, begins[place])) for place in by_topic[topic]]
                    found.append(Lag(group, topic, sum(behind)))
        return found


async def _read_tail(reader: Reader, count: int) -> list[Record]:
    places = sorted(reader.assignment())
    ends, begins = await reader.end_offsets(places), await reader.begin_offsets(places)
    for place in places:
        await reader.seek(place, max(begins[place], ends[place] - count))
    records: list[Record] = []
    while any(reader.position(place) < ends[place] for place in places):
        found = await reader.poll(max_records=1000, timeout_s=0.5)
        records.extend(record for part in found.values() for record in part)
    return records
