"""The predictor's gRPC door as its callers see it: answers, errors, keys, streams, stop."""

import asyncio
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lepton.contracts.apikeys import Scope, bearer, new_key
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2, prediction_pb2, prediction_pb2_grpc, predictions_pb2
from services.predictor.core.session import Session
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import World, amounts, world

ONE = {"amount": "float"}
LIVE, READY = oip.ServerLiveRequest(), oip.ServerReadyRequest()


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a call that must fail ended."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


class Gate:
    """Holds every run of every model while it is closed; `entered` is set once one is held."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def pass_through(self) -> None:
        if not self._open.is_set():
            self.entered.set()
            self._open.wait(10)

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def holds(self) -> None:
        """Wait until a run is held."""
        assert await asyncio.to_thread(self.entered.wait, 10)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate, run = Gate(), Session.run

    def held(session: Session, arrays: Any) -> Any:
        gate.pass_through()
        return run(session, arrays)

    monkeypatch.setattr(Session, "run", held)
    yield gate
    gate.open()


async def test_a_published_model_answers_in_raw_tensors(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE, bias=1.0))
        await here.serving("tiny", 1)
        answer = await here.stub.ModelInfer(amounts("tiny", 1.0, 2.0, request_id="r-1"), metadata=here.metadata)
        assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1", "r-1")
        assert struct.unpack("<2f", answer.raw_output_contents[0]) == (2.0, 3.0)
        assert list(answer.outputs[0].shape) == [2]


async def test_named_fields_get_the_same_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear({"amount": "float", "country": "category"}, classes=("no", "yes")))
        rows = [json_format.ParseDict(row, struct_pb2.Struct()) for row in ({"amount": 5.0}, {"country": "us"},
                                                                            {"amount": -5.0, "country": None})]
        stub: Any = prediction_pb2_grpc.PredictionStub(here.channel)
        asked = prediction_pb2.PredictRequest(model="tiny", rows=rows, request_id="r-2")

        async def answered() -> prediction_pb2.PredictResponse | None:
            try:
                answer: prediction_pb2.PredictResponse = await stub.Predict(asked, metadata=here.metadata)
            except grpc.aio.AioRpcError:
                return None
            return answer

        answer = await apoll_until(answered, "an answer")
        assert answer is not None
        assert (answer.version, answer.request_id) == (1, "r-2")
        assert [row.label for row in answer.rows] == ["yes", "yes", "no"]
        assert answer.rows[0].probabilities["yes"] == pytest.approx(0.9933, abs=1e-4)
        asked.rows[0].fields["amuont"].number_value = 1.0
        code, said = await status(stub.Predict(asked, metadata=here.metadata))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "did you mean `amount`" in said


async def test_metadata_shows_tensors_platform_versions_and_provider(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 2)
        call = here.stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny"), metadata=here.metadata)
        found = await call
        assert found.platform == "onnxruntime_onnx"
        assert list(found.versions) == ["1", "2"]
        assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [
            ("amount", "FP64", [-1]), ("_missing", "BOOL", [-1, 1])]
        assert [(one.name, one.datatype) for one in found.outputs] == [("prediction", "FP32")]
        assert ("lepton-provider", "CPUExecutionProvider") in tuple(await call.initial_metadata())
        server = await here.stub.ServerMetadata(oip.ServerMetadataRequest(), metadata=here.metadata)
        assert (server.name, list(server.extensions)) == ("lepton", ["provider:CPUExecutionProvider"])
        one = await here.stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny", version="1"), metadata=here.metadata)
        assert list(one.versions) == ["1"]
        await here.metric('lepton_predictor_provider{provider="CPUExecutionProvider"} 1.0')
        await here.metric('lepton_predictor_model_version{model="tiny",provider="CPUExecutionProvider"} 2.0')


async def test_what_is_wrong_with_a_request_comes_as_its_status(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        wrong_type = amounts("tiny", 1.0)
        wrong_type.inputs[0].datatype = "FP32"
        wrong_version, no_version = amounts("tiny", 1.0), amounts("tiny", 1.0)
        wrong_version.model_version, no_version.model_version = "9", "newest"
        codes = [await status(here.stub.ModelInfer(request, metadata=here.metadata))
                 for request in (wrong_type, amounts("absent", 1.0), wrong_version, no_version)]
        assert [code for code, _ in codes] == [grpc.StatusCode.INVALID_ARGUMENT, *[grpc.StatusCode.NOT_FOUND] * 3]
        assert "`amount` is FP32, the model takes FP64" in codes[0][1]
        assert "one of: tiny" in codes[1][1]
        assert "one of: 1" in codes[2][1]
        code, _ = await status(here.stub.ModelMetadata(oip.ModelMetadataRequest(name="absent"), metadata=here.metadata))
        assert code == grpc.StatusCode.NOT_FOUND
        for name, ready in (("tiny", True), ("absent", False)):
            answer = await here.stub.ModelReady(oip.ModelReadyRequest(name=name), metadata=here.metadata)
            assert answer.ready is ready
        await here.metric('lepton_predictor_requests_total{model="(unknown)",outcome="Missing",version="0"} 3.0')


async def test_a_model_without_a_usable_version_is_unavailable_and_says_why(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        state = await here.registry.publish("tiny", Linear(ONE), store=False)
        assert state.champion == 1

        async def told() -> bool:
            code, said = await status(here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata))
            return code == grpc.StatusCode.UNAVAILABLE and "being loaded" in said

        await apoll_until(told, "UNAVAILABLE", 10)
        index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=here.metadata)
        assert [(one.name, one.state) for one in index.models] == [("tiny", "LOADING")]
        await here.registry.artifacts.put(Linear(ONE).build())
        await here.serving("tiny", 1)


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
        assert (await here.stub.ServerLive(LIVE)).live
        assert (await here.stub.ServerReady(READY)).ready
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
        assert not (await here.stub.ServerReady(READY)).ready
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


async def test_a_request_over_the_limits_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path, request_bytes=2048, request_rows=10) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        many = amounts("tiny", *[1.0] * 11)
        code, said = await status(here.stub.ModelInfer(many, metadata=here.metadata))
        assert (code, "1 to 10" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        large = amounts("tiny", *[1.0] * 1000)
        code, _ = await status(here.stub.ModelInfer(large, metadata=here.metadata))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_full_queue_says_when_to_come_back(tmp_path: Path, gate: Gate) -> None:
    async with world(tmp_path) as here:
        await here.registry.apply("slow", ONE, batching={"queue_rows": 64})
        await here.registry.publish("slow", Linear(ONE, hidden=1024))
        await here.serving("slow", 1)
        gate.close()
        first = asyncio.ensure_future(_answer(here, *[1.0] * 32))
        await gate.holds()
        rest = {asyncio.ensure_future(_answer(here, *[2.0] * 32)) for _ in range(5)}
        for _ in range(3):
            (ended, *_), _ = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
            rest.remove(ended)
            error = ended.exception()
            assert isinstance(error, grpc.aio.AioRpcError)
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert float(dict(error.trailing_metadata() or ())["retry-after-s"]) > 0
        gate.open()
        assert await asyncio.gather(first, *rest) == [1.0, 2.0, 2.0]


async def test_a_call_past_its_deadline_ends_and_the_next_one_is_answered(tmp_path: Path, gate: Gate) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("slow", Linear(ONE, hidden=1024))
        await here.serving("slow", 1)
        gate.close()
        first = asyncio.ensure_future(_answer(here, 0.0))
        await gate.holds()
        calls = [here.stub.ModelInfer(amounts("slow", 1.0), metadata=here.metadata, timeout=0.1) for _ in range(5)]
        assert {(await status(call))[0] for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        gate.open()
        assert await first == 0.0
        assert await _answer(here, 3.0) == 3.0
        await here.metric('lepton_predictor_batch_rows_total{model="slow"} 3.0')


async def test_a_stream_answers_in_order_and_outlives_a_wrong_request(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        stream = here.stub.ModelStreamInfer(metadata=here.metadata)
        for number in range(200):
            model = "absent" if number == 50 else "tiny"
            await stream.write(amounts(model, float(number), request_id=str(number)))
        await stream.done_writing()
        answers = [answer async for answer in stream]
        assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(200)]
        assert [number for number, answer in enumerate(answers) if answer.error_message] == [50]
        assert answers[50].error_message.startswith("NOT_FOUND: there is no model `absent`")
        assert struct.unpack("<f", answers[199].infer_response.raw_output_contents[0]) == (199.0,)


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


async def test_a_stop_answers_what_was_asked_and_ends_idle_streams(tmp_path: Path, gate: Gate) -> None:
    async def draining() -> bool:
        return not here.service.health.ready

    async with world(tmp_path) as here:
        await here.registry.publish("slow", Linear(ONE, hidden=1024))
        await here.serving("slow", 1)
        stream = here.stub.ModelStreamInfer(metadata=here.metadata)
        await stream.write(amounts("slow", 7.0))
        assert (await stream.read()).infer_response.model_version == "1"
        gate.close()
        calls = [asyncio.ensure_future(_answer(here, float(number))) for number in range(8)]
        await gate.holds()
        await here.metric("lepton_predictor_waiting_rows 7.0")
        here.service.request_stop()
        await apoll_until(draining, "the stop to begin")
        gate.open()
        assert await asyncio.gather(*calls) == [float(number) for number in range(8)]
        code, said = await status(stream.read())
        assert (code, "stopping" in said) == (grpc.StatusCode.UNAVAILABLE, True)


async def _answer(here: World, *values: float) -> float:
    """The answer of model `slow` to the last of `values`."""
    answer = await here.stub.ModelInfer(amounts("slow", *values), metadata=here.metadata)
    return float(struct.unpack("<f", answer.raw_output_contents[0][-4:])[0])


async def test_a_share_of_answers_is_logged(tmp_path: Path) -> None:
    async with world(tmp_path, log_share=1.0) as here:
        await here.registry.apply("tiny", ONE)
        await here.registry.publish("tiny", Linear(ONE, bias=1.0))
        await here.serving("tiny", 1)
        await here.stub.ModelInfer(amounts("tiny", 1.0, 2.0, request_id="r-1"), metadata=here.metadata)
        await here.stub.ModelInfer(amounts("tiny", 3.0, request_id="r-2"), metadata=here.metadata)
        found = {one.event_id: one for one in await here.predictions("tiny", 4)}
        assert {key: found[key].number for key in ("r-1#0", "r-1#1", "r-2")} == {"r-1#0": 2.0, "r-1#1": 3.0, "r-2": 4.0}
        one = found["r-2"]
        assert one.source == predictions_pb2.PREDICTION_SOURCE_REQUEST
        assert (one.model, one.version, one.instance) == ("tiny", 1, "predictor-0")
        assert 0 < one.latency_s < 5


async def test_a_bug_is_reported_and_tells_the_caller_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        monkeypatch.setattr("services.predictor.core.tensors.encode", lambda *_: 1 / 0)
        code, said = await status(here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata))
        assert (code, said) == (grpc.StatusCode.INTERNAL, "internal error; the server's log has it")
        await here.metric('lepton_errors_total{kind="bug"} 1.0')


async def test_a_rejected_version_is_not_served(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        state = await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        state.versions[0].status = models_pb2.VERSION_STATUS_REJECTED
        state.champion = 0
        await here.registry.announce(state)

        async def gone() -> bool:
            return not (await here.stub.ModelReady(oip.ModelReadyRequest(name="tiny"), metadata=here.metadata)).ready

        await apoll_until(gone, "the model to stop answering")
        code, said = await status(here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata))
        assert (code, "names no champion" in said) == (grpc.StatusCode.UNAVAILABLE, True)
