"""Numbered events and an independent count of what became of each: reads the topics itself, trusts no counter."""

import asyncio
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle, islice
from types import TracebackType
from typing import Any

import httpx
import pyarrow as pa
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from river import datasets

from lepton.contracts.pb import predictions_pb2
from tests.harness.predictions import rows_of


def phishing_rows() -> Iterator[dict[str, float]]:
    """River's stream, over and over, without labels."""
    return cycle(dict(x) for x, _ in datasets.Phishing())


def ids_of_features(value: bytes) -> list[str]:
    with pa.ipc.open_stream(io.BytesIO(value)) as reader:
        ids = reader.read_all().column("_event_id").to_pylist()
    return [str(event_id) for event_id in ids]


def ids_of_prediction(value: bytes) -> list[str]:
    """Of a record in either form: an Arrow stream begins with four bytes that begin no message."""
    if value.startswith(b"\xff\xff\xff\xff"):
        return [str(row["event_id"]) for row, _ in rows_of(value)]
    return [predictions_pb2.PredictionServed.FromString(value).event_id]


@dataclass
class Tail:
    """What committed readers see of one topic from where it stood when the tail was opened."""

    bootstrap: str
    topic: str
    ids_of: Callable[[bytes], list[str]]
    prefix: str
    seen: Counter[str] = field(default_factory=Counter)
    order: dict[int, list[str]] = field(default_factory=dict)
    _consumer: Any = None

    async def __aenter__(self) -> "Tail":
        self._consumer = AIOKafkaConsumer(self.topic, bootstrap_servers=self.bootstrap, enable_auto_commit=False,
                                          isolation_level="read_committed")
        await self._consumer.start()
        places = list(self._consumer.assignment())
        assert places, f"{self.topic} does not exist"
        for place, end in (await self._consumer.end_offsets(places)).items():
            self._consumer.seek(place, end)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self._consumer.stop()

    async def read(self) -> None:
        """Take in what has arrived; returns after at most half a second without any."""
        batches = await self._consumer.getmany(timeout_ms=500, max_records=20_000)
        for place, records in batches.items():
            for record in records:
                for event_id in self.ids_of(record.value):
                    if event_id.startswith(self.prefix):
                        self.seen[event_id] += 1
                        self.order.setdefault(place.partition, []).append(event_id)

    def missing(self, ids: list[str]) -> list[str]:
        return [event_id for event_id in ids if not self.seen[event_id]]

    def doubled(self) -> list[str]:
        return [event_id for event_id, count in self.seen.items() if count > 1]


async def numbered_events(bootstrap: str, pipeline: str, prefix: str, count: int, per_s: float,
                          entities: int = 50) -> list[str]:
    """Send `count` events to Kafka at `per_s` a second; return the ids the broker has acknowledged, in order.

    An event without its acknowledgement is sent again, as a producer that may not lose one does.
    """
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all")
    await producer.start()
    acknowledged = []
    started = asyncio.get_running_loop().time()
    try:
        for number, row in enumerate(islice(phishing_rows(), count)):
            body = numbered_body(prefix, number, row, entities)
            await _acknowledged(producer, f"lepton-events-{pipeline}", body)
            acknowledged.append(body["event_id"])
            await asyncio.sleep(max(0.0, started + (number + 1) / per_s - asyncio.get_running_loop().time()))
    finally:
        await producer.stop()
    return acknowledged


async def _acknowledged(producer: AIOKafkaProducer, topic: str, body: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    give_up = loop.time() + 60
    while True:
        try:
            await producer.send_and_wait(topic, json.dumps(body).encode(), key=body["entity_id"].encode())
            return
        except KafkaError:
            assert loop.time() < give_up, f"the broker took nothing for 60 s, the last was {body['event_id']}"
            await asyncio.sleep(0.2)


def numbered_body(prefix: str, number: int, row: dict[str, float], entities: int) -> dict[str, Any]:
    return {"event_id": f"{prefix}{number:07d}", "entity_id": f"{prefix}e{number % entities:03d}",
            "occurred_at": datetime.now(UTC).isoformat(), **row}


def order_kept(tail: Tail, entities: int) -> bool:
    """True when the events of every entity came out in the order of their numbers."""
    last: dict[int, int] = {}
    for ids in tail.order.values():
        for event_id in ids:
            number = int(event_id.removeprefix(tail.prefix))
            entity = number % entities
            if last.get(entity, -1) > number:
                return False
            last[entity] = number
    return True



async def numbered_posts(rest: httpx.AsyncClient, pipeline: str, prefix: str, count: int, per_s: float,
                         entities: int = 50) -> list[str]:
    """Post `count` events through the gateway, again and again until each is acknowledged; return their ids."""
    acknowledged = []
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number, row in enumerate(islice(phishing_rows(), count)):
        body = numbered_body(prefix, number, row, entities)
        give_up = loop.time() + 45
        while not await _posted(rest, pipeline, body):
            assert loop.time() < give_up, f"the gateway took no event for 45 s, the last was {body['event_id']}"
            await asyncio.sleep(0.2)
        acknowledged.append(body["event_id"])
        await asyncio.sleep(max(0.0, started + (number + 1) / per_s - loop.time()))
    return acknowledged


async def _posted(rest: httpx.AsyncClient, pipeline: str, body: dict[str, Any]) -> bool:
    try:
        answer = await rest.post(f"/v1/pipelines/{pipeline}/events", json=body)
    except httpx.HTTPError:
        return False
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    return answer.is_success
