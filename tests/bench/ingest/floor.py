"""A process that only reads: aiokafka's `getmany` in a loop, nothing done with what it gives.

    python -m tests.bench.ingest.floor BOOTSTRAP TOPIC COUNT     prints seconds and CPU seconds as JSON

The clock runs from the first poll, connected and knowing where to begin, to the last record.
"""

import asyncio
import json
import sys
import time
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

POLL = 16_000


async def read(bootstrap: str, topic: str, count: int) -> dict[str, Any]:
    """`count` records, read once; with 0 only how many records the topic has."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False,
                                max_partition_fetch_bytes=4 * 1024 * 1024)
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in sorted(await _partitions(consumer, topic))]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        if not count:
            return {"topic_records": sum(ends.values())}
        for place in places:
            await consumer.seek_to_beginning(place)
        seen = 0
        began, cpu = time.perf_counter(), time.process_time()
        while seen < count:
            found = await consumer.getmany(timeout_ms=1000, max_records=POLL)
            seen += sum(map(len, found.values()))
        return {"records": seen, "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer.topics()
    found: set[int] = await consumer._client._wait_on_metadata(topic)
    return found


def main() -> None:
    bootstrap, topic, count = sys.argv[1:4]
    print(json.dumps(asyncio.run(read(bootstrap, topic, int(count)))))


if __name__ == "__main__":
    main()
