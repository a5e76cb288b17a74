"""Laying a topic's records where they were: which runs and gaps its partitions are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.backup.plan import KeptTopic, Span
from lepton.bus.aio.exact import ExactWriter
from lepton.bus.records import Place, Record
from lepton.errors import Unavailable

_AT_ONCE = 5000


@dataclass
class _Partition:
    """`begun`: it has its first offset. `held`: records on end, not yet written because the gap after them is not
    known; `next`: where the last of them ends."""

    span: Span
    begun: bool = False
    next: int = 0
    held: list[Record] = field(default_factory=list)


class Layer:
    """Takes records of one topic in order, partition by partition, and lays them; `finish` completes it."""

    def __init__(self, topic: KeptTopic, writer: ExactWriter) -> None:
        self._topic = topic
        self._writer = writer
        self._partitions = {place: _Partition(span) for place, span in topic.places()}

    async def lay(self, records: Sequence[Record]) -> None:
        for record in records:
            place = Place(record.topic, record.partition)
            part = self._partitions[place]
            if not part.begun:
                await self._writer.begin_at(place, record.offset)
                part.begun, part.next = True, record.offset
            if record.offset != part.next or len(part.held) >= _AT_ONCE:
                await self._write(place, part, record.offset - part.next)
            part.held.append(record)
            part.next = record.offset + 1

    async def finish(self) -> None:
        """Every partition ends where it ended."""
        for place, part in self._partitions.items():
            if part.begun:
                await self._write(place, part, part.span.end - part.next)
            else:
                await self._writer.begin_at(place, part.span.end)

    async def _write(self, place: Place, part: _Partition, gap: int) -> None:
        held, part.held = part.held, []
        part.next += gap
        if not held:
            return
        at = await self._writer.write(place, held, gap)
        if at != held[0].offset:
            raise Unavailable(f"a record of offset {held[0].offset} came to lie at {at}",
                              place=f"{place.topic}/{place.partition}",
                              remedy="somebody else writes to this broker: end it and bring the backup back anew")


class StateLayer:
    """The same for a compacted topic, whose keys are to be there and whose offsets say nothing."""

    def __init__(self, writer: ExactWriter) -> None:
        self._writer = writer

    async def lay(self, records: Sequence[Record]) -> None:
        for place in sorted({Place(record.topic, record.partition) for record in records}):
            await self._writer.write(place, [record for record in records if record.partition == place.partition], 0)

    async def finish(self) -> None:
        """Nothing is held back."""
