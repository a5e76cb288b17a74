"""Who calls whom, from a call to the table: counted by a gateway, told by its heartbeats, kept by a watchdog."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from lepton.bus.memory import MemoryBroker
from lepton.contracts.pb.telemetry_pb2 import (
    CALL_WAY_READ,
    CALL_WAY_UNSPECIFIED,
    CALL_WAY_WRITE,
    INSTANCE_STATE_READY,
    Calls,
    Telemetry,
)
from lepton.contracts.topics import Topic
from lepton.store.calls.graph import Dependencies
from lepton.store.memory import MemoryDatabase
from services.watchdog.flow import depending
from tests.unit.gateway.house import open_house, predictor
from tests.unit.watchdog.house import House as Watched

ROWS = "lepton-features-shop"


def edges(response: httpx.Response) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(one["caller"], one["way"], one["callee"]): one for one in response.json()}


async def test_calls_of_a_real_gateway_show_as_its_dependencies(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depending, "EVERY_S", 0.2)
    broker, database = MemoryBroker(), MemoryDatabase()
    around = Watched(tmp_path, broker, database)
    await around.furnish()
    assert await Dependencies(database).list() == []
    async with around.watched(), open_house(tmp_path, broker, database) as house, predictor(house) as (_, server):
        body = {"rows": [{"price": 2.5}]}
        assert (await house.admin.post("/v1/models/shop/predict", json=body)).is_success
        await server.stop(0)
        assert (await house.admin.post("/v1/models/shop/predict", json=body)).status_code == 503
        await around.write(Topic.TELEMETRY, Telemetry(
            instance="ingest-1", service="ingest", boot_id="b", sequence=1, state=INSTANCE_STATE_READY, calls=[
                Calls(way=CALL_WAY_WRITE, callee=ROWS, count=4, seconds=0.5),
                Calls(way=CALL_WAY_READ, callee="lepton-events-shop", count=7),
                Calls(way=CALL_WAY_UNSPECIFIED, callee="of a later release", count=1)]), "ingest-1")

        def told(response: httpx.Response) -> bool:
            return ("ingest-1", "write", ROWS) in edges(response) and edges(response).get(
                ("gateway", "request", "predictor-0"), {}).get("failed", 0) > 0

        found = edges(await house.until("/v1/dependencies", told, "the gateway's calls", 60))
    asked = found["gateway", "request", "predictor-0"]
    assert asked["calls"] > asked["failed"]
    assert asked["mean_ms"] > 0
    assert {("gateway", "database", "database"), ("gateway", "write", "broker"), ("gateway", "read", "broker"),
            ("shop-watchdog", "database", "database"), ("shop-watchdog", "read", "broker")} <= set(found)
    assert found["ingest-1", "write", ROWS]["mean_ms"] == 125
    assert found["ingest-1", "read", "lepton-events-shop"]["mean_ms"] is None
    assert not [one for one in found if one[2] == "of a later release"]
    await around.leave()
