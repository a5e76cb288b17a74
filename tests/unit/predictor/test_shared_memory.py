"""Tensors in shared memory: registered by operators of the same machine, read and written within their bounds."""

import os
import struct
import uuid
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import grpc
import pytest

from lepton.contracts.apikeys import Scope
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Invalid, Missing
from services.predictor.edge.errors import Taken
from services.predictor.edge.memory import SharedMemory
from tests.harness.onnx_models import Linear
from tests.unit.predictor.world import World, amounts, status, world

MIB = 2**20


@pytest.fixture
def block() -> Iterator[shared_memory.SharedMemory]:
    """4096 bytes, known as `block.name`; gone afterwards."""
    made = shared_memory.SharedMemory(f"lepton-{uuid.uuid4().hex}", create=True, size=4096)
    yield made
    made.close()
    made.unlink()


def view(block: shared_memory.SharedMemory) -> memoryview:
    assert block.buf is not None
    return block.buf


def region(place: Any, name: str, size: int, offset: int = 0) -> None:
    place.parameters["shared_memory_region"].string_param = name
    place.parameters["shared_memory_byte_size"].int64_param = size
    if offset:
        place.parameters["shared_memory_offset"].int64_param = offset


async def served(here: World) -> tuple[tuple[str, str], ...]:
    """A model with two inputs answers; metadata of an operator."""
    await here.registry.publish("pair", Linear({"amount": "float", "count": "int"}, bias=1.0))
    await here.registry.publish("tiny", Linear({"amount": "float"}))
    await here.serving("tiny", 1)
    return (("authorization", await here.registry.key(Scope.ADMIN)),)


async def register(here: World, admin: Any, name: str, key: str, size: int = 4096, offset: int = 0) -> None:
    await here.stub.SystemSharedMemoryRegister(oip.SystemSharedMemoryRegisterRequest(
        name=name, key=key, offset=offset, byte_size=size), metadata=admin)


async def test_inputs_are_found_and_outputs_put_there(tmp_path: Path, block: shared_memory.SharedMemory) -> None:
    async with world(tmp_path) as here:
        admin = await served(here)
        await register(here, admin, "data", f"/{block.name}")
        view(block)[16:32] = struct.pack("<2d", 1.5, 2.5)
        request = oip.ModelInferRequest(model_name="pair", id="r-1")
        first = request.inputs.add(name="amount", datatype="FP64", shape=[2])
        region(first, "data", 16, 16)
        request.inputs.add(name="count", datatype="INT64", shape=[2])
        request.raw_input_contents.append(struct.pack("<2q", 10, 20))
        region(request.outputs.add(name="prediction"), "data", 64, 128)
        for _ in range(2):
            answer = await here.stub.ModelInfer(request, metadata=here.metadata)
            assert (answer.id, list(answer.raw_output_contents)) == ("r-1", [b""])
            told = answer.outputs[0].parameters
            assert (told["shared_memory_region"].string_param, told["shared_memory_byte_size"].int64_param,
                    told["shared_memory_offset"].int64_param) == ("data", 8, 128)
            assert struct.unpack("<2f", bytes(view(block)[128:136])) == (12.5, 23.5)
            view(block)[128:136] = bytes(8)
        known = await here.stub.SystemSharedMemoryStatus(oip.SystemSharedMemoryStatusRequest(), metadata=admin)
        assert (known.regions["data"].key, known.regions["data"].byte_size) == (f"/{block.name}", 4096)
        await here.stub.SystemSharedMemoryUnregister(oip.SystemSharedMemoryUnregisterRequest(), metadata=admin)
        code, said = await status(here.stub.ModelInfer(request, metadata=here.metadata))
        assert (code, "no shared memory region `data`" in said) == (grpc.StatusCode.NOT_FOUND, True)


