"""How long an event takes from the log to committed features, at a steady rate beside a running accept stage.

    python -m tests.bench.ingest.latency BOOTSTRAP EVENTS FEATURES RATE SECONDS

Prints a line when it begins to measure, and milliseconds as JSON when `SECONDS` are over.

The clock of an event starts when the broker has acknowledged it, and stops when a read-committed reader has its row.
Beside it: an event written and read back with nothing in between. It begins to measure when the stage has started and
worked off what waited for it.
"""

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.bench.ingest.events import rows

WARM_WITHIN_S = 30.0
# A stage keeps up when no more than what came in this time is still to be seen.
KEEPS_UP_S = 0.2


async def measure(bootstrap: str, events: str, features: str, rate: float, seconds: float) -> dict[str, Any]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    raw, kept = await _reader(bootstrap, events), await _reader(bootstrap, features)
    prefix = f"l{time.time_ns()}-"
    acknowledged: dict[str, float] = {}
    echoed, seen = dict[str, float](), dict[str, float]()
    waits = [asyncio.ensure_future(one) for one in (
        _follow(raw, echoed, lambda value: [json.loads(value)["id"]]), _follow(kept, seen, _ids))]
    try:
        started, began = time.perf_counter(), 0.0
        for number, row in enumerate(itertools.cycle(rows(int(rate * seconds), seed=time.time_ns())), 1):
            event_id = row["id"] = f"{prefix}{number}"
            sent = await producer.send(events, json.dumps(row).encode(), row["entity"].encode())
            sent.add_done_callback(lambda _, one=event_id: acknowledged.__setitem__(one, time.perf_counter()))
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            now = time.perf_counter()
            if (began and now > began + seconds) or now > started + seconds + WARM_WITHIN_S:
                break
            if not began and seen and len(acknowledged) - len(seen) < rate * KEEPS_UP_S:
                began = now
                print("warm", flush=True)
        until = time.perf_counter() + 10
        while not acknowledged.keys() <= seen.keys() and time.perf_counter() < until:  # noqa: ASYNC110  two clients
            await asyncio.sleep(0.02)
    finally:
        for one in waits:
            one.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        for closing in (raw, kept, producer):
            await closing.stop()
    late = [name for name, at in acknowledged.items() if at > began > 0]
    return {"rate_per_s": rate, "events": len(late), "missing": sum(name not in seen for name in late),
            "log_round_trip": _cuts(echoed[name] - acknowledged[name] for name in late if name in echoed),
            "features_visible": _cuts(seen[name] - acknowledged[name] for name in late if name in seen)}


async def _reader(bootstrap: str, topic: str) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="latest",
                                isolation_level="read_committed")
    await consumer.start()
    for place in consumer.assignment():
        await consumer.position(place)
    return consumer


async def _follow(consumer: AIOKafkaConsumer, at: dict[str, float], ids: Callable[[bytes], Iterable[str]]) -> None:
    async for record in consumer:
        now = time.perf_counter()
        at.update(dict.fromkeys(ids(record.value), now))


def _ids(value: bytes) -> list[str]:
    found: list[str] = pa.ipc.open_stream(value).read_all().column("_event_id").to_pylist()
    return found


def _cuts(took: Iterable[float]) -> dict[str, float]:
    # An event can be seen before its sender hears that it was taken.
    found = [max(0.0, one) for one in took]
    cuts = statistics.quantiles(found, n=1000)
    return {"p50_ms": cuts[499] * 1000, "p99_ms": cuts[989] * 1000, "most_ms": max(found) * 1000}


def main() -> None:
    bootstrap, events, features, rate, seconds = sys.argv[1:6]
    print(json.dumps(asyncio.run(measure(bootstrap, events, features, float(rate), float(seconds)))))


if __name__ == "__main__":
    main()
