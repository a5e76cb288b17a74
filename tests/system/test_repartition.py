"""A pipeline is spread over other partitions twice while events flow: each counts once, in whichever generation."""

import asyncio
import json
import uuid
from collections import Counter

import pytest
from aiokafka import AIOKafkaProducer

from lepton.contracts.features import decode_table
from lepton.store.mongo import Database
from lepton.store.segments import Segments
from tests.harness.ledger import ids_of_features
from tests.harness.records import raw_records
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]

SPEC = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: NAME}
events:
  entity: entity_id
  partitions: 2
  fields: {number: {type: int, required: true}}
"""
EVENTS, STRAGGLERS, POSTED = 4000, 300, 200


def event(number: int) -> dict[str, object]:
    return {"event_id": f"n-{number}", "entity_id": f"e-{number % 40}", "number": number}


async def produce(stack: LocalStack, topic: str, numbers: range) -> None:
    """As a producer that knows nothing of generations; an entity's events in order."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, enable_idempotence=True, acks="all")
    await producer.start()
    try:
        for number in numbers:
            one = event(number)
            await producer.send(topic, json.dumps(one).encode(), key=str(one["entity_id"]).encode())
        await producer.flush()
    finally:
        await producer.stop()


async def accepted(stack: LocalStack, name: str) -> Counter[str]:
    """Event ids in the features of all generations."""
    found: Counter[str] = Counter()
    for suffix in ("", "-g2", "-g3"):
        for record in await raw_records(stack.kafka, f"lepton-features-{name}{suffix}"):
            found.update(ids_of_features(record.value or b""))
    return found


async def stored(stack: LocalStack, name: str) -> Counter[str]:
    """Event ids in the segments of all generations."""
    database = Database.connect(stack.mongo, "lepton")
    try:
        found: Counter[str] = Counter()
        for generation in (1, 2, 3):
            async for segment in Segments(database).read("features", name, generation):
                found.update(decode_table(segment.data).column("_event_id").to_pylist())
        return found
    finally:
        await database.stop()


async def test_repartitioning_under_load_loses_and_doubles_nothing(stack: LocalStack) -> None:
    name = f"spread-{uuid.uuid4().hex[:6]}"
    await stack.post_text("/v1/pipelines", SPEC.replace("NAME", name))
    producing = asyncio.ensure_future(produce(stack, f"lepton-events-{name}", range(EVENTS)))
    assert f"{name}: generation 2 with 5 partitions" in await stack.lepton("pipelines", "repartition", name, "-p", "5")
    # Again at once: events and rows of the first generation may still wait.
    assert f"{name}: generation 3 with 4 partitions" in await stack.lepton("pipelines", "repartition", name, "-p", "4")
    await producing
    # Some have heard of neither and still send to the first topic; the gateway's clients need not know.
    await produce(stack, f"lepton-events-{name}", range(EVENTS, EVENTS + STRAGGLERS))
    total = EVENTS + STRAGGLERS + POSTED
    await stack.post(f"/v1/pipelines/{name}/events", [event(number) for number in range(EVENTS + STRAGGLERS, total)])
    wanted = Counter({f"n-{number}": 1 for number in range(total)})

    async def all_accepted() -> bool:
        return len(await accepted(stack, name)) >= total

    await apoll_until(all_accepted, "every event accepted", 60, every_s=0.5)
    assert await accepted(stack, name) == wanted

    async def all_stored() -> bool:
        return sum((await stored(stack, name)).values()) >= total

    await apoll_until(all_stored, "every row in segments", 60, every_s=0.5)
    assert await stored(stack, name) == wanted
    shown = await stack.get(f"/v1/pipelines/{name}")
    assert (shown["generation"], shown["partitions"]) == (3, 4)
    assert shown["spec"]["events"]["partitions"] == 4
    assert "has 4 partitions already" in await stack.lepton("pipelines", "repartition", name, "-p", "4", expect=1)
