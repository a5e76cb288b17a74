"""Records at chosen offsets: how the partitions of an empty topic are made as long as, and like, those of another."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, errors

from lepton.bus.aio.admin import KafkaAdmin
from lepton.bus.aio.failures import outcome
from lepton.bus.aio.writer import close_producer, open_producer
from lepton.bus.records import Place, Record
from lepton.errors import Unavailable

_FILL_AT_ONCE = 50_000
_TIMEOUT_S = 60.0


class ExactWriter:
    """For the only writer of a topic, partition by partition; nobody may read it meanwhile."""

    def __init__(self, connection: Mapping[str, Any], admin: KafkaAdmin, transactional_id: str) -> None:
        self._connection = connection
        self._admin = admin
        self._id = transactional_id
        self._plain: AIOKafkaProducer
        self._transactional: AIOKafkaProducer

    async def start(self) -> None:
        self._plain = await open_producer(self._connection)
        try:
            self._transactional = await open_producer(self._connection, transactional_id=self._id,
                                                      transaction_timeout_ms=int(_TIMEOUT_S * 1000))
        except BaseException:
            await close_producer(self._plain)
            raise

    async def stop(self) -> None:
        await close_producer(self._plain)
        await close_producer(self._transactional)

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
        producer = self._transactional if within else self._plain
        if within:
            await producer.begin_transaction()
        first = await self._append(producer, place, records)
        if within:
            await producer.commit_transaction()
        elif gap:
            await self._transactional.begin_transaction()
            await self._fill(self._transactional, place, gap - 1)
            await self._transactional.abort_transaction()
        return first

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
