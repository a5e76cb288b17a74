"""A client is held back by a signed command, at every door alike, for its time or until it is let go."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from lepton.bus.memory import MemoryBroker
from lepton.contracts.pb.recovery_pb2 import (
    RECOVERY_ACTION_RESTORE,
    RECOVERY_ACTION_THROTTLE,
    RECOVERY_OUTCOME_DONE,
    RECOVERY_OUTCOME_REFUSED,
    RecoveryCommand,
    RecoveryResult,
)
from lepton.contracts.signing import Identity, TrustedKey, sign_message
from lepton.contracts.topics import Topic
from lepton.errors import Busy
from lepton.store.memory import MemoryDatabase
from services.gateway.core.clients import Clients
from tests.harness.wait import apoll_until
from tests.unit.gateway.house import House, open_house, predictor
from tests.unit.gateway.test_access import assert_problem
from tests.unit.gateway.test_models import publish

PREDICT = "/v1/models/shop/predict"
ROWS = {"rows": [{"price": 2.5}]}


def trusted(folder: Path) -> Identity:
    """A watchdog whose commands gateways of `folder` obey."""
    identity = Identity.create(folder / "watchdog", "watchdog")
    (folder / "trust").mkdir()
    now = datetime.now(UTC)
    TrustedKey("watchdog", identity.public_bytes(), frozenset({"watchdog"}), now - timedelta(hours=1),
               now + timedelta(hours=1)).write(folder / "trust")
    return identity


async def command(house: House, identity: Identity, action: Any, command_id: str, key_id: str, issued_s_ago: float = 0,
                  **arguments: str) -> RecoveryResult:
    """What the gateway answered to it."""
    one = RecoveryCommand(command_id=command_id, action=action, target=f"client:{key_id}", arguments=arguments,
                          issuer="watchdog", incident_id="inc-1", fence=1)
    issued = datetime.now(UTC) - timedelta(seconds=issued_s_ago)
    one.issued_at.FromDatetime(issued)
    one.expires_at.FromDatetime(issued + timedelta(minutes=14))
    sign_message(identity, one)
    await house.announce(Topic.RECOVERY_COMMANDS, one.target, one)

    async def answered() -> RecoveryResult | None:
        found: list[RecoveryResult] = await house.messages(Topic.RECOVERY_RESULTS)
        return next((result for result in found if result.command_id == command_id), None)
    result = await apoll_until(answered, f"an answer to {command_id}", 30)
    assert result is not None
    return result


async def until_held(client: httpx.AsyncClient) -> httpx.Response:
    """The first answer that says no: a second's worth goes through before."""
    for _ in range(20):
        response = await client.post(PREDICT, json=ROWS)
        if response.status_code != 200:
            return response
    raise AssertionError("20 requests at once went through")


async def test_a_throttled_key_is_told_when_to_come_again_and_others_go_on(tmp_path: Path) -> None:
    identity = trusted(tmp_path)
    async with open_house(tmp_path, trust_dir=tmp_path / "trust") as house, predictor(house) as (said, _):
        await publish(house)
        made = (await house.admin.post("/v1/keys", json={"scopes": ["predict"]})).json()
        client, other = house.client(made["key"]), await house.with_scopes("predict")
        done = await command(house, identity, RECOVERY_ACTION_THROTTLE, "c-1", made["key_id"], rate_per_s="0.05",
                             for_s="600")
        assert (done.outcome, done.executor, done.incident_id) == (RECOVERY_OUTCOME_DONE, "gateway", "inc-1")
        assert done.evidence.startswith(f"{made['key_id']} may make 0.05 requests a second here")
        held = await until_held(client)
        assert_problem(held, 429)
        assert 1 <= int(held.headers["retry-after"]) <= 20
        assert "throttled" in held.json()["detail"]
        refused = await client.post("/v2/models/shop/infer", json={"inputs": []})
        assert (refused.status_code, "throttled" in refused.json()["error"]) == (429, True)
        asked = len(said.asked)
        assert [(await other.post(PREDICT, json=ROWS)).status_code for _ in range(5)] == [200] * 5
        assert len(said.asked) == asked + 5
        again = await command(house, identity, RECOVERY_ACTION_RESTORE, "c-2", made["key_id"])
        assert again.evidence == f"{made['key_id']} is throttled no more"
        assert [(await client.post(PREDICT, json=ROWS)).status_code for _ in range(5)] == [200] * 5
        await heard(house, made["key"])


