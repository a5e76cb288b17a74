"""The events every measurement of ingest reads: 200 bytes of JSON, 10 fields, one in a hundred of them bad.

    python -m tests.bench.ingest.events BOOTSTRAP TOPIC json|arrow COUNT     fills a topic
"""

import asyncio
import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from aiokafka import AIOKafkaProducer

from lepton.bus.records import partition_for
from lepton.contracts.arrow.stream import CONTENT_TYPE, write_table
from lepton.contracts.pipeline import Pipeline, parse

PARTITIONS = 4
ENTITIES = 10_000
ARROW_ROWS = 4_000
SPEC = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: bench}}
events:
  id: id
  entity: entity
  time: at
  partitions: {partitions}
  fields:
    amount: {{type: float, range: [0, 100000]}}
    weight: {{type: float}}
    speed: {{type: float}}
    score: {{type: float, required: true}}
    ratio: {{type: float}}
    items: {{type: int, range: [0, 1000]}}
    visits: {{type: int}}
    member: {{type: bool}}
    country: {{type: category, categories: [de, us, fr, jp]}}
    note: {{type: text}}
  dedupe_window: 100000
clean:
  missing: {{default: mean, amount: mean, weight: mean, speed: mean}}
  outliers: {{method: {outliers}, action: keep}}
{features}"""
WINDOWS = """\
features:
  windows:
    - {name: spent, size: 1m, of: amount, aggregates: [count, sum, mean]}
"""
_BAD: tuple[dict[str, Any], ...] = ({"amount": "12.5"}, {"items": 1.5}, {"country": "xx"}, {"score": None},
                                    {"amount": -1.0})
_START = datetime(2026, 6, 1, tzinfo=UTC)


def spec(partitions: int = PARTITIONS, *, outliers: str = "iqr", windows: bool = False) -> Pipeline:
    return parse(SPEC.format(partitions=partitions, outliers=outliers, features=WINDOWS if windows else ""))


def rows(count: int, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Good rows: three fields missing now and then."""
    chance = random.Random(seed)
    for number in range(count):
        row = {
            "id": f"e{number:08d}", "entity": f"u{chance.randrange(ENTITIES)}",
            "at": (_START + timedelta(milliseconds=number)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "amount": round(chance.lognormvariate(3, 1), 2), "weight": round(chance.random() * 80, 1),
            "speed": round(chance.gauss(50, 10), 2), "score": round(chance.random(), 4),
            "ratio": round(chance.random(), 3), "items": chance.randrange(10), "visits": chance.randrange(100),
            "member": chance.random() < 0.5, "country": chance.choice(("de", "us", "fr", "jp")), "note": "ab"}
        for field in ("amount", "weight", "speed"):
            if chance.random() < 0.02:
                del row[field]
        yield row


def bodies(count: int, bad_share: float = 0.01) -> Iterator[tuple[str, bytes]]:
    """Entity and body of each event."""
    chance = random.Random(8)
    for row in rows(count):
        if chance.random() < bad_share:
            row |= chance.choice(_BAD)
        yield row["entity"], json.dumps(row, separators=(",", ":")).encode()


def streams(count: int) -> Iterator[tuple[int, bytes]]:
    """The same rows as Arrow streams of one partition each; a bad one is out of its range, as types are a column's."""
    chance = random.Random(8)
    waiting: list[list[dict[str, Any]]] = [[] for _ in range(PARTITIONS)]
    for row in rows(count):
        if chance.random() < 0.01:
            row["amount"] = -1.0
        place = partition_for(row["entity"].encode(), PARTITIONS)
        waiting[place].append(row | {"at": datetime.fromisoformat(row["at"])})
        if len(waiting[place]) == ARROW_ROWS:
            yield place, _stream(waiting[place])
            waiting[place] = []
    yield from ((place, _stream(left)) for place, left in enumerate(waiting) if left)


def _stream(some: list[dict[str, Any]]) -> bytes:
    names = ("id", "entity", "at", *spec().fields)
    columns = {name: [row.get(name) for row in some] for name in names}
    kinds = {"at": pa.timestamp("us", tz="UTC"), "items": pa.int64(), "visits": pa.int64()}
    return write_table(pa.record_batch({name: pa.array(column, kinds.get(name)) for name, column in columns.items()}))


async def fill(bootstrap: str, topic: str, form: str, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=900_000,
                                max_request_size=8_000_000)
    await producer.start()
    try:
        if form == "json":
            waiting = [await producer.send(topic, body, entity.encode()) for entity, body in bodies(count)]
        else:
            headers = [("content-type", CONTENT_TYPE.encode())]
            waiting = [await producer.send(topic, data, partition=place, headers=headers)
                       for place, data in streams(count)]
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()


def main() -> None:
    bootstrap, topic, form, count = sys.argv[1:5]
    asyncio.run(fill(bootstrap, topic, form, int(count)))


if __name__ == "__main__":
    main()
