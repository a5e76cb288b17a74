"""Event produced → prediction readable, through the whole running platform; p50 and p99 beside a bare Kafka round trip.

    python -m tests.bench.bench_latency [--seconds 15] [--rate 200]

The floor is the same producer and consumer with nothing between them: an event written to a scratch topic and read
back. Both run in turn in one process on one stack, so their ratio is what the platform adds.
"""

import argparse
import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Callable
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from lepton_ai._credentials import resolve
from tests.bench.results import machine, write
from tests.harness.ledger import ids_of_prediction, numbered_body, phishing_rows


async def round_trips(bootstrap: str, send_to: str, read_from: str, ids_of: Callable[[bytes], list[str]],
                      rate: float, seconds: float) -> list[float]:
    """Seconds from before the send of each event until its id is read back, in arrival order."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    count = int(rate * seconds)
    sent: dict[str, float] = {}
    took: list[float] = []
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all")
    consumer = AIOKafkaConsumer(read_from, bootstrap_servers=bootstrap, auto_offset_reset="latest",
                                isolation_level="read_committed", fetch_max_wait_ms=100)
    await producer.start()
    await consumer.start()
    for place in consumer.assignment():
        await consumer.position(place)

    async def read() -> None:
        async for record in consumer:
            now = time.perf_counter()
            took.extend(now - sent.pop(event_id) for event_id in ids_of(record.value) if event_id in sent)
            if len(took) == count:
                return

    reader = asyncio.create_task(read())
    started = time.perf_counter()
    try:
        for number, row in enumerate(islice(phishing_rows(), count)):
            body = numbered_body(prefix, number, row, 50)
            sent[body["event_id"]] = time.perf_counter()
            await producer.send(send_to, json.dumps(body).encode(), key=body["entity_id"].encode())
            await asyncio.sleep(max(0.0, started + (number + 1) / rate - time.perf_counter()))
        await asyncio.wait_for(reader, 30)
    finally:
        reader.cancel()
        await producer.stop()
        await consumer.stop()
    return took


def ids_of_event(value: bytes) -> list[str]:
    return [str(json.loads(value)["event_id"])]


def summary(took: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(took, n=100)
    return {"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000, "events": len(took)}


async def measure(rate: float, seconds: float) -> dict[str, Any]:
    bootstrap = resolve().kafka
    scratch = f"bench-floor-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(scratch, 4, 1)])
        floor = await round_trips(bootstrap, scratch, scratch, ids_of_event, rate, seconds)
        loop = await round_trips(bootstrap, "lepton-events-phishing", "lepton-predictions-phishing",
                                 ids_of_prediction, rate, seconds)
    finally:
        await admin.delete_topics([scratch])
        await admin.close()
    return {"machine": machine(), "rate_per_s": rate, "kafka_round_trip": summary(floor),
            "event_to_prediction": summary(loop)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=200.0)
    given = parser.parse_args()
    result = asyncio.run(measure(given.rate, given.seconds))
    print(f"\nEvent to prediction at {given.rate:g} events/s ({result['machine']})")
    print("| path | p50 ms | p99 ms |\n| --- | --- | --- |")
    for name in ("kafka_round_trip", "event_to_prediction"):
        print(f"| {name.replace('_', ' ')} | {result[name]['p50_ms']:.1f} | {result[name]['p99_ms']:.1f} |")
    write("latency", result)


if __name__ == "__main__":
    main()
