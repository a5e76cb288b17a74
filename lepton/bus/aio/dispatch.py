"""How records become batches, one partition's after the other, and where each record landed."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, errors
from aiokafka.structs import TopicPartition

from lepton.bus.records import Outgoing, Place, Record, partition_for
from lepton.errors import Invalid, Missing, Unavailable
from lepton.runtime.loops import to_the_end

MAX_RECORD_BYTES = 16 * 1024 * 1024
TOPIC_WITHIN_S = 3.0


class Dispatch:
    """Hands records to a producer in batches and knows where each one landed."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._spread = itertools.count()

    async def send(self, records: Sequence[Outgoing]) -> list[Record]:
        """Every record's place once all are acknowledged; the first failure otherwise."""
        by_place = await self.by_place(records)
        placed: list[Record | None] = [None] * len(records)
        # Every partition is awaited even when one fails, so that no batch is left without someone to hear of it.
        await to_the_end(self._send_to(place, indexes, records, placed) for place, indexes in by_place.items())
        return [record for record in placed if record is not None]

    async def by_place(self, records: Sequence[Outgoing]) -> dict[Place, list[int]]:
        """Which of the records, by number, belong where. Raises Invalid and Missing as writers promise."""
        for record in records:
            check_size(record)
        # A name and a number: their hash costs less than a Place's.
        found: dict[tuple[str, int], list[int]] = {}
        keyless = next(self._spread)
        counts = {topic: await self._partitions(topic) for topic in dict.fromkeys(record.topic for record in records)}
        for index, record in enumerate(records):
            place = (record.topic, _partition(record, keyless, counts[record.topic]))
            found.setdefault(place, []).append(index)
        return {Place(*place): indexes for place, indexes in found.items()}

    async def send_one(self, record: Outgoing) -> Record:
        """The same for one, sharing a batch with others sent at the same time."""
        check_size(record)
        place = Place(record.topic, _partition(record, next(self._spread), await self._partitions(record.topic)))
        answer = await (await self._producer.send(place.topic, record.value, record.key, place.partition,
                                                  headers=list(record.headers)))
        return Record(place.topic, place.partition, answer.offset, record.key, record.value, record.headers,
                      answer.timestamp)

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
        waiting: list[tuple[asyncio.Future[Any], Sequence[int]]] = []
        for builder, members in filled(self._producer, indexes, records):
            future = await self._producer.send_batch(builder, place.topic, partition=place.partition)
            _hear_of_drains(self._producer, place)
            waiting.append((future, members))
        answers = await asyncio.gather(*(future for future, _ in waiting), return_exceptions=True)
        for answer, (_, members) in zip(answers, waiting, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            place_them(placed, records, members, place, answer.offset, answer.timestamp)


def filled(producer: AIOKafkaProducer, indexes: Sequence[int],
           records: Sequence[Outgoing]) -> Iterator[tuple[Any, Sequence[int]]]:
    """Batches with the records of those numbers, in order, each with the numbers that are in it."""
    start = 0
    while start < len(indexes):
        builder = producer.create_batch()
        end = start
        while end < len(indexes):
            record = records[indexes[end]]
            if builder.append(timestamp=None, key=record.key, value=record.value,
                              headers=list(record.headers)) is None:
                break
            end += 1
        builder.close()
        yield builder, indexes[start:end]
        start = end


def place_them(placed: list[Record | None], records: Sequence[Outgoing], members: Sequence[int], place: Place,
               offset: int, timestamp: int) -> None:
    """Note where the records of one batch landed, the first of them at `offset`."""
    for position, index in enumerate(members):
        record = records[index]
        placed[index] = Record(place.topic, place.partition, offset + position, record.key, record.value,
                               record.headers, timestamp)


def _partition(record: Outgoing, keyless: int, count: int) -> int:
    """Where a record goes in a topic of `count` partitions."""
    if record.partition is None:
        return keyless % count if record.key is None else partition_for(record.key, count)
    if not 0 <= record.partition < count:
        raise Invalid(f"topic {record.topic} has {count} partitions", field="partition",
                      place=f"{record.topic}/{record.partition}")
    return record.partition


def _hear_of_drains(producer: AIOKafkaProducer, place: Place) -> None:
    """aiokafka fails a second future of a batch that nobody waits for, and asyncio would log each as forgotten."""
    waiting = producer._message_accumulator._batches.get(TopicPartition(place.topic, place.partition))
    if waiting:
        waiting[-1]._drain_waiter.add_done_callback(lambda drained: drained.cancelled() or drained.exception())


def check_size(record: Outgoing) -> None:
    """Invalid when no topic of ours could take the record, or it says nothing at all."""
    size = len(record.key or b"") + len(record.value or b"")
    for name, data in record.headers:
        size += len(name) + len(data)
    if size > MAX_RECORD_BYTES:
        raise Invalid(f"a record of {size} bytes is over the limit of {MAX_RECORD_BYTES}", place=record.topic)
    if record.key is None and record.value is None:
        raise Invalid("a record needs a key or a value", place=record.topic)
