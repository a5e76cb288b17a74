"""A data set on a running stack: filled, corrected, frozen, split, read by other tools, a person erased, grown old."""

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import polars
import pytest
import torch

from lepton_ai import AsyncLeptonClient
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(300)]

PIPELINE = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {name}}}
events:
  id: event_id
  entity: customer
  partitions: 3
  retention: {retention}
  fields:
    price: {{type: float}}
    colour: {{type: category}}
  label: {{field: bought, type: bool, arrives: later}}
"""
ROWS, CUSTOMERS = 600, 20


def event(number: int) -> dict[str, Any]:
    return {"event_id": f"e-{number}", "customer": f"c-{number % CUSTOMERS}", "price": float(number),
            "colour": "red" if number % 3 else "blue"}


@pytest.fixture
async def client(stack: LocalStack) -> AsyncIterator[AsyncLeptonClient]:
    key_id, _, secret = stack.key.partition(".")
    async with AsyncLeptonClient(key_id, secret, stack.rest) as opened:
        yield opened


async def fill(stack: LocalStack, client: AsyncLeptonClient, name: str, retention: str = "30d") -> None:
    await stack.post_text("/v1/pipelines", PIPELINE.format(name=name, retention=retention))
    lines = "\n".join(json.dumps(event(number)) for number in range(ROWS))
    await stack.post_text(f"/v1/pipelines/{name}/events", lines, "application/x-ndjson")
    await stored(client, name, ROWS, 0)


async def stored(client: AsyncLeptonClient, name: str, rows: int, outcomes: int) -> None:
    async def there() -> bool:
        now = await client.datasets.get(name)
        return (now.rows, now.outcomes) == (rows, outcomes)

    await apoll_until(there, f"{rows} rows and {outcomes} labels of {name} to be stored", 60, every_s=0.25)


async def test_a_data_set_lives(stack: LocalStack, client: AsyncLeptonClient, tmp_path: Path) -> None:
    name, datasets = f"life-{uuid.uuid4().hex[:8]}", client.datasets
    await fill(stack, client, name)
    table = polars.DataFrame({"event_id": [f"e-{one}" for one in range(ROWS)],
                              "label": [one % 4 == 0 for one in range(ROWS)]})
    table.write_csv(tmp_path / "labels.csv")
    assert await datasets.label(name, tmp_path / "labels.csv") == ROWS
    await stored(client, name, ROWS, ROWS)
    assert await datasets.label(name, [{"event_id": "e-0", "label": False}]) == 1
    await stored(client, name, ROWS, ROWS + 1)

    profile = await datasets.profile(name)
    assert (profile.rows, profile.entities) == (ROWS, CUSTOMERS)
    assert profile.fields["price"]["mean"] == (ROWS - 1) / 2 and profile.fields["colour"]["distinct"] == 2

    frozen = await datasets.snapshot(name)
    assert await datasets.snapshot(name) == frozen, "the same rows have the same id"
    split = await datasets.split(frozen, by="entity", seed=11)
    parts = [await part.to_polars() for part in (split.train, split.validation, split.test)]
    assert sum(part.height for part in parts) == ROWS
    entities = [set(part["_entity"]) for part in parts]
    assert sum(map(len, entities)) == len(set.union(*entities)) == CUSTOMERS

    out = await datasets.export(frozen, tmp_path / "rows.parquet")
    rows = polars.read_parquet(out).sort("price")
    assert rows["_event_id"].to_list() == [f"e-{one}" for one in range(ROWS)]
    assert rows["_label"].to_list() == [one % 4 == 0 and one > 0 for one in range(ROWS)], "the correction counts"
    tensors = await datasets.rows(frozen, labelled=True).to_torch()
    assert isinstance(tensors, torch.utils.data.TensorDataset) and len(tensors) == ROWS

    assert (await datasets.erase(name, "c-7", dry_run=True)).rows == ROWS // CUSTOMERS
    erased = await datasets.erase(name, "c-7")
    assert (erased.rows, erased.outcomes, erased.snapshots) == (30, 30, 1)
    assert (await datasets.job(name, erased.job_id))["state"] == "DONE"
    after = await datasets.get_snapshot(name, frozen.id)
    assert (after.rows, after.rows_taken, after.erased[0]["rows"]) == (ROWS - 30, ROWS, 30)
    for source in (name, after):
        left = await datasets.rows(source).to_polars()
        assert left.height == ROWS - 30 and "c-7" not in set(left["_entity"])


async def test_an_erasure_outlives_ingest_killed_in_the_middle(stack: LocalStack, client: AsyncLeptonClient) -> None:
    name = f"kill-{uuid.uuid4().hex[:8]}"
    await fill(stack, client, name)
    frozen = await client.datasets.snapshot(name)
    stack.kill("ingest", signal.SIGKILL)
    erasing = asyncio.ensure_future(client.datasets.erase(name, "c-3"))

    async def back() -> bool:
        return await stack.is_ready("ingest")

    await apoll_until(back, "ingest to be back", 60, every_s=0.25)
    stack.kill("ingest", signal.SIGKILL)
    done = await erasing
    assert (done.rows, done.snapshots) == (ROWS // CUSTOMERS, 1)
    for source in (name, frozen):
        assert "c-3" not in set((await client.datasets.rows(source, columns=["_entity"]).to_polars())["_entity"])
    # What is on the log stays out also of a chain that goes on.
    await stack.post_text(f"/v1/pipelines/{name}/events", "\n".join(
        json.dumps({**event(number), "event_id": f"late-{number}"}) for number in range(2 * CUSTOMERS)),
        "application/x-ndjson")
    await stored(client, name, ROWS - 30 + 2 * CUSTOMERS - 2, 0)


async def test_rows_past_their_retention_are_gone(stack: LocalStack, client: AsyncLeptonClient) -> None:
    name = f"brief-{uuid.uuid4().hex[:8]}"
    await fill(stack, client, name, retention="30d")
    await stack.post_text("/v1/pipelines", PIPELINE.format(name=name, retention="1s"))
    await stored(client, name, 0, 0)
    assert (await client.datasets.rows(name).to_arrow()).num_rows == 0
