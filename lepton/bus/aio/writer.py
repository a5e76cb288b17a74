"""How records reach Kafka: batches built per partition, idempotent, and for a partition's owner in transactions."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer, errors
from aiokafka.structs import TopicPartition

from lepton.bus.aio.failures import outcome, unreachable
from lepton.bus.records import Outgoing, Place, Record, partition_for
from lepton.errors import Invalid, LeptonError, Missing, Unavailable
from lepton.runtime.loops import to_the_end

MAX_RECORD_BYTES = 16 * 1024 * 1024
# A batch is checked against the topic's max.message.bytes, whose default is 1,048,588.
BATCH_BYTES = 900_000
REQUEST_TIMEOUT_MS = 10_000
# How long a write may ride out a broker restart before its caller is told.
DELIVERY_TIMEOUT_S = 30.0
START_TIMEOUT_S = 30.0
TOPIC_WITHIN_S = 3.0
CLOSE_TIMEOUT_S = 5.0
# An owner that vanished mid-transaction holds readers back this long, unless a new owner comes first.
TRANSACTION_TIMEOUT_MS = 30_000

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


class _Dispatch:
    """Hands records to a producer in batches and knows where each one landed."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._spread = itertools.count()

    async def send(self, records: Sequence[Outgoing]) -> list[Record]:
        """Every record's place once all are acknowledged; the first failure otherwise."""
        for record in records:
            check_size(record)
        by_place: dict[Place, list[int]] = {}
        keyless = next(self._spread)
        counts: dict[str, int] = {}
        for index, record in enumerate(records):
            place = await self._place(record, keyless, counts)
            by_place.setdefault(place, []).append(index)
        placed: list[Record | None] = [None] * len(records)
        # Every partition is awaited even when one fails, so that no batch is left without someone to hear of it.
        await to_the_end(self._send_to(place, indexes, records, placed) for place, indexes in by_place.items())
        return [record for record in placed if record is not None]

    async def send_one(self, record: Outgoing) -> Record:
        """The same for one, sharing a batch with others sent at the same time."""
        check_size(record)
        place = await self._place(record, next(self._spread), {})
        answer = await (await self._producer.send(place.topic, record.value, record.key, place.partition,
                                                  headers=list(record.headers)))
        return Record(place.topic, place.partition, answer.offset, record.key, record.value, record.headers,
                      answer.timestamp)

    async def _place(self, record: Outgoing, keyless: int, counts: dict[str, int]) -> Place:
        if record.topic not in counts:
            counts[record.topic] = await self._partitions(record.topic)
        count = counts[record.topic]
        if record.partition is not None:
            if not 0 <= record.partition < count:
                raise Invalid(f"topic {record.topic} has {count} partitions", field="partition",
                              place=f"{record.topic}/{record.partition}")
            return Place(record.topic, record.partition)
        return Place(record.topic, keyless % count if record.key is None else partition_for(record.key, count))

    async def _partitions(self, topic: str) -> int:
        try:
            async with asyncio.timeout(TOPIC_WITHIN_S):
                return len(await self._producer.partitions_for(topic))
        except (TimeoutError, errors.UnknownTopicOrPartitionError):
            # Absent, or nobody there to say so? A caller gives up on the first and waits for the second.
            known = await self._producer.client.fetch_all_metadata()
            if topic in known.topics():
                raise Unavailable(f"cannot write to {topic}: its partitions have no leader yet") from None
            raise Missing(f"no such topic: {topic}", remedy="create it; the broker does not by itself") from None

    async def _send_to(self, place: Place, indexes: Sequence[int], records: Sequence[Outgoing],
                       placed: list[Record | None]) -> None:
        waiting: list[tuple[asyncio.Future[Any], list[int]]] = []
        start = 0
        while start < len(indexes):
            builder = self._producer.create_batch()
            end = start
            while end < len(indexes):
                record = records[indexes[end]]
                if builder.append(timestamp=None, key=record.key, value=record.value,
                                  headers=list(record.headers)) is None:
                    break
                end += 1
            builder.close()
            future = await self._producer.send_batch(builder, place.topic, partition=place.partition)
            _hear_of_drains(self._producer, place)
            waiting.append((future, list(indexes[start:end])))
            start = end
        answers = await asyncio.gather(*(future for future, _ in waiting), return_exceptions=True)
        for answer, (_, members) in zip(answers, waiting, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            for position, index in enumerate(members):
                record = records[index]
                placed[index] = Record(place.topic, place.partition, answer.offset + position, record.key,
                                       record.value, record.headers, answer.timestamp)


def _hear_of_drains(producer: AIOKafkaProducer, place: Place) -> None:
    """aiokafka fails a second future of a batch that nobody waits for, and asyncio would log each as forgotten."""
    waiting = producer._message_accumulator._batches.get(TopicPartition(place.topic, place.partition))
    if waiting:
        waiting[-1]._drain_waiter.add_done_callback(lambda drained: drained.cancelled() or drained.exception())


def check_size(record: Outgoing) -> None:
    """Invalid when no topic of ours could take the record, or it says nothing at all."""
    size = len(record.key or b"") + len(record.value or b"") + sum(len(name) + len(data)
                                                                   for name, data in record.headers)
    if size > MAX_RECORD_BYTES:
        raise Invalid(f"a record of {size} bytes is over the limit of {MAX_RECORD_BYTES}", place=record.topic)
    if record.key is None and record.value is None:
        raise Invalid("a record needs a key or a value", place=record.topic)


class KafkaWriter:
    """Idempotent producer; opens a new one underneath when the client library gave its own up."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = connection
        self._producer: AIOKafkaProducer | None = None
        self._dispatch: _Dispatch
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

    async def _deliver(self, hand_over: Callable[[_Dispatch], Awaitable[Result]],
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
                self._dispatch = _Dispatch(self._producer)
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

    def __init__(self, connection: Mapping[str, Any], transactional_id: str) -> None:
        self._connection = connection
        self._id = transactional_id
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        await self.stop()
        self._producer = await open_producer(self._connection, transactional_id=self._id,
                                             transaction_timeout_ms=TRANSACTION_TIMEOUT_MS)

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

    @staticmethod
    async def _transact(producer: AIOKafkaProducer, records: Sequence[Outgoing], offsets: Mapping[Place, int],
                        group: str) -> list[Record]:
        await producer.begin_transaction()
        # aiokafka commits even when a batch was refused, so nothing may pass that is not acknowledged. Nor may offsets
        # go beside records: while the coordinator adds the group, brokers that verify a transaction turn its records
        # away, to come again 100 ms later.
        placed = await _Dispatch(producer).send(records)
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
                await producer.abort_transaction()
        except (errors.KafkaError, errors.IllegalOperation, AssertionError, OSError, TimeoutError) as error:
            # The next holder's start ends the transaction, or its timeout does.
            _log.info("the transaction of %s was left to its timeout: %s", self._id, type(error).__name__)
        await close_producer(producer)
