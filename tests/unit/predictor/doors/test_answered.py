"""Who calls can tell a predictor that says it cannot from one that was not reached: by what comes after the answer."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from lepton.contracts.apikeys import Scope
from lepton.contracts.calls.trailers import ANSWERED
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import grpc_service_pb2_grpc as oip_grpc
from lepton.contracts.pb.prediction_pb2 import PredictRequest
from lepton.contracts.pb.prediction_pb2_grpc import PredictionStub
from services.predictor.edge import errors
from tests.harness.onnx_models import Linear
from tests.unit.predictor.test_wire import ONE, known, raw
from tests.unit.predictor.world import world


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Takes the socket away that the Python door behind the native one listens on."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield lambda: next(Path(folder).glob("lepton-*/door")).unlink()


async def ended(call: Any) -> tuple[grpc.StatusCode, bool]:
    """How a call that must fail ended, and whether the predictor says that it ended it."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), any(name == ANSWERED for name, _ in raised.value.trailing_metadata() or ())


async def test_whatever_a_predictor_says_no_to_it_says_that_it_was_reached(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str) -> None:
    assert errors.ANSWERED[0] == ANSWERED
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await known(here, door, raw("tiny", 1.0))
        with monkeypatch.context() as patch:
            for module in ("tensors", "plain.forms"):
                patch.setattr(f"services.predictor.core.{module}.to_raw", lambda _: 1 / 0)
            failing = here.stub.ModelInfer(raw("tiny", 1.0), metadata=here.metadata)
            assert await ended(failing) == (grpc.StatusCode.INTERNAL, True)
        stranger = here.stub.ModelInfer(raw("tiny", 1.0), metadata=(("authorization", "Bearer nobody"),))
        assert await ended(stranger) == (grpc.StatusCode.UNAUTHENTICATED, True)
        operator = (("authorization", await here.registry.key(Scope.ADMIN)),)
        await here.stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name="tiny"), metadata=operator)
        named: Any = PredictionStub(here.channel)
        for call in (here.stub.ModelInfer(raw("tiny", 1.0), metadata=here.metadata),
                     named.Predict(PredictRequest(model="tiny", rows=[Struct()]), metadata=here.metadata)):
            assert await ended(call) == (grpc.StatusCode.UNAVAILABLE, True)


async def test_a_predictor_that_is_gone_says_nothing(tmp_path: Path, cut_off: Callable[[], None], door: str) -> None:
    async with world(tmp_path) as here:
        if door == "native":
            # Its own door answers still, but nobody is behind it.
            cut_off()
            assert await ended(here.stub.ServerLive(oip.ServerLiveRequest())) == (grpc.StatusCode.UNAVAILABLE, False)
    async with grpc.aio.insecure_channel(here.address) as channel:
        stub: Any = oip_grpc.GRPCInferenceServiceStub(channel)
        assert await ended(stub.ServerLive(oip.ServerLiveRequest(), timeout=20)) == (grpc.StatusCode.UNAVAILABLE, False)
