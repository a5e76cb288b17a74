"""The champion before answers instead by a signed command, everywhere, until the registry names another."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lepton.contracts import codec, topics
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb.recovery_pb2 import (
    RECOVERY_ACTION_FALL_BACK,
    RECOVERY_ACTION_RESTORE,
    RECOVERY_OUTCOME_DONE,
    RECOVERY_OUTCOME_REFUSED,
    RecoveryCommand,
    RecoveryResult,
)
from lepton.contracts.pb.telemetry_pb2 import INSTANCE_STATE_READY, Instance
from lepton.contracts.signing import Identity, TrustedKey, sign_message
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service
from services.predictor.app import assemble
from services.predictor.settings import PredictorSettings
from tests.harness.bus import read_all
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import World, amounts, world

ONE = {"amount": "float"}
GOOD, SLOW, NEXT = (Linear(ONE, bias=float(bias)) for bias in (1, 2, 3))


def watchdog(home: Path) -> Identity:
    identity = Identity.create(home / "keys", "watchdog")
    (home / "trust").mkdir(exist_ok=True)
    now = datetime.now(UTC)
    TrustedKey("watchdog", identity.public_bytes(), frozenset({"watchdog"}), now - timedelta(hours=1),
               now + timedelta(hours=1)).write(home / "trust")
    return identity


async def command(here: World, identity: Identity, action: Any, command_id: str, target: str = "model:tiny",
                  **arguments: str) -> RecoveryCommand:
    one = RecoveryCommand(command_id=command_id, action=action, target=target, arguments=arguments, cause="test",
                          issuer="watchdog", incident_id="inc-1", fence=1)
    one.issued_at.FromDatetime(datetime.now(UTC))
    one.expires_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=60))
    sign_message(identity, one)
    await send(here, one)
    return one


async def send(here: World, one: RecoveryCommand) -> None:
    await here.registry._producer.send(Topic.RECOVERY_COMMANDS, one, key=one.target)


async def results(here: World, count: int) -> list[RecoveryResult]:
    found: list[RecoveryResult] = []

    async def probe() -> bool:
        found[:] = [codec.decode_as(Topic.RECOVERY_RESULTS, RecoveryResult, one.value or b"")
                    for one in await read_all(here.broker, topics.name(Topic.RECOVERY_RESULTS))]
        return len(found) >= count
    await apoll_until(probe, f"{count} results", 30)
    return found


async def two_versions(here: World) -> None:
    for number, linear in enumerate((GOOD, SLOW), 1):
        await here.registry.publish("tiny", linear)
        await here.serving("tiny", number)


async def test_the_version_before_answers_until_another_is_promoted_and_the_registry_is_as_it_was(
        tmp_path: Path) -> None:
    identity = watchdog(tmp_path)
    async with world(tmp_path) as here:
        await two_versions(here)
        first = await command(here, identity, RECOVERY_ACTION_FALL_BACK, "c-1", from_version="2")
        await here.serving("tiny", 1)
        (done,) = await results(here, 1)
        assert (done.outcome, done.executor, done.incident_id, done.evidence) == (
            RECOVERY_OUTCOME_DONE, "predictor-0", "inc-1", "version 1 of tiny answers instead of version 2")
        # A revision with the same champion, and the same command, change nothing; what was left stays in memory.
        await here.registry.announce(here.registry.state("tiny"))
        await here.registry.publish("other", NEXT)
        await here.serving("other", 1)
        await send(here, first)
        assert (await results(here, 2))[1] == done
        by_number = amounts("tiny", 1.0)
        by_number.model_version = "2"
        assert (await here.stub.ModelInfer(by_number, metadata=here.metadata)).model_version == "2"
        assert (await here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata)).model_version == "1"
        await here.registry.publish("tiny", NEXT)
        await here.serving("tiny", 3)


async def test_a_process_that_begins_later_falls_back_too(tmp_path: Path) -> None:
    identity = watchdog(tmp_path)
    async with world(tmp_path) as here:
        await two_versions(here)
        await command(here, identity, RECOVERY_ACTION_FALL_BACK, "c-1", from_version="2")
        await here.serving("tiny", 1)
        settings = PredictorSettings(instance="predictor-1", port=0, device="cpu", trust_dir=tmp_path / "trust",
                                     state_dir=tmp_path / "state", heartbeat_interval_s=0.05, drain_s=4.0)
        service = Service("predictor", settings)
        assemble(settings, service, here.broker, here.database)
        running = asyncio.ensure_future(service.run())

        async def ready() -> list[int]:
            said = [codec.decode_as(Topic.INSTANCES, Instance, one.value or b"") for one in await read_all(
                here.broker, Topic.INSTANCES) if one.key == b"predictor-1" and one.value]
            return [model.version for one in said if one.state == INSTANCE_STATE_READY for model in one.models]

        try:
            assert set(await apoll_until(ready, "the second predictor to be ready", 30)) == {1}
        finally:
            service.request_stop()
            assert await asyncio.wait_for(running, 30) == 0


async def test_the_champion_answers_again_by_a_word(tmp_path: Path) -> None:
    identity = watchdog(tmp_path)
    async with world(tmp_path) as here:
        await two_versions(here)
        await command(here, identity, RECOVERY_ACTION_FALL_BACK, "c-1", from_version="2")
        await here.serving("tiny", 1)
        await command(here, identity, RECOVERY_ACTION_RESTORE, "c-2")
        await here.serving("tiny", 2)
        assert (await results(here, 2))[1].evidence == "version 2 of tiny answers"


@pytest.mark.parametrize(("arguments", "why"), [
    ({"from_version": "1"}, "not the champion"),
    ({}, "number of the version"),
])
async def test_what_makes_no_sense_is_refused_with_the_reason(tmp_path: Path, arguments: dict[str, str],
                                                              why: str) -> None:
    identity = watchdog(tmp_path)
    async with world(tmp_path) as here:
        await two_versions(here)
        await command(here, here.registry.identity, RECOVERY_ACTION_FALL_BACK, "c-0", from_version="2")
        await command(here, identity, RECOVERY_ACTION_FALL_BACK, "c-1", **arguments)
        (refused,) = await results(here, 1)
        assert (refused.command_id, refused.outcome) == ("c-1", RECOVERY_OUTCOME_REFUSED)
        assert why in refused.evidence
        await here.serving("tiny", 2)


async def test_a_version_that_was_promoted_again_since_is_not_left_by_a_command_of_before(tmp_path: Path) -> None:
    identity = watchdog(tmp_path)
    async with world(tmp_path) as here:
        await two_versions(here)
        state = here.registry.state("tiny")
        state.champions.add(version=2).since.FromDatetime(datetime.now(UTC) + timedelta(seconds=30))
        await here.registry.announce(state)
        await here.registry.publish("other", NEXT)
        await here.serving("other", 1)
        await command(here, identity, RECOVERY_ACTION_FALL_BACK, "c-1", from_version="2")
        (refused,) = await results(here, 1)
        assert refused.outcome == RECOVERY_OUTCOME_REFUSED and "promoted after the command" in refused.evidence
        await here.serving("tiny", 2)


async def test_with_nothing_before_it_the_champion_stays(tmp_path: Path) -> None:
    identity = watchdog(tmp_path)
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
        await command(here, identity, RECOVERY_ACTION_FALL_BACK, "c-1", from_version="1")
        assert "nothing of tiny can answer instead" in (await results(here, 1))[0].evidence
        await here.serving("tiny", 1)


async def test_while_the_champion_cannot_be_had_the_one_before_answers_from_this_machine(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
        before = here.registry.state("tiny")
        await here.registry.send("tiny", None)

        async def gone() -> bool:
            index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=here.metadata)
            return not index.models

        await apoll_until(gone, "the model to be gone", 10)
        here.registry._states["tiny"] = before
        await here.registry.publish("tiny", SLOW, store=False)
        await here.serving("tiny", 1)
        await here.registry.artifacts.put(SLOW.build())
        await here.serving("tiny", 2)
