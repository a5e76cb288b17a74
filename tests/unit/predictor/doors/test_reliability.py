"""What breaks servers over months, in seconds: loads and stops at bad moments, many models, many idle connections."""

import asyncio
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from lepton.contracts.apikeys import Scope
from lepton.contracts.pb import grpc_service_pb2 as oip
from services.predictor.core.engine import Engine
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.doors.frames import PREFACE, SETTINGS, frame, message, speaking
from tests.unit.predictor.test_wire import ONE, answered, by_wire, known, numbers, raw
from tests.unit.predictor.world import World, status, world

MODELS = 100
CONNECTIONS = 10_000


class Loading:
    """Holds loads of models while it is closed."""

    def __init__(self) -> None:
        self.held = threading.Semaphore(0)
        self._open = threading.Event()
        self._open.set()

    def pass_through(self) -> None:
        if not self._open.is_set():
            self.held.release()
            self._open.wait(30)

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def holds(self) -> None:
        """Wait until a load is held."""
        assert await asyncio.to_thread(self.held.acquire, timeout=20)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loading]:
    loading, load = Loading(), Engine.load

    def held(*given: Any) -> Engine:
        loading.pass_through()
        return load(*given)

    monkeypatch.setattr(Engine, "load", held)
    yield loading
    loading.open()


async def ready(here: World, door: str, model: str = "tiny") -> None:
    await here.registry.publish(model, Linear(ONE))
    await here.serving(model, 1)
    await known(here, door, raw(model, 1.0))


async def test_a_reload_while_one_loads_leaves_what_answers_and_ends_with_the_newest(tmp_path: Path, loading: Loading,
                                                                                     door: str) -> None:
    async with world(tmp_path) as here:
        await ready(here, door)
        operator = (("authorization", await here.registry.key(Scope.ADMIN)),)
        loading.close()
        for version in (2, 3):
            await here.registry.publish("tiny", Linear(ONE, bias=float(version)))
        await loading.holds()
        asked = [asyncio.ensure_future(here.stub.RepositoryModelLoad(
            oip.RepositoryModelLoadRequest(model_name="tiny"), metadata=operator)) for _ in range(3)]
        for _ in range(20):
            assert await answered(here, raw("tiny", 1.0)) == [1.0]
        loading.open()
        await asyncio.gather(*asked)
        await here.serving("tiny", 3)
        await known(here, door, raw("tiny", 1.0))
        assert await answered(here, raw("tiny", 1.0)) == [4.0]


async def test_loads_and_unloads_under_load_give_right_answers_or_say_there_is_none(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        await ready(here, door)
        operator = (("authorization", await here.registry.key(Scope.ADMIN)),)
        done, codes = asyncio.Event(), set[grpc.StatusCode]()
        load, unload = (oip.RepositoryModelLoadRequest(model_name="tiny"),
                        oip.RepositoryModelUnloadRequest(model_name="tiny"))

        async def ask(number: int) -> None:
            while not done.is_set():
                value = float(number)
                try:
                    assert await answered(here, raw("tiny", value)) == [value]
                    codes.add(grpc.StatusCode.OK)
                except grpc.aio.AioRpcError as error:
                    codes.add(error.code())

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(ask(number))
            for _ in range(20):
                await here.stub.RepositoryModelUnload(unload, metadata=operator)
                await here.stub.RepositoryModelLoad(load, metadata=operator)
            done.set()
        assert grpc.StatusCode.OK in codes
        assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND}
        await here.serving("tiny", 1)


async def test_a_stop_while_a_model_loads_is_a_good_end(tmp_path: Path, loading: Loading, door: str) -> None:
    async with world(tmp_path) as here:
        await ready(here, door)
        loading.close()
        await here.registry.publish("tiny", Linear(ONE, bias=2.0))
        await loading.holds()
        assert await answered(here, raw("tiny", 1.0)) == [1.0]
        here.service.request_stop()

        async def stopping() -> bool:
            return not here.service.health.ready
        await apoll_until(stopping, "the stop to begin", 10)
        loading.open()


async def test_what_is_odd_in_a_plain_request_has_the_answer_or_status_it_should(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        await ready(here, door)
        nan = raw("tiny", float("nan"), float("inf"))
        await known(here, door, nan)
        answered = numbers(await here.stub.ModelInfer(nan, metadata=here.metadata))
        assert answered == [0.0, float("inf")]
        empty = await status(here.stub.ModelInfer(raw("tiny"), metadata=here.metadata))
        two = raw("tiny", 1.0, 2.0)
        two.inputs[0].shape[:] = [1]
        square = raw("tiny", 1.0, 2.0)
        square.inputs[0].shape[:] = [1, 2]
        halves = raw("tiny", 1.0)
        halves.inputs[0].datatype = "FP32"
        halves.raw_input_contents[0] = np.array([1.0], dtype="<f4").tobytes()
        old = raw("tiny", 1.0)
        old.model_version = "9"
        told = [await status(here.stub.ModelInfer(request, metadata=here.metadata))
                for request in (two, square, halves, raw("absent", 1.0), old)]
        assert [code for code, _ in (empty, *told)] == [
            *[grpc.StatusCode.INVALID_ARGUMENT] * 4, *[grpc.StatusCode.NOT_FOUND] * 2], (empty, told)


async def test_a_hundred_models_each_answer_for_themselves(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        for number in range(MODELS):
            await here.registry.publish(f"m{number}", Linear(ONE, bias=float(number)))

        async def all_ready() -> bool:
            index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True), metadata=here.metadata)
            return len(index.models) == MODELS
        await apoll_until(all_ready, "every model to be loaded", 60)
        for _ in range(3):
            answers = await asyncio.gather(*(answered(here, raw(f"m{number}", 0.5)) for number in range(MODELS)))
            assert answers == [[number + 0.5] for number in range(MODELS)]
        if door == "native":
            async def spread() -> bool:
                await asyncio.gather(*(answered(here, raw(f"m{number}", 0.5)) for number in range(MODELS)))
                return all(by_wire(here, f"m{number}") for number in range(MODELS))
            await apoll_until(spread, "the wire to answer for each", 30)


async def test_idle_connections_by_the_thousand_hold_up_nobody(tmp_path: Path, door: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Both ends of each are in this process.
    count = min(CONNECTIONS, (hard - psutil.Process().num_fds() - 500) // 2)
    try:
        async with world(tmp_path) as here:
            await ready(here, door)
            with ExitStack() as idle:
                await asyncio.to_thread(_connect, here.address, count, idle)
                async with speaking(here.address) as last:
                    assert await last.status(last.call(here.metadata[0][1], message(
                        raw("tiny", 1.0).SerializeToString()))) == "0"
                for number in range(50):
                    assert await answered(here, raw("tiny", float(number))) == [float(number)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _connect(address: str, count: int, idle: ExitStack) -> None:
    """So many connections that have said hello and been greeted."""
    host, _, port = address.rpartition(":")
    for _ in range(count):
        peer = idle.enter_context(socket.create_connection((host, int(port)), timeout=20))
        peer.sendall(PREFACE + frame(SETTINGS, 0, 0))
    assert peer.recv(9), "no greeting"
