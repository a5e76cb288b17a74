"""Many models under a memory budget: the one asked longest ago leaves, comes back when asked; none in use leaves."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2
from lepton.errors import Busy, Refused
from services.predictor.core.room import MIB, Room
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.conftest import Gate
from tests.unit.predictor.test_wire import known as taken
from tests.unit.predictor.test_wire import numbers, raw
from tests.unit.predictor.world import World, status, world

ONE = {"amount": "float"}


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model costs what its file has: what the process really grows by depends on what it freed before."""
    monkeypatch.setattr(Room, "took", lambda _, manifest, grown: manifest.size_bytes)


def large(mib: float, bias: float = 0.0) -> Linear:
    """A model of about so many MiB."""
    return Linear(ONE, bias=bias, hidden=int((mib * MIB / 4) ** 0.5))


async def ask(here: World, model: str, value: float, timeout: float = 60) -> float:
    answer = await here.stub.ModelInfer(raw(model, value), metadata=here.metadata, timeout=timeout)
    return numbers(answer)[0]


async def index(here: World, *, ready: bool = False) -> dict[str, tuple[str, str]]:
    found = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=ready), metadata=here.metadata)
    return {one.name: (one.state, one.reason) for one in found.models}


async def known(here: World, count: int) -> None:
    """Wait until so many models were taken up."""
    async def probe() -> bool:
        found = await index(here)
        return len(found) == count and all(state != "LOADING" for state, _ in found.values())
    await apoll_until(probe, f"{count} models", 60)


@pytest.mark.usefixtures("steady")
async def test_a_hundred_models_answer_from_the_memory_of_a_few(tmp_path: Path, door: str) -> None:
    async with world(tmp_path, memory_mib=1) as here:
        # About 40 KiB each: some twenty-five fit.
        for number in range(100):
            await here.registry.publish(f"model-{number}", large(0.04, bias=float(number)))
        await known(here, 100)
        ready = await index(here, ready=True)
        assert 5 < len(ready) < 50
        assert "model-99" in ready
        assert "model-0" not in ready
        found = await asyncio.gather(*[ask(here, f"model-{number}", 1.0) for number in range(100)])
        assert found == [1.0 + number for number in range(100)]
        for number in (0, 50, 0, 99, 1):
            assert await ask(here, f"model-{number}", 2.0) == 2.0 + number
        assert len(await index(here, ready=True)) < 50
        # Each knows what it did, also while it is away.
        told = await here.stub.ModelStatistics(oip.ModelStatisticsRequest(), metadata=here.metadata)
        assert sum(one.inference_stats.success.count for one in told.model_stats) == 105
        assert len({one.name for one in told.model_stats}) == 100


@pytest.mark.usefixtures("steady")
async def test_what_left_says_so_is_ready_and_comes_back_when_it_is_asked(tmp_path: Path, door: str) -> None:
    async with world(tmp_path, memory_mib=1) as here:
        await here.registry.publish("first", large(0.6, bias=1.0))
        await here.serving("first", 1)
        await here.registry.publish("second", large(0.6, bias=2.0))
        await here.serving("second", 1)
        state, reason = (await index(here))["first"]
        assert (state, "left memory" in reason) == ("UNAVAILABLE", True)
        assert list(await index(here, ready=True)) == ["second"]
        asked = oip.ModelReadyRequest(name="first")
        assert (await here.stub.ModelReady(asked, metadata=here.metadata)).ready
        told = await here.stub.ModelMetadata(oip.ModelMetadataRequest(name="first"), metadata=here.metadata)
        assert next(one.name for one in told.inputs) == "amount"
        assert list(await index(here, ready=True)) == ["first"]
        assert await ask(here, "second", 5.0) == 7.0
        # A new version of one that is away takes over, and is verified first.
        await here.registry.publish("first", large(0.6, bias=3.0))
        await here.serving("first", 2)
        assert await ask(here, "first", 5.0) == 8.0


@pytest.mark.usefixtures("steady")
async def test_a_model_in_use_does_not_leave_and_who_waits_for_room_is_told_when_to_come_back(
        tmp_path: Path, gate: Gate, door: str) -> None:
    async with world(tmp_path, memory_mib=9) as here:
        await here.registry.publish("busy", large(5, bias=1.0))
        await here.serving("busy", 1)
        await here.registry.publish("other", large(5, bias=2.0))
        await here.serving("other", 1)
        request = raw("busy", *np.zeros(64))
        await taken(here, door, request)
        gate.close()
        under_way = asyncio.ensure_future(here.stub.ModelInfer(request, metadata=here.metadata))
        await gate.holds()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(here, "other", 0.0)
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert float(dict(raised.value.trailing_metadata() or ())["retry-after-s"]) > 0
        gate.open()
        assert numbers(await under_way) == [1.0] * 64
        assert await ask(here, "other", 0.0) == 2.0


@pytest.mark.usefixtures("steady")
async def test_a_model_that_would_not_fit_alone_is_refused_by_name(tmp_path: Path) -> None:
    async with world(tmp_path, memory_mib=1) as here:
        await here.registry.publish("small", large(0.1, bias=1.0))
        await here.serving("small", 1)
        await here.registry.publish("huge", large(3))
        await known(here, 2)
        state, reason = (await index(here))["huge"]
        assert (state, "LEPTON_PREDICTOR_MEMORY_MIB" in reason) == ("UNAVAILABLE", True)
        assert await ask(here, "small", 1.0) == 2.0
        code, said = await status(here.stub.ModelInfer(raw("huge", 1.0), metadata=here.metadata))
        assert (code, "all models together" in said) == (grpc.StatusCode.UNAVAILABLE, True)


def test_a_cost_is_what_was_measured_and_at_least_the_file() -> None:
    room = Room(10)
    manifest = models_pb2.ModelManifest(sha256="a", size_bytes=MIB)
    assert room.expected(manifest) == MIB
    assert room.took(manifest, 3 * MIB) == room.expected(manifest) == 3 * MIB
    assert room.took(manifest, -MIB) == 3 * MIB
    assert room.excess([6 * MIB], 3 * MIB) == 0
    assert room.excess([8 * MIB], 3 * MIB) == MIB
    with pytest.raises(Refused, match=r"takes 11\.0 MiB"):
        room.check("m", 11 * MIB)
    assert isinstance(room.full("m", MIB), Busy)


def test_without_a_budget_everything_fits() -> None:
    room = Room()
    room.check("m", 10**15)
    assert (room.bounded, room.excess([10**15], 1)) == (False, 0)
