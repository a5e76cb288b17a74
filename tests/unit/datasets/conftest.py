"""Gateway and ingest in the test's own process, over one broker and one database in memory."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest_asyncio

from lepton.bus.memory import MemoryBroker
from lepton.store.memory import MemoryDatabase
from tests.harness.wait import apoll_until
from tests.unit.gateway.house import House, open_house
from tests.unit.ingest import house as ingest

PIPELINE = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events:
  id: event_id
  entity: customer
  partitions: 2
  fields:
    price: {type: float}
    colour: {type: category}
  label: {field: bought, type: bool, arrives: later}
"""
CUSTOMERS = 7


def event(number: int) -> dict[str, Any]:
    return {"event_id": f"sale-{number}", "customer": f"buyer-{number % CUSTOMERS}", "price": float(number),
            "colour": ("red", "blue", None)[number % 3], "occurred_at": f"2026-01-{1 + number % 28:02d}T00:00:00Z"}


@dataclass
class World:
    """What a user sees of both."""

    gateway: House
    database: MemoryDatabase
    broker: MemoryBroker
    folder: Path

    @property
    def api(self) -> httpx.AsyncClient:
        return self.gateway.admin

    async def send(self, *numbers: int, labels: bool = True) -> None:
        """Events, and for even ones the label whether the number divides by four; returned once stored."""
        before = await self.dataset()
        assert (await self.api.post("/v1/pipelines/shop/events", json=[event(one) for one in numbers])).is_success
        even = [one for one in numbers if one % 2 == 0]
        if labels and even:
            assert (await self.label(*({"event_id": f"sale-{one}", "entity": f"buyer-{one % CUSTOMERS}",
                                        "label": one % 4 == 0} for one in even))).is_success
        await self.stored(before["rows"] + len(numbers), before["outcomes"] + (len(even) if labels else 0))

    async def label(self, *labels: Mapping[str, Any]) -> httpx.Response:
        return await self.api.post("/v1/datasets/shop/labels", content="\n".join(json.dumps(one) for one in labels),
                                   headers={"content-type": "application/x-ndjson"})

    async def stored(self, rows: int, outcomes: int) -> None:
        async def there() -> bool:
            now = await self.dataset()
            return bool((now["rows"], now["outcomes"]) == (rows, outcomes))

        await apoll_until(there, f"{rows} rows and {outcomes} labels to be stored")

    async def dataset(self) -> dict[str, Any]:
        answer = await self.api.get("/v1/datasets/shop")
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def done(self, asked: httpx.Response) -> dict[str, Any]:
        """The job once it ended."""
        assert asked.status_code == 202, asked.text
        path = f"/v1/datasets/shop/jobs/{asked.json()['job_id']}"

        async def ended() -> dict[str, Any] | None:
            answer = await self.api.get(path)
            assert answer.is_success, answer.text
            job: dict[str, Any] = answer.json()
            return job if job["state"] in ("DONE", "FAILED") else None

        found = await apoll_until(ended, f"{path} to end")
        assert found is not None
        return found

    async def snapshot(self, **wanted: Any) -> str:
        job = await self.done(await self.api.post("/v1/datasets/shop/snapshots", json=wanted))
        assert job["state"] == "DONE", job
        return str(job["result"]["snapshot"])

    async def rows(self, **parameters: Any) -> pa.Table:
        answer = await self.api.get("/v1/datasets/shop/rows", params=parameters)
        assert answer.is_success, answer.text
        if parameters.get("format") == "parquet":
            return pq.read_table(BytesIO(answer.content))
        return pa.ipc.open_stream(answer.content).read_all()

    async def ids(self, **parameters: Any) -> list[str]:
        found: Sequence[str] = (await self.rows(**parameters)).column("_event_id").to_pylist()
        return sorted(found, key=lambda one: int(one.removeprefix("sale-")))


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    broker, database = MemoryBroker(), MemoryDatabase()
    beside = ingest.House(tmp_path, broker, database)
    await beside.furnish()
    async with (open_house(tmp_path, broker, database) as gateway, ingest.living(beside, retention_interval_s=0.1)):
        assert (await gateway.apply(PIPELINE)).is_success
        yield World(gateway, database, broker, tmp_path)