async def test_what_does_not_fit_or_is_not_allowed_ends_with_its_status(
        tmp_path: Path, block: shared_memory.SharedMemory) -> None:
    async with world(tmp_path) as here:
        admin = await served(here)
        await register(here, admin, "data", block.name, 64, 32)
        asked = oip.SystemSharedMemoryRegisterRequest(name="data", key=block.name, byte_size=1)
        code, _ = await status(here.stub.SystemSharedMemoryRegister(asked, metadata=admin))
        assert code == grpc.StatusCode.ALREADY_EXISTS
        asked.name = "mine"
        code, _ = await status(here.stub.SystemSharedMemoryRegister(asked, metadata=here.metadata))
        assert code == grpc.StatusCode.PERMISSION_DENIED
        wrong = [("data", 72, 0), ("data", 8, 64), ("data", 0, 0), ("data", 4, 0), ("data", 2**62, 0)]
        for name, size, offset in wrong:
            request = oip.ModelInferRequest(model_name="tiny")
            region(request.inputs.add(name="amount", datatype="FP64", shape=[1]), name, size, offset)
            code, _ = await status(here.stub.ModelInfer(request, metadata=here.metadata))
            assert code == grpc.StatusCode.INVALID_ARGUMENT, (size, offset)
        for size in (8, 4):  # room for two FP32, and for one
            request = amounts("tiny", 1.0, 2.0)
            region(request.outputs.add(name="prediction"), "data", size)
            call = here.stub.ModelInfer(request, metadata=here.metadata)
            assert (await call).outputs if size == 8 else (await status(call))[0] == grpc.StatusCode.INVALID_ARGUMENT
        cuda = oip.CudaSharedMemoryRegisterRequest(name="gpu", raw_handle=b"x", byte_size=1)
        code, said = await status(here.stub.CudaSharedMemoryRegister(cuda, metadata=admin))
        assert (code, "GPU memory" in said) == (grpc.StatusCode.UNIMPLEMENTED, True)
        found = await here.stub.CudaSharedMemoryStatus(oip.CudaSharedMemoryStatusRequest(), metadata=admin)
        assert not found.regions


async def test_where_it_is_off_nothing_is_registered_or_named(tmp_path: Path) -> None:
    async with world(tmp_path, shared_memory="off") as here:
        admin = await served(here)
        asked = oip.SystemSharedMemoryRegisterRequest(name="data", key="x", byte_size=1)
        code, _ = await status(here.stub.SystemSharedMemoryRegister(asked, metadata=admin))
        assert code == grpc.StatusCode.UNIMPLEMENTED
        request = oip.ModelInferRequest(model_name="tiny")
        region(request.inputs.add(name="amount", datatype="FP64", shape=[1]), "data", 8)
        code, said = await status(here.stub.ModelInfer(request, metadata=here.metadata))
        assert (code, "no shared memory" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_only_objects_of_shared_memory_are_opened_and_one_that_shrinks_is_told_of(
        block: shared_memory.SharedMemory, tmp_path: Path) -> None:
    memory = SharedMemory(MIB)
    link = Path("/dev/shm") / f"lepton-{uuid.uuid4().hex}"
    link.symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_bytes(bytes(64))
    try:
        for key in ("../etc/passwd", "/etc/passwd", "", ".", "..", "a/b", link.name, "lepton-nothing-of-that-name"):
            with pytest.raises((Invalid, Missing)):
                memory.register("data", key, 0, 8)
    finally:
        link.unlink()
    with pytest.raises(Invalid):
        memory.register("data", block.name, 4090, 100)
    memory.register("data", block.name, 0, 4096)
    with pytest.raises(Taken):
        memory.register("data", block.name, 0, 4096)
    memory.write("data", 4088, b"12345678")
    assert memory.read("data", 4088, 8) == b"12345678"
    os.truncate(Path("/dev/shm") / block.name, 100)
    with pytest.raises(Invalid):
        memory.read("data", 4088, 8)
    with pytest.raises(Invalid):
        memory.write("data", 4088, b"12345678")
    memory.unregister("nobody")
    memory.unregister("data")
    with pytest.raises(Missing):
        memory.status("data")
