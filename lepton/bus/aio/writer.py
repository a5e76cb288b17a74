"""How records reach Kafka: batches built per partition, idempotent, and for a partition's owner in transactions."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer, errors
from aiokafka.producer import sender
from aiokafka.structs import TopicPartition

from lepton.bus.aio.dispatch import MAX_RECORD_BYTES, Dispatch
from lepton.bus.aio.failures import outcome, unreachable
from lepton.bus.aio.transaction import ShortTransactions, agreed
from lepton.bus.records import Outgoing, Place, Record
from lepton.clock import Clock
from lepton.errors import LeptonError, Unavailable

# A batch is checked against the topic's max.message.bytes, whose default is 1,048,588.
BATCH_BYTES = 900_000
REQUEST_TIMEOUT_MS = 10_000
# How long a write may ride out a broker restart before its caller is told.
DELIVERY_TIMEOUT_S = 30.0
START_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 5.0
# An owner that vanished mid-transaction holds readers back this long, unless a new owner comes first.
TRANSACTION_TIMEOUT_MS = 30_000
# A broker ends a transaction some milliseconds after it has said so, and turns the next one of the same writer away
# until then. aiokafka would come again after 20 ms, which under steady load every fourteenth batch had to wait.
NEXT_TRANSACTION_S = 0.003
sender.BACKOFF_OVERRIDE = NEXT_TRANSACTION_S

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


async def open_producer(connection: Mapping[str, Any], **options: Any) -> AIOKafkaProducer:
    """A started producer; Unavailable with the reason when the cluster cannot be used."""
    producer = AIOKafkaProducer(**connection, enable_idempotence=True, acks="all", max_batch_size=BATCH_BYTES,
                                max_request_size=MAX_RECORD_BYTES + BATCH_BYTES, request_timeout_ms=REQUEST_TIMEOUT_MS,
                                metadata_max_age_ms=60_000, **options)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await producer.start()
    except (errors.KafkaError, OSError, TimeoutError) as error:
        await close_producer(producer)
        if isinstance(error, errors.KafkaConnectionError):
            raise await unreachable(connection) from error
        raise outcome(error, "open a writer") from error
    except BaseException:
        await close_producer(producer)
        raise
    return producer


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Flush what can be flushed within seconds, then close the connections in any case."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await producer.stop()
    except (errors.KafkaError, OSError, TimeoutError) as error:
        _log.warning("a writer was closed without its last answers: %s", type(error).__name__)
        with suppress(errors.KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await producer.client.close()


class KafkaWriter:
    """Idempotent producer; opens a new one underneath when the client library gave its own up."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = connection
        self._producer: AIOKafkaProducer | None = None
        self._dispatch: Dispatch
        self._opening = asyncio.Lock()

    async def start(self) -> None:
        await self._open()

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)

    async def send(self, record: Outgoing) -> Record:
        return await self._deliver(lambda dispatch: dispatch.send_one(record), [record])

    async def send_all(self, records: Sequence[Outgoing]) -> list[Record]:
        return await self._deliver(lambda dispatch: dispatch.send(records), records)

    async def _deliver(self, hand_over: Callable[[Dispatch], Awaitable[Result]],
                       records: Sequence[Outgoing]) -> Result:
        producer = await self._open()
        try:
            async with asyncio.timeout(DELIVERY_TIMEOUT_S):
                return await hand_over(self._dispatch)
        except LeptonError:
            raise
        except (errors.KafkaError, OSError, TimeoutError) as error:
            failure = outcome(error, f"write to {_topics(records)}")
            if isinstance(failure, Unavailable):
                await self._give_up(producer)
            raise failure from error

    async def flush(self) -> None:
        if self._producer is not None:
            await self._producer.flush()

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                self._producer = await open_producer(self._connection)
                self._dispatch = Dispatch(self._producer)
            return self._producer

    async def _give_up(self, producer: AIOKafkaProducer) -> None:
        """A producer that failed may be dead inside, or keep an old batch before new ones: never use it again."""
        if self._producer is producer:
            self._producer = None
            await close_producer(producer)


def _topics(records: Sequence[Outgoing]) -> str:
    return ", ".join(sorted({record.topic for record in records}))


class KafkaTransactionalWriter:
    """Producer bound to a `transactional.id`; see `records.TransactionalWriter` for the promises."""

    def __init__(self, connection: Mapping[str, Any], transactional_id: str, clock: Clock) -> None:
        self._connection = connection
        self._id = transactional_id
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None
        self._short: ShortTransactions | None = None

    async def start(self) -> None:
        await self.stop()
        producer = await open_producer(self._connection, transactional_id=self._id,
                                       transaction_timeout_ms=TRANSACTION_TIMEOUT_MS)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                short = await agreed(producer)
        except BaseException as error:
            await close_producer(producer)
            if isinstance(error, errors.KafkaError | OSError | TimeoutError):
                raise outcome(error, f"open the writer {self._id}") from error
            raise
        self._producer = producer
        self._short = ShortTransactions(producer, self._clock, REQUEST_TIMEOUT_MS) if short else None

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)

    async def commit(self, records: Sequence[Outgoing], offsets: Mapping[Place, int], group: str) -> list[Record]:
        producer = self._producer
        if producer is None:
            raise Unavailable(f"the writer {self._id} is closed", remedy="start it")
        try:
            async with asyncio.timeout(DELIVERY_TIMEOUT_S):
                return await self._transact(producer, records, offsets, group)
        except (errors.KafkaError, OSError, TimeoutError) as error:
            await self._abandon(producer)
            raise outcome(error, f"commit as {self._id}") from error
        except BaseException:
            await self._abandon(producer)
            raise

    async def _transact(self, producer: AIOKafkaProducer, records: Sequence[Outgoing], offsets: Mapping[Place, int],
                        group: str) -> list[Record]:
        if self._short is not None:
            return await self._short.commit(await Dispatch(producer).by_place(records), records, offsets, group)
        await producer.begin_transaction()
        # aiokafka commits even when a batch was refused, so nothing may pass that is not acknowledged. Nor may offsets
        # go beside records: brokers that verify a transaction do so for one request at a time, even when the group
        # is in it, and turn the other away, to come again 100 ms later.
        placed = await Dispatch(producer).send(records)
        if offsets:
            await producer.send_offsets_to_transaction(
                {TopicPartition(place.topic, place.partition): offset for place, offset in offsets.items()}, group)
        await producer.commit_transaction()
        return placed

    async def _abandon(self, producer: AIOKafkaProducer) -> None:
        """Abort if that is still possible and close: sequence numbers are no longer sound after a failure."""
        self._producer = None
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await (self._short.abort() if self._short is not None else producer.abort_transaction())
        except (errors.KafkaError, errors.IllegalOperation, AssertionError, OSError, TimeoutError) as error:
            # The next holder's start ends the transaction, or its timeout does.
            _log.info("the transaction of %s was left to its timeout: %s", self._id, type(error).__name__)
        await close_producer(producer)
