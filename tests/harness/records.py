"""Reads a topic whole, as a committed reader sees it now."""

from collections.abc import Callable
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord

T = TypeVar("T")


async def raw_records(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    """Every record between the topic's first and its present end, partition by partition."""
    # From the start by its setting, not by a seek: a seek may be overtaken by the answer about where the end is.
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, isolation_level="read_committed",
                                enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = list(consumer.assignment())
        assert places, f"{topic} does not exist"
        ends = await consumer.end_offsets(places)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(records)
        return found
    finally:
        await consumer.stop()


async def everything(bootstrap: str, topic: str, parse: Callable[[bytes], T]) -> list[T]:
    """The values of `raw_records`, parsed; tombstones left out."""
    return [parse(record.value) for record in await raw_records(bootstrap, topic) if record.value is not None]
