"""Calls of the protocol for operators: a model leaves and comes back, the log level changes, and who may ask for it."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from lepton.contracts.apikeys import Scope
from lepton.contracts.pb import grpc_service_pb2 as oip
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import World, amounts, status, world

ONE = {"amount": "float"}


async def admin(here: World) -> tuple[tuple[str, str], ...]:
    return (("authorization", await here.registry.key(Scope.ADMIN)),)


async def state(here: World, model: str) -> tuple[str, str]:
    index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=here.metadata)
    return next((one.state, one.reason) for one in index.models if one.name == model)


async def test_a_model_is_unloaded_and_loaded_again_and_a_new_version_waits_for_that(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        operator = await admin(here)
        await here.registry.publish("tiny", Linear(ONE, bias=1.0))
        await here.serving("tiny", 1)
        unload, load = (oip.RepositoryModelUnloadRequest(model_name="tiny"),
                        oip.RepositoryModelLoadRequest(model_name="tiny"))
        unload.parameters["unload_dependents"].bool_param = False
        await here.stub.RepositoryModelLoad(load, metadata=operator)
        await here.stub.RepositoryModelUnload(unload, metadata=operator)
        assert await state(here, "tiny") == ("UNAVAILABLE", "an operator unloaded it here")
        code, said = await status(here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata))
        assert (code, "an operator unloaded it" in said) == (grpc.StatusCode.UNAVAILABLE, True)
        assert not (await here.stub.ModelReady(oip.ModelReadyRequest(name="tiny"), metadata=here.metadata)).ready
        revision = (await here.registry.publish("tiny", Linear(ONE, bias=2.0))).revision

        # The newer state of another model is taken in after it, and answers.
        await here.registry.publish("other", Linear(ONE))
        await here.serving("other", 1)
        assert (revision, (await state(here, "tiny"))[0]) == (2, "UNAVAILABLE")
        await asyncio.gather(*(here.stub.RepositoryModelLoad(load, metadata=operator) for _ in range(3)))
        answer = await here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata)
        assert answer.model_version == "2"


async def test_what_the_registry_or_a_stream_needs_is_not_overruled(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        operator = await admin(here)
        await here.registry.apply("tiny", ONE)
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await apoll_until(lambda: _scored(here), "the pipeline")
        code, said = await status(here.stub.RepositoryModelUnload(
            oip.RepositoryModelUnloadRequest(model_name="tiny"), metadata=operator))
        assert (code, "stream of pipeline `tiny`" in said) == (grpc.StatusCode.PERMISSION_DENIED, True)
        for call, asked in ((here.stub.RepositoryModelLoad, oip.RepositoryModelLoadRequest(model_name="x")),
                            (here.stub.RepositoryModelUnload, oip.RepositoryModelUnloadRequest(model_name="x"))):
            assert (await status(call(asked, metadata=operator)))[0] == grpc.StatusCode.NOT_FOUND
            assert (await status(call(asked, metadata=here.metadata)))[0] == grpc.StatusCode.PERMISSION_DENIED
        smuggled = oip.RepositoryModelLoadRequest(model_name="tiny")
        smuggled.parameters["file:1/model.onnx"].bytes_param = b"x"
        code, said = await status(here.stub.RepositoryModelLoad(smuggled, metadata=operator))
        assert (code, "registry alone" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        await here.serving("tiny", 1)


async def _scored(here: World) -> bool:
    return any(name.startswith("score tiny") for name in here.checks())


@pytest.fixture
def level() -> Iterator[logging.Logger]:
    """The root logger's level is as before afterwards."""
    root = logging.getLogger()
    before = root.level
    yield root
    root.setLevel(before)


async def test_the_log_level_changes_and_is_told(tmp_path: Path, level: logging.Logger) -> None:
    async with world(tmp_path) as here:
        operator = await admin(here)
        level.setLevel(logging.INFO)
        asked = oip.LogSettingsRequest()
        told = (await here.stub.LogSettings(asked, metadata=operator)).settings
        assert (told["log_info"].bool_param, told["log_verbose_level"].uint32_param) == (True, 0)
        asked.settings["log_verbose_level"].uint32_param = 1
        told = (await here.stub.LogSettings(asked, metadata=operator)).settings
        assert (level.level, told["log_verbose_level"].uint32_param) == (logging.DEBUG, 1)
        asked.settings["log_verbose_level"].uint32_param = 0
        asked.settings["log_info"].bool_param = False
        told = (await here.stub.LogSettings(asked, metadata=operator)).settings
        assert (level.level, told["log_info"].bool_param) == (logging.WARNING, False)
        for name in ("log_file", "log_colour"):
            wrong = oip.LogSettingsRequest()
            wrong.settings[name].string_param = "/etc/passwd"
            code, said = await status(here.stub.LogSettings(wrong, metadata=operator))
            assert (code, name in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        assert level.level == logging.WARNING


async def test_trace_settings_are_told_and_may_only_be_repeated(tmp_path: Path) -> None:
    async with world(tmp_path, server_name="scores-eu") as here:
        operator = await admin(here)
        asked = oip.TraceSettingRequest()
        told = (await here.stub.TraceSetting(asked, metadata=operator)).settings
        assert (list(told["trace_mode"].value), list(told["trace_level"].value)) == (["opentelemetry"], ["OFF"])
        asked.settings["trace_mode"].value.append("opentelemetry")
        await here.stub.TraceSetting(asked, metadata=operator)
        asked.settings["trace_rate"].value.append("5")
        code, said = await status(here.stub.TraceSetting(asked, metadata=operator))
        assert (code, "LEPTON_TRACE_RATIO" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        server = await here.stub.ServerMetadata(oip.ServerMetadataRequest(), metadata=here.metadata)
        assert server.name == "scores-eu"
