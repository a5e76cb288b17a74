"""Records at chosen offsets: how the partitions of an empty topic are made as long as, and like, those of another."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, errors
from aiokafka.structs import TopicPartition

from lepton.bus.aio.admin import KafkaAdmin
from lepton.bus.aio.client import Subscription, open_consumer
from lepton.bus.aio.failures import outcome
from lepton.bus.aio.writer import close_producer, open_producer
from lepton.bus.records import Place, Record
from lepton.clock import Clock
from lepton.errors import Unavailable

_FILL_AT_ONCE = 50_000
_TIMEOUT_S = 60.0
_LOOK_S = 0.005


class ExactWriter:
    """For the only writer of a topic, partition by partition; nobody may read it meanwhile."""

    def __init__(self, connection: Mapping[str, Any], admin: KafkaAdmin, transactional_id: str, clock: Clock) -> None:
        self._connection = connection
        self._admin = admin
        self._id = transactional_id
        self._clock = clock
        self._plain: AIOKafkaProducer
        self._transactional: AIOKafkaProducer
        self._observer: AIOKafkaConsumer
        # Where a partition ends once the last transaction on it has: its mark is written after the broker's answer.
        self._ending: dict[Place, int] = {}
        self._open = AsyncExitStack()

    async def start(self) -> None:
        async with AsyncExitStack() as opened:
            self._plain = await open_producer(self._connection)
            opened.push_async_callback(close_producer, self._plain)
            self._transactional = await open_producer(self._connection, transactional_id=self._id,
                                                      transaction_timeout_ms=int(_TIMEOUT_S * 1000))
            opened.push_async_callback(close_producer, self._transactional)
            nothing = Subscription((), None, self._id, member=False)
            self._observer, _ = await open_consumer(self._connection, nothing, self._clock)
            opened.push_async_callback(self._observer.stop)
            self._open = opened.pop_all()

    async def stop(self) -> None:
        await self._open.aclose()

    async def begin_at(self, place: Place, offset: int) -> None:
        """Have an empty partition begin, and end, at `offset`: what comes before it is written and removed again."""
        await self._fill(self._plain, place, offset)
        if offset:
            await self._admin.delete_before({place: offset})

    async def write(self, place: Place, records: Sequence[Record], gap: int) -> int:
        """Records on end, then `gap` offsets that hold nothing for a committed reader; the first record's offset.

        The end of a transaction takes one offset, and so do the records of one that is aborted.
        """
        within = gap == 1
        if within:
            await self._transactional.begin_transaction()
            first = await self._append(self._transactional, place, records)
            await self._transactional.commit_transaction()
        else:
            await self._ended(place)
            first = await self._append(self._plain, place, records)
            if gap:
                await self._transactional.begin_transaction()
                await self._fill(self._transactional, place, gap - 1)
                await self._transactional.abort_transaction()
        if gap:
            self._ending[place] = first + len(records) + gap
        return first

    async def settle(self) -> None:
        """Wait until every partition ends where it is to, for a committed reader too. Raises Unavailable."""
        for place in list(self._ending):
            await self._ended(place)

    async def _ended(self, place: Place) -> None:
        """Wait for the mark of the partition's last transaction: a write outside of one could come before it."""
        if place not in self._ending:
            return
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                tp, wanted = TopicPartition(place.topic, place.partition), self._ending.pop(place)
                while (await self._observer.end_offsets([tp]))[tp] < wanted:
                    await self._clock.sleep(_LOOK_S)
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise outcome(error, f"see the end of a transaction on {place.topic}") from error

    async def _fill(self, producer: AIOKafkaProducer, place: Place, count: int) -> None:
        empty = Record(place.topic, place.partition, 0, None, b"")
        for start in range(0, count, _FILL_AT_ONCE):
            await self._append(producer, place, [empty] * min(_FILL_AT_ONCE, count - start))

    async def _append(self, producer: AIOKafkaProducer, place: Place, records: Sequence[Record]) -> int:
        first, start = -1, 0
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                while start < len(records):
                    builder, end = producer.create_batch(), start
                    while end < len(records) and builder.append(
                            timestamp=None, key=records[end].key, value=records[end].value,
                            headers=list(records[end].headers)) is not None:
                        end += 1
                    if end == start:
                        raise Unavailable(f"a record is too large to be written to {place.topic}")
                    builder.close()
                    told = await (await producer.send_batch(builder, place.topic, partition=place.partition))
                    first = told.offset if first < 0 else first
                    start = end
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise outcome(error, f"write to {place.topic}") from error
        return first
