"""A file sent into the real stack while its gateway is killed: every row once, by a reader that trusts no counter."""

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lepton_ai import AsyncLeptonClient, Upload
from lepton_ai._files import uploading
from tests.harness.ledger import Tail, ids_of_features
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(300)]

ROWS = 20_000
PIPELINE = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {name}}}
events:
  entity: customer
  partitions: 4
  fields:
    price: {{type: float}}
    items: {{type: int}}
"""


def csv(path: Path) -> Path:
    path.write_text("customer,price,items\n" + "".join(
        f"c-{n % 50},{n / 8},{n % 9}{'.5' if n == 777 else ''}\n" for n in range(ROWS)), "utf-8")
    return path


def parquet(path: Path) -> Path:
    items = [float(n % 9) + (0.5 if n == 777 else 0) for n in range(ROWS)]
    table = pa.table({"customer": [f"c-{n % 50}" for n in range(ROWS)], "price": [n / 8 for n in range(ROWS)],
                      "items": pa.array(items).cast(pa.float64())})
    pq.write_table(table, path, row_group_size=3000)
    return path


@pytest.mark.parametrize(("write", "name"), [(csv, "people.csv"), (parquet, "people.parquet")], ids=["csv", "parquet"])
async def test_every_row_counts_once_though_the_gateway_is_killed_in_the_middle(
        stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Path],
        name: str) -> None:
    monkeypatch.setattr(uploading, "PIECE_BYTES", 16 * 1024)
    pipeline = f"file-{uuid.uuid4().hex[:8]}"
    await stack.post_text("/v1/pipelines", PIPELINE.format(name=pipeline))
    path = write(tmp_path / name)
    key_id, _, secret = stack.key.partition(".")
    killed: list[int] = []

    def kill_once(upload: Upload) -> None:
        if not killed and upload.offset > upload.size // 2 and (upload.format == "csv" or upload.rows > 0):
            killed.append(stack.kill("gateway"))

    async with Tail(stack.kafka, f"lepton-features-{pipeline}", ids_of_features, "") as features:
        async with AsyncLeptonClient(key_id, secret, stack.rest) as client:
            done = await client.upload(pipeline, path, kill_once)
            assert killed, "the upload ended before the gateway could be killed"
            assert (done.done, done.rows, done.refused) == (True, ROWS, 0)
            assert await client.upload(pipeline, path) == done
        # Row 778 has a fraction where an int belongs.
        expected = [f"{done.id}-{n}" for n in range(1, ROWS + 1) if n != 778]

        async def arrived() -> bool:
            await features.read()
            return not features.missing(expected)

        await apoll_until(arrived, "every row among the features", 120)
        await features.read()
    assert not features.doubled()
    assert set(features.seen) == set(expected)

    async def told() -> list[dict[str, str]]:
        return list(await stack.get(f"/v1/pipelines/{pipeline}/dead-letters?source=file/{name}"))

    letters = await apoll_until(told, "the refused row", 60)
    assert {(letter["row"], letter["field"]) for letter in letters} == {(f"{name}:778", "items")}
    assert json.loads(letters[0]["text"])["items"] == 777 % 9 + 0.5

    async def ready() -> bool:
        return await stack.is_ready("gateway")

    await apoll_until(ready, "the gateway to be ready", 60)


async def test_uploads_go_on_beside_events_of_other_senders(stack: LocalStack, tmp_path: Path) -> None:
    pipeline = f"file-{uuid.uuid4().hex[:8]}"
    await stack.post_text("/v1/pipelines", PIPELINE.format(name=pipeline))
    path = csv(tmp_path / "people.csv")
    key_id, _, secret = stack.key.partition(".")
    async with (Tail(stack.kafka, f"lepton-features-{pipeline}", ids_of_features, "") as features,
                AsyncLeptonClient(key_id, secret, stack.rest) as client):
        sending = asyncio.ensure_future(client.upload(pipeline, path))
        for number in range(50):
            await stack.post(f"/v1/pipelines/{pipeline}/events", {
                "event_id": f"live-{number}", "customer": "c-1", "price": number, "items": 1})
        done = await sending
        expected = [*(f"live-{n}" for n in range(50)), *(f"{done.id}-{n}" for n in range(1, ROWS + 1) if n != 778)]

        async def arrived() -> bool:
            await features.read()
            return not features.missing(expected)

        await apoll_until(arrived, "rows and events", 120)
    assert not features.doubled()
