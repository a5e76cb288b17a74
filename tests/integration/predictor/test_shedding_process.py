"""The real process sheds by a signed command, at either door, and so does the one after it, until it is undone."""

import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from lepton.bus.producer import Producer
from lepton.contracts import codec
from lepton.contracts.pb.recovery_pb2 import (
    RECOVERY_ACTION_RESTORE,
    RECOVERY_ACTION_SHED,
    RecoveryCommand,
    RecoveryResult,
)
from lepton.contracts.signing import Identity, sign_message
from lepton.contracts.topics import Topic
from tests.harness.bus import read_all
from tests.harness.doors import DOORS, SETTING
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.integration.predictor.conftest import Ground, amounts
from tests.integration.predictor.test_predictor import serving
from tests.unit.predictor.test_falling_back import watchdog

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]

LONG_S = 120


async def answered(stub: Any, metadata: Any, model: str) -> list[int]:
    """Which priorities are answered; 0 names none."""
    found = []
    for priority in (1, 2, 3, 0):
        request = amounts(model, 1.0)
        if priority:
            request.parameters["priority"].int64_param = priority
        try:
            await stub.ModelInfer(request, metadata=metadata, timeout=LONG_S)
            found.append(priority)
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert float(dict(error.trailing_metadata() or ())["retry-after-s"]) > 0
    return found


async def obeyed(ground: Ground, identity: Identity, command: RecoveryCommand) -> str:
    """The evidence of whoever carried the command out first."""
    command.issuer, command.fence = "watchdog", 1
    command.issued_at.FromDatetime(datetime.now(UTC))
    command.expires_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=LONG_S))
    sign_message(identity, command)
    producer = Producer(ground.broker, "test")
    await producer.start()
    await producer.send(Topic.RECOVERY_COMMANDS, command, key=command.target)
    await producer.stop()

    async def probe() -> str:
        told = [codec.decode_as(Topic.RECOVERY_RESULTS, RecoveryResult, one.value or b"")
                for one in await read_all(ground.broker, Topic.RECOVERY_RESULTS)]
        return next((one.evidence for one in told if one.command_id == command.command_id), "")
    return str(await apoll_until(probe, f"an answer to {command.command_id}", LONG_S))


async def test_what_matters_is_answered_over_a_kill_and_all_of_it_in_the_end(ground: Ground, model: str) -> None:
    identity = watchdog(ground.home)
    await ground.registry.apply(model, {"amount": "float"}, batching={"priority_levels": 3, "default_priority": 2})
    await ground.registry.publish(model, Linear({"amount": "float"}))
    metadata = (("authorization", await ground.registry.key()),)
    async with ground.predictor(**{SETTING: DOORS[-1]}) as predictor, ground.stub(predictor) as stub:
        await serving(stub, metadata, model, 1)
        assert await answered(stub, metadata, model) == [1, 2, 3, 0]
        said = await obeyed(ground, identity, RecoveryCommand(
            command_id=f"{model}-1", action=RECOVERY_ACTION_SHED, target=f"model:{model}",
            arguments={"keep": "1", "for_s": "3600"}))
        assert said.startswith(f"requests of {model} after priority 1 are turned away here for ")
        assert await answered(stub, metadata, model) == [1, 0]
        await predictor.metric(f'lepton_predictor_shed_requests_total{{level="3",model="{model}"}} 1.0')
        predictor.process.send_signal(signal.SIGKILL)
        predictor.process.wait()
    async with ground.predictor(**{SETTING: DOORS[0]}) as predictor, ground.stub(predictor) as stub:
        assert await answered(stub, metadata, model) == [1, 0]
        said = await obeyed(ground, identity, RecoveryCommand(
            command_id=f"{model}-2", action=RECOVERY_ACTION_RESTORE, target=f"model:{model}",
            arguments={"what": "shed"}))
        assert said == f"requests of {model} are shed no more"
        assert await answered(stub, metadata, model) == [1, 2, 3, 0]
