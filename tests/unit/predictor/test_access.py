"""Who may call what, with which key, for how long; and what probes see without one."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lepton.contracts.apikeys import Scope, bearer, new_key
from lepton.contracts.pb import grpc_service_pb2 as oip
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import amounts, status, world

pytestmark = pytest.mark.usefixtures("door")

ONE = {"amount": "float"}


async def test_calls_need_a_key_with_scope_predict(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        reader, admin = await here.registry.key(Scope.READ), await here.registry.key(Scope.ADMIN)
        key_id, secret, _ = new_key()
        wrong = here.metadata[0][1][:-1] + ("a" if here.metadata[0][1][-1] != "a" else "b")
        cases = [(header, grpc.StatusCode.UNAUTHENTICATED)
                 for header in (None, "Bearer nonsense", bearer(key_id, secret), wrong)]
        for header, code in [*cases, (reader, grpc.StatusCode.PERMISSION_DENIED)]:
            metadata = (("authorization", header),) if header else ()
            found, said = await status(here.stub.ModelInfer(amounts("tiny", 1.0), metadata=metadata))
            assert found == code
            assert secret not in said
        await here.stub.ModelInfer(amounts("tiny", 1.0), metadata=(("authorization", admin),))


async def test_probes_health_and_reflection_need_no_key(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        assert (await here.stub.ServerLive(oip.ServerLiveRequest())).live
        assert (await here.stub.ServerReady(oip.ServerReadyRequest())).ready
        health: Any = health_pb2_grpc.HealthStub(here.channel)
        for name in ("", "inference.GRPCInferenceService", "lepton.v1.Prediction"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflected: Any = reflection_pb2_grpc.ServerReflectionStub(here.channel)
        call = reflected.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = {one.name for one in (await call.read()).list_services_response.service}
        assert names >= {"inference.GRPCInferenceService", "lepton.v1.Prediction", "grpc.health.v1.Health"}
        code, _ = await status(here.stub.ServerMetadata(oip.ServerMetadataRequest()))
        assert code == grpc.StatusCode.UNAUTHENTICATED


async def test_health_follows_readiness(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        health: Any = health_pb2_grpc.HealthStub(here.channel)
        here.service.health.set_condition("disk", ok=False, reason="it is full")

        async def shown(wanted: int) -> bool:
            return bool((await health.Check(health_pb2.HealthCheckRequest())).status == wanted)

        await apoll_until(lambda: shown(health_pb2.HealthCheckResponse.NOT_SERVING), "not serving")
        assert not (await here.stub.ServerReady(oip.ServerReadyRequest())).ready
        here.service.health.set_condition("disk", ok=True)
        await apoll_until(lambda: shown(health_pb2.HealthCheckResponse.SERVING), "serving again")


async def test_a_known_key_works_on_while_the_database_is_away_and_a_revoked_one_stops(tmp_path: Path) -> None:
    async with world(tmp_path, key_cache_s=1.0) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        with here.away():
            for _ in range(3):
                await here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata)
            new = (("authorization", bearer(*new_key()[:2])),)
            code, _ = await status(here.stub.ModelInfer(amounts("tiny", 1.0), metadata=new))
            assert code == grpc.StatusCode.UNAVAILABLE
            await here.lookups(2)
            await here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata)
        await here.registry.revoke(here.metadata[0][1])

        async def refused() -> bool:
            try:
                await here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata)
            except grpc.aio.AioRpcError as error:
                return error.code() == grpc.StatusCode.UNAUTHENTICATED
            return False

        await apoll_until(refused, "the revoked key to be refused", 5)


async def test_a_stream_ends_when_its_key_is_revoked(tmp_path: Path) -> None:
    async with world(tmp_path, key_cache_s=0.5) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        stream = here.stub.ModelStreamInfer(metadata=here.metadata)
        await here.registry.revoke(here.metadata[0][1])

        async def refused() -> bool:
            await stream.write(amounts("tiny", 1.0))
            answer = await stream.read()
            return bool(answer.error_message.startswith("PERMISSION_DENIED"))

        await apoll_until(refused, "the stream to be refused", 10)
        stream.cancel()
