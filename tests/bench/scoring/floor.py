"""A process that only reads features batches and writes them again, in transactions with their offsets; aiokafka alone.

    python -m tests.bench.scoring.floor BOOTSTRAP FROM TO COUNT bytes|arrow     prints seconds and CPU seconds as JSON

`bytes` writes what it read; `arrow` unpacks each batch, unchecked, and packs it again. The clock runs from the first
poll, connected and knowing where to begin, to the last commit.
"""

import asyncio
import gc
import json
import sys
import time
from typing import Any

import pyarrow as pa
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from services.predictor.edge.scoring import MAX_RECORDS

_FETCH_BYTES = 4 * 1024 * 1024
_READ = pa.ipc.IpcReadOptions(use_threads=False)
_WRITE = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


async def run(bootstrap: str, source: str, target: str, count: int, *, arrow: bool) -> dict[str, Any]:
    """As many records at a time as scoring takes."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=f"floor.{target}", enable_auto_commit=False,
                                auto_offset_reset="earliest", max_partition_fetch_bytes=_FETCH_BYTES)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"floor.{target}",
                                max_request_size=16 * 1024 * 1024, max_batch_size=900_000)
    await consumer.start()
    await producer.start()
    try:
        consumer.assign([TopicPartition(source, number) for number in (0, 1)])
        for place in consumer.assignment():
            await consumer.seek_to_beginning(place)
        seen = 0
        began, cpu = time.perf_counter(), time.process_time()
        while seen < count:
            found = await consumer.getmany(timeout_ms=1000, max_records=MAX_RECORDS)
            if found:
                seen += await _pass_on(producer, found, target, arrow=arrow)
        return {"records": seen, "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    finally:
        await producer.stop()
        await consumer.stop()


async def _pass_on(producer: AIOKafkaProducer, found: dict[TopicPartition, list[Any]], target: str, *,
                   arrow: bool) -> int:
    """How many records were passed on, in one transaction."""
    async with producer.transaction():
        for place, records in found.items():
            for record in records:
                await producer.send(target, _packed(_unpacked(record.value)) if arrow else record.value,
                                    partition=place.partition)
        await producer.send_offsets_to_transaction(
            {place: records[-1].offset + 1 for place, records in found.items()}, f"floor.{target}")
    return sum(map(len, found.values()))


def _unpacked(data: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(data, options=_READ) as reader:
        return reader.read_next_batch()


def _packed(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_WRITE) as writer:
        writer.write(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def main() -> None:
    # As services.predictor.app does.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    bootstrap, source, target, count, how = sys.argv[1:]
    print(json.dumps(asyncio.run(run(bootstrap, source, target, int(count), arrow=how == "arrow"))))


if __name__ == "__main__":
    main()