async def heard(house: House, key: str) -> None:
    """Heartbeats say who asked and who was held back, and nothing that would let one in."""
    async def told() -> bool:
        found = [one for beat in await house.messages(Topic.TELEMETRY) for one in beat.measurements
                 if one.attributes.get("key")]
        asked = sum(one.value for one in found if one.name == "lepton_gateway_key_requests")
        held = sum(one.value for one in found if one.name == "lepton_gateway_key_throttled")
        return bool(asked == 11 and held == 2)
    await apoll_until(told, "11 requests and 2 held back to be told", 30)
    beats = await house.messages(Topic.TELEMETRY)
    assert not any(key.partition(".")[2] in str(beat) for beat in beats)


async def test_one_that_begins_later_holds_back_for_what_is_left_and_no_longer(tmp_path: Path) -> None:
    identity, broker, database = trusted(tmp_path), MemoryBroker(), MemoryDatabase()
    async with open_house(tmp_path, broker, database, trust_dir=tmp_path / "trust") as house:
        made = [(await house.admin.post("/v1/keys", json={"scopes": ["predict"]})).json() for _ in range(2)]
        await command(house, identity, RECOVERY_ACTION_THROTTLE, "c-1", made[0]["key_id"], rate_per_s="0.01",
                      for_s="600")
        over = await command(house, identity, RECOVERY_ACTION_THROTTLE, "c-2", made[1]["key_id"], issued_s_ago=60,
                             rate_per_s="0.01", for_s="30")
        assert over.evidence == f"the time in which {made[1]['key_id']} was throttled is over"
    async with open_house(tmp_path, broker, database, trust_dir=tmp_path / "trust") as house, predictor(house):
        assert (await until_held(house.client(made[0]["key"]))).status_code == 429
        free = house.client(made[1]["key"])
        assert [(await free.post(PREDICT, json=ROWS)).status_code for _ in range(5)] == [200] * 5


@pytest.mark.parametrize(("arguments", "field"), [
    ({"rate_per_s": "0", "for_s": "60"}, "arguments.rate_per_s"), ({"for_s": "60"}, "arguments.rate_per_s"),
    ({"rate_per_s": "nan", "for_s": "60"}, "arguments.rate_per_s"),
    ({"rate_per_s": "1", "for_s": "-1"}, "arguments.for_s"), ({"rate_per_s": "1", "for_s": "1e9"}, "arguments.for_s")])
async def test_a_throttle_that_says_no_rate_or_no_time_is_refused(tmp_path: Path, arguments: dict[str, str],
                                                                  field: str) -> None:
    identity = trusted(tmp_path)
    async with open_house(tmp_path, trust_dir=tmp_path / "trust") as house:
        result = await command(house, identity, RECOVERY_ACTION_THROTTLE, "c-1", "lk_1111111111111111", 0, **arguments)
        assert result.outcome == RECOVERY_OUTCOME_REFUSED
        assert field in result.evidence and "above 0" in result.evidence


def test_of_many_keys_the_five_that_ask_most_are_named() -> None:
    clients = Clients()
    for number in range(8):
        for _ in range(number + 1):
            clients.asked("shop", f"lk_{number}")
    clients.asked("kiln", "lk_0")
    assert clients.take_asked() == [("shop", "lk_7", 8), ("shop", "lk_6", 7), ("shop", "lk_5", 6), ("shop", "lk_4", 5),
                                    ("shop", "lk_3", 4), ("shop", "", 6), ("kiln", "lk_0", 1)]
    assert clients.take_asked() == []


def test_a_throttle_lets_through_its_rate_and_ends_with_its_time() -> None:
    clients = Clients()
    clients.throttle("lk_1", 2.0, until=100.0)
    let = 0
    for tenth in range(1000):
        try:
            clients.enter("lk_1", tenth / 10)
        except Busy as error:
            assert 0 < error.retry_after_s <= 0.5
        else:
            let += 1
    assert let == 2 + 2 * 99 + 1
    assert clients.take_held() == [("lk_1", 1000 - let)]
    for _ in range(50):
        clients.enter("lk_1", 100.0)
