"""Bytes that mean nothing, or nearly something, as frames and messages: a status for each, and nothing left behind."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import grpc
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lepton.contracts.apikeys import Scope
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import grpc_service_pb2_grpc as oip_grpc
from services.predictor.edge.rpc.calls import CALLER
from tests.harness.doors import DOORS, SETTING
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.doors.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INFER,
    PING,
    STREAM,
    Peer,
    block,
    frame,
    message,
    speaking,
)
from tests.unit.predictor.test_wire import ONE, answered, known, raw
from tests.unit.predictor.world import World, status, world

T = TypeVar("T")
GOOD = raw("tiny", 1.0, 2.0, request_id="r").SerializeToString()
CODES = {grpc.StatusCode.OK, grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
GROWTH = 64 * 2**20

Told = tuple[grpc.StatusCode, bytes]

tried = settings(max_examples=60, deadline=None, database=None, phases=(Phase.generate,),
                 suppress_health_check=list(HealthCheck))


def spoilt(good: bytes) -> st.SearchStrategy[bytes]:
    """A message with a part replaced, cut off or put in."""
    places = st.integers(0, len(good))
    return st.builds(lambda start, size, other: good[:start] + other + good[start + size:], places,
                     st.integers(0, 8), st.binary(max_size=8))


def requests() -> st.SearchStrategy[bytes]:
    """A request of fields that seldom fit together."""
    names = st.sampled_from(["amount", "tiny", "", "absent"])
    tensor = st.builds(lambda name, datatype, shape: oip.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape), names, st.sampled_from(["FP64", "FP32", "BYTES", "X", ""]),
        st.lists(st.integers(-1, 3) | st.integers(-2**63, 2**63 - 1), max_size=3))
    return st.builds(lambda model, version, key, inputs, contents: oip.ModelInferRequest(
        model_name=model, model_version=version, id=key, inputs=inputs,
        raw_input_contents=contents).SerializeToString(), st.sampled_from(["tiny"] * 3 + ["", "absent"]),
        st.sampled_from(["", "1", "9", "x"]), st.text(max_size=4), st.lists(tensor, max_size=3),
        st.lists(st.binary(max_size=24), max_size=3))


MESSAGES = st.binary(max_size=64) | spoilt(GOOD) | requests() | requests().flatmap(spoilt)

FRAMES = st.lists(st.builds(frame, st.integers(0, 10), st.integers(0, 255), st.integers(0, 5),
                            st.binary(max_size=40) | st.just(message(GOOD)) | st.just(block({":path": INFER}))),
                  min_size=1, max_size=8)


async def each(strategy: st.SearchStrategy[T], check: Callable[[T], Awaitable[None]]) -> None:
    """`check` everything hypothesis makes up, on this loop."""
    loop = asyncio.get_running_loop()

    @seed(6)
    @tried
    @given(strategy)
    def run(made: T) -> None:
        async def checked() -> None:
            await check(made)
        asyncio.run_coroutine_threadsafe(checked(), loop).result(60)

    await asyncio.to_thread(run)


async def unary(channel: Any, sent: bytes, metadata: Sequence[tuple[str, str]]) -> Told:
    call = channel.unary_unary(INFER)(sent, metadata=metadata, timeout=20)
    with suppress(grpc.aio.AioRpcError):
        return grpc.StatusCode.OK, await call
    return await call.code(), b""


async def streamed(channel: Any, sent: bytes, metadata: Sequence[tuple[str, str]]) -> Told:
    """The answer that came for one message, and how its stream ended."""
    async def one() -> AsyncIterator[bytes]:
        yield sent

    call = channel.stream_stream(STREAM)(one(), metadata=metadata, timeout=20)
    told = b""
    with suppress(grpc.aio.AioRpcError):
        told = b"".join([answer async for answer in call])
    return await call.code(), told


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Where the Python door listens behind the native one."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield lambda: f"unix:{next(Path(folder).glob('lepton-*/door'))}"


async def served(here: World, door: str) -> None:
    await here.registry.publish("tiny", Linear(ONE))
    await here.serving("tiny", 1)
    await known(here, door, raw("tiny", 1.0, 2.0))


async def test_any_message_ends_with_its_status_and_leaves_nothing_behind(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        await served(here, door)
        me = psutil.Process(os.getpid())

        async def check(sent: bytes) -> None:
            for way in (unary, streamed):
                code, _ = await way(here.channel, sent, here.metadata)
                assert code in CODES, (way, code)

        await each(MESSAGES, check)
        descriptors, before = me.num_fds(), me.memory_info().rss
        await each(MESSAGES, check)
        assert me.memory_info().rss - before < GROWTH
        assert me.num_fds() <= descriptors + 4
        await here.metric("lepton_predictor_waiting_rows 0.0")
        assert await answered(here, raw("tiny", 1.0, 2.0)) == [1.0, 2.0]


@pytest.mark.skipif("native" not in DOORS, reason="the native door is not built here")
async def test_both_doors_say_the_same_of_any_message(tmp_path: Path, inside: Callable[[], str],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "native")
    async with world(tmp_path) as here:
        await served(here, "native")
        async with grpc.aio.insecure_channel(inside()) as python:
            async def check(sent: bytes) -> None:
                for way in (unary, streamed):
                    assert await way(here.channel, sent, here.metadata) == await way(python, sent, here.metadata), way

            await each(MESSAGES, check)


async def test_any_frames_end_their_own_connection_alone(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        await served(here, door)
        key = here.metadata[0][1]

        async def check(sent: Sequence[bytes]) -> None:
            async with speaking(here.address) as peer:
                peer.call(key, message(GOOD), path=STREAM, end=False)
                peer.send(*sent)
                await alive_or_closed(peer)

        await each(FRAMES, check)
        descriptors = psutil.Process(os.getpid()).num_fds()
        await each(FRAMES, check)

        async def let_go() -> bool:
            return psutil.Process(os.getpid()).num_fds() <= descriptors + 8
        await apoll_until(let_go, "connections to be gone", 20)
        assert await answered(here, raw("tiny", 1.0, 2.0)) == [1.0, 2.0]


async def alive_or_closed(peer: Peer) -> None:
    """A frame that says it is longer than what came leaves the ping unanswered: it is sent until it is seen."""
    for _ in range(400):
        if not peer.open:
            return
        peer.send(frame(PING, 0, 0, b"are you?"))
        if any(one.kind == PING and one.payload == b"are you?" for one in peer.frames):
            return
        with suppress(AssertionError):
            await peer.until(lambda: not peer.open or any(one.payload == b"are you?" for one in peer.frames),
                             "a sign of life", 0.05)
    raise AssertionError(f"neither answered nor closed: {peer.frames[-5:]}")


BROKEN = {
    "data for no call": frame(DATA, 0, 0, b"x"),
    "a call of the server's": frame(HEADERS, END_HEADERS, 2, block({":path": INFER})),
    "a header table that is not there": frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\x0f"),
    "a frame over the limit": frame(DATA, 0, 1, b"x" * 40_000),
    "a ping of the wrong size": frame(PING, 0, 0, b"short"),
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN.keys())
async def test_a_frame_that_breaks_the_protocol_ends_its_connection(tmp_path: Path, sent: bytes, door: str) -> None:
    async with world(tmp_path) as here:
        async with speaking(here.address) as peer:
            peer.send(sent)
            # grpc.aio passes over some of it.
            await (peer.closed() if door == "native" else alive_or_closed(peer))
        assert (await here.stub.ServerLive(oip.ServerLiveRequest())).live


async def test_the_wire_says_who_comes_from_away_and_callers_cannot(tmp_path: Path, inside: Callable[[], str],
                                                                    door: str) -> None:
    async with world(tmp_path) as here:
        admin = (("authorization", await here.registry.key(Scope.ADMIN)),)
        asked = oip.SystemSharedMemoryStatusRequest()
        async with grpc.aio.insecure_channel(inside() if door == "native" else here.address) as python:
            stub: Any = oip_grpc.GRPCInferenceServiceStub(python)
            code, said = await status(stub.SystemSharedMemoryStatus(asked, metadata=(*admin, (CALLER, "away"))))
            assert (code, "same machine" in said) == (grpc.StatusCode.PERMISSION_DENIED, True), said
            await stub.SystemSharedMemoryStatus(asked, metadata=admin)
        if door == "native":
            # What a caller says of itself is taken away: the wire knows better.
            await here.stub.SystemSharedMemoryStatus(asked, metadata=(*admin, (CALLER, "away")))
