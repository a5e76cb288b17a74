"""A canary on the real stack, by `serve` of its Pipeline alone: seen, promoted by what it did, left in one command."""

import asyncio
import random
import uuid
from typing import Any

import pytest

from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(240)]

PIPELINE = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {name}}}
events:
  entity: door
  partitions: 2
  fields: {{weight: {{type: float}}, height: {{type: float}}}}
  label: {{field: open, type: bool, arrives: with_event}}
model:
  family: logistic_regression
  parameters: {{epochs: 5, seed: 7}}
  train: {{first_rows: 200, every_rows: 1000000}}
gate: {{metric: accuracy, at_least: 0.6, beat_champion_by: -0.4}}
serve:
  rollout: canary
  trial: {{shares: [0.5], step_s: 1, min_answers: 300, max_slower: 100, limit_s: 3600}}
"""
DOORS = 60


def events(count: int) -> list[dict[str, Any]]:
    chance = random.Random(7)
    rows = [{"weight": chance.gauss(0, 1), "height": chance.gauss(0, 1)} for _ in range(count)]
    return [{"event_id": f"e-{number}", "door": f"door-{number % DOORS}", **row, "open": row["weight"] > row["height"]}
            for number, row in enumerate(rows)]


async def rollout(stack: LocalStack, model: str, state: str) -> dict[str, Any]:
    """The model's rollout, once it is in that state."""
    async def there() -> dict[str, Any] | None:
        async with stack.rest_client() as rest:
            answer = await rest.get(f"/v1/models/{model}/rollout")
        found: dict[str, Any] = answer.json()
        return found if answer.is_success and found["state"] == state else None
    found = await apoll_until(there, f"the rollout of {model} to be {state}", 60, every_s=0.5)
    assert found is not None
    return found


async def answering(stack: LocalStack, model: str) -> dict[str, int]:
    """Which version answers each door."""
    async with stack.rest_client() as rest:
        said = await asyncio.gather(*(rest.post(f"/v1/models/{model}/predict", json={
            "rows": [{"weight": 1.0, "height": -1.0}], "entity": f"door-{door}"}) for door in range(DOORS)))
    assert {one.status_code for one in said} == {200}, {one.text for one in said if one.status_code != 200}
    return {f"door-{door}": int(one.json()["version"]) for door, one in enumerate(said)}


async def tried(stack: LocalStack, model: str, epochs: int) -> dict[str, Any]:
    """A candidate that passed its gate, and answers its share."""
    await stack.post(f"/v1/models/{model}/train", {"parameters": {"epochs": epochs, "seed": 7}})
    running = await rollout(stack, model, "RUNNING")

    async def both() -> bool:
        return set((await answering(stack, model)).values()) == {running["champion"], running["candidate"]}
    await apoll_until(both, "champion and candidate to answer", 30, every_s=0.5)
    return running


async def test_a_canary_of_the_pipeline_is_seen_promoted_and_the_next_one_left_in_one_command(
        stack: LocalStack) -> None:
    model = f"doors-{uuid.uuid4().hex[:8]}"
    await stack.post_text("/v1/pipelines", PIPELINE.format(name=model))
    await stack.post(f"/v1/pipelines/{model}/events", events(260))

    async def champion() -> int:
        async with stack.rest_client() as rest:
            answer = await rest.get(f"/v1/models/{model}")
        return int(answer.json()["champion"]) if answer.is_success else 0
    await apoll_until(champion, "a first champion", 90, every_s=0.5)

    running = await tried(stack, model, 6)
    assert (running["strategy"], running["share"], running["champion"], running["candidate"]) == ("CANARY", 0.5, 1, 2)
    said = await stack.lepton("rollout", "status", model)
    assert f"{model}: candidate 2 beside champion 1, canary" in said, said
    # An entity keeps its version while the share stays.
    assert await answering(stack, model) == await answering(stack, model)

    async def promoted() -> bool:
        await answering(stack, model)
        return (await champion()) == 2
    await apoll_until(promoted, "the candidate to be champion by what it did", 60, every_s=0.5)
    ended = await rollout(stack, model, "PROMOTED")
    assert {one["version"]: one["failed"] for one in ended["measured"]} == {1: 0, 2: 0}

    async def alone() -> bool:
        return set((await answering(stack, model)).values()) == {2}
    await apoll_until(alone, "the new champion to answer alone", 20, every_s=0.5)

    assert (await tried(stack, model, 7))["candidate"] == 3
    await stack.lepton("rollout", "abort", model, "--note", "not this one")
    left = await rollout(stack, model, "ABORTED")
    assert (left["champion"], left["candidate"], left["note"]) == (2, 3, "not this one")
    await apoll_until(alone, "the champion to answer alone again", 20, every_s=0.5)
    assert "aborted" in await stack.lepton("rollout", "status", model)
    assert await champion() == 2
