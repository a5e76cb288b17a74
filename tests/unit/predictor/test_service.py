"""The predictor's gRPC door as its callers see it: answers, metadata, errors, and the log of answers."""

import struct
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2, prediction_pb2, prediction_pb2_grpc, predictions_pb2
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import amounts, status, world

pytestmark = pytest.mark.usefixtures("door")

ONE = {"amount": "float"}


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
        # One after the other: a predictor that hears of both at once serves the second alone.
        for version in (1, 2):
            await here.registry.publish("tiny", Linear(ONE))
            await here.serving("tiny", version)
        call = here.stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny"), metadata=here.metadata)
        found = await call
        assert found.platform == "onnxruntime_onnx"
        assert list(found.versions) == ["1", "2"]
        assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [
            ("amount", "FP64", [-1]), ("_missing", "BOOL", [-1, 1])]
        assert [(one.name, one.datatype) for one in found.outputs] == [("prediction", "FP32")]
        assert ("lepton-provider", "CPUExecutionProvider") in tuple(await call.initial_metadata())
        server = await here.stub.ServerMetadata(oip.ServerMetadataRequest(), metadata=here.metadata)
        assert server.name == "lepton"
        assert {"statistics", "classification", "provider:CPUExecutionProvider"} <= set(server.extensions)
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
        await here.metric('lepton_predictor_requests_total{model="(unknown)",outcome="Missing",version=""} 3.0')


async def test_a_model_without_a_usable_version_is_unavailable_and_says_why(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        state = await here.registry.publish("tiny", Linear(ONE), store=False)
        assert state.champion == 1

        async def told() -> bool:
            code, said = await status(here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata))
            return code == grpc.StatusCode.UNAVAILABLE and "is not in the store" in said

        await apoll_until(told, "UNAVAILABLE", 10)
        index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=here.metadata)
        assert [(one.name, one.state) for one in index.models] == [("tiny", "LOADING")]
        await here.registry.artifacts.put(Linear(ONE).build())
        await here.serving("tiny", 1)


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
        monkeypatch.setattr("services.predictor.core.tensors.to_raw", lambda _: 1 / 0)
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
