"""Who orders a drain is told at once why it cannot be; a gateway is drained as a predictor is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from lepton.contracts.pb import telemetry_pb2
from lepton.contracts.signing import Identity, TrustedKey
from lepton.contracts.topics import Topic
from tests.harness.bus import repeated
from tests.harness.wait import apoll_until
from tests.unit.gateway.house import House, open_house, predictor
from tests.unit.gateway.test_access import assert_problem
from tests.unit.gateway.test_models import operator_keys


async def order(house: House, target: str, action: str = "DRAIN", **arguments: str) -> httpx.Response:
    return await house.admin.post("/v1/recovery", json={
        "action": action, "target": target, "arguments": arguments})


async def announce(house: House, name: str, service: str, state: "telemetry_pb2.InstanceState.ValueType") -> None:
    one = telemetry_pb2.Instance(instance=name, service=service, boot_id="b", state=state)
    one.at.GetCurrentTime()
    await house.announce(Topic.INSTANCES, name, one)


async def say(house: House, name: str, service: str, state: "telemetry_pb2.InstanceState.ValueType") -> None:
    """Announce it, and wait until it is shown."""
    await announce(house, name, service, state)
    shown = telemetry_pb2.InstanceState.Name(state).removeprefix("INSTANCE_STATE_")

    def is_shown(said: httpx.Response) -> bool:
        return any(one["instance"] == name and one["state"] == shown for one in said.json())
    await house.until("/v1/instances", is_shown, f"{name} to be {shown}")


async def test_an_order_to_drain_the_last_that_is_ready_is_refused_with_the_reason(tmp_path: Path) -> None:
    operator_keys(tmp_path)
    async with open_house(tmp_path) as house, predictor(house, "predictor-0"):
        await say(house, "predictor-1", "predictor", telemetry_pb2.INSTANCE_STATE_NOT_READY)
        await say(house, "trainer", "trainer", telemetry_pb2.INSTANCE_STATE_READY)
        refused = await order(house, "instance:predictor-0")
        assert_problem(refused, 409, field="target")
        assert "predictor-0 is the last predictor that is ready" in refused.json()["detail"]
        assert_problem(await order(house, "instance:gateway"), 409, field="target")
        assert_problem(await order(house, "instance:trainer"), 404, field="target")
        assert_problem(await order(house, "service:predictor"), 422, field="target")
        assert await house.messages(Topic.RECOVERY_COMMANDS) == []
        await say(house, "predictor-1", "predictor", telemetry_pb2.INSTANCE_STATE_READY)
        told = await order(house, "instance:predictor-0")
        assert (told.status_code, told.json()["executor"]) == (202, "predictor-0")
        assert (await order(house, "instance:predictor-0", "RESTORE")).json()["executor"] == "predictor-0"
        assert (await order(house, "client:lk_1", "RESTORE")).json()["executor"] == "gateway"


async def test_a_gateway_beside_another_is_drained_by_an_order_and_let_go(tmp_path: Path) -> None:
    operator_keys(tmp_path)
    (tmp_path / "trust").mkdir()
    now = datetime.now(UTC)
    TrustedKey("operator", Identity.load(tmp_path / "keys" / "operator.json").public_bytes(), frozenset({"operator"}),
               now - timedelta(hours=1), now + timedelta(hours=1)).write(tmp_path / "trust")
    async with open_house(tmp_path, trust_dir=tmp_path / "trust") as house:
        async def told(count: int) -> list[str]:
            found = [one.evidence for one in await house.messages(Topic.RECOVERY_RESULTS)]
            return found if len(found) >= count else []
        await say(house, "gateway-1", "gateway", telemetry_pb2.INSTANCE_STATE_READY)
        async with repeated(lambda: announce(house, "gateway-1", "gateway", telemetry_pb2.INSTANCE_STATE_READY)):
            ordered = await order(house, "instance:gateway", within_s="300", for_s="600")
            assert ordered.status_code == 202
            (drained,) = await apoll_until(lambda: told(1), "the drain to be answered", 30)
        assert "gateway has no more requests" in drained
        assert house.service.health.report()["state"] == "draining"
        assert (await house.admin.get("/v1/pipelines")).status_code == 200
        assert (await order(house, "instance:gateway", "RESTORE")).status_code == 202
        assert (await apoll_until(lambda: told(2), "the release to be answered", 30))[1] == "gateway serves again"
        assert house.service.health.ready
