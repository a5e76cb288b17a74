"""Writing inside one process: at once, and in transactions that a newer holder of the id fences."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lepton.bus.records import Outgoing, Place, Record
from lepton.errors import Invalid, Refused, Unavailable

if TYPE_CHECKING:
    from lepton.bus.memory import MemoryBroker


class MemoryWriter:
    """See `records.Writer` for the promises."""

    def __init__(self, broker: "MemoryBroker") -> None:
        self._broker = broker

    async def start(self) -> None:
        """Nothing to connect."""

    async def stop(self) -> None:
        """Nothing is ever pending."""

    async def send(self, record: Outgoing) -> Record:
        return (await self.send_all([record]))[0]

    async def send_all(self, records: Sequence[Outgoing]) -> list[Record]:
        await asyncio.sleep(0)
        places = self._broker.locate(records)
        self._broker.check_sizes(records)
        return self._broker.append(places, records)

    async def flush(self) -> None:
        """Nothing is ever pending."""


class MemoryTransactionalWriter:
    """See `records.TransactionalWriter` for the promises."""

    def __init__(self, broker: "MemoryBroker", transactional_id: str) -> None:
        self._broker = broker
        self._id = transactional_id
        self._epoch: int | None = None

    async def start(self) -> None:
        self._epoch = self._broker.fence(self._id)

    async def stop(self) -> None:
        self._epoch = None

    async def commit(self, records: Sequence[Outgoing], offsets: Mapping[Place, int], group: str) -> list[Record]:
        await asyncio.sleep(0)
        epoch, self._epoch = self._epoch, None
        if epoch is None:
            raise Unavailable(f"the writer {self._id} is closed", remedy="start it")
        if self._broker.fenced(self._id, epoch):
            raise Refused(f"cannot commit as {self._id}: a newer holder has taken over")
        places = self._broker.locate(records)
        try:
            self._broker.check_sizes(records)
        except Invalid:
            self._broker.append(places, records, visible=False)
            self._broker.mark(places)
            raise
        placed = self._broker.append(places, records)
        self._broker.mark(places)
        self._broker.group(group).offsets.update(offsets)
        self._epoch = epoch
        return placed
