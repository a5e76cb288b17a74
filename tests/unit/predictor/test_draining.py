"""A predictor that is drained says so, ends the requests it has, at either door, and serves again when let go."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lepton.contracts import codec, topics
from lepton.contracts.pb.recovery_pb2 import (
    RECOVERY_ACTION_DRAIN,
    RECOVERY_ACTION_RESTORE,
    RECOVERY_OUTCOME_DONE,
    RecoveryCommand,
)
from lepton.contracts.pb.telemetry_pb2 import INSTANCE_STATE_DRAINING, INSTANCE_STATE_READY, Instance, Telemetry
from lepton.contracts.signing import Identity, sign_message
from lepton.contracts.topics import Topic
from tests.harness.bus import read_all, repeated
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.conftest import Gate
from tests.unit.predictor.test_falling_back import results, send, watchdog
from tests.unit.predictor.test_pressure import MANY, ONE
from tests.unit.predictor.world import World, amounts, world

pytestmark = pytest.mark.usefixtures("door")


async def order(here: World, identity: Identity, action: Any, command_id: str,
                **arguments: str) -> None:
    one = RecoveryCommand(command_id=command_id, action=action, target="instance:predictor-0", issuer="watchdog",
                          fence=1, arguments=arguments)
    one.issued_at.FromDatetime(datetime.now(UTC))
    one.expires_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=60))
    sign_message(identity, one)
    await send(here, one)


async def test_what_it_was_asked_is_answered_before_it_says_that_it_is_drained(tmp_path: Path, gate: Gate) -> None:
    identity = watchdog(tmp_path)
    async with world(tmp_path) as here:
        await here.registry.publish("slow", Linear(ONE, hidden=1024))
        await here.serving("slow", 1)
        other = Instance(instance="predictor-1", service="predictor", boot_id="b", state=INSTANCE_STATE_READY)
        gate.close()
        call = asyncio.ensure_future(here.stub.ModelInfer(amounts("slow", *MANY, 7.0), metadata=here.metadata))
        await gate.holds()

        async def beside() -> None:
            await here.registry._producer.send(Topic.INSTANCES, other, key="predictor-1")

        async def drained() -> bool:
            beats = [codec.decode_as(Topic.TELEMETRY, Telemetry, one.value or b"")
                     for one in await read_all(here.broker, topics.name(Topic.TELEMETRY))]
            return beats[-1].drained and beats[-1].state == INSTANCE_STATE_DRAINING
        async with repeated(beside):
            await order(here, identity, RECOVERY_ACTION_DRAIN, "c-1", within_s="300", for_s="600")
            await apoll_until(drained, "heartbeats to say so", 30)
            assert await read_all(here.broker, topics.name(Topic.RECOVERY_RESULTS)) == []
            gate.open()
            assert (await call).model_version == "1"
            (done,) = await results(here, 1)
        assert (done.outcome, done.executor) == (RECOVERY_OUTCOME_DONE, "predictor-0")
        assert "predictor-0 has no more requests" in done.evidence
        await order(here, identity, RECOVERY_ACTION_RESTORE, "c-2")
        assert (await results(here, 2))[1].evidence == "predictor-0 serves again"
        assert here.service.health.ready
