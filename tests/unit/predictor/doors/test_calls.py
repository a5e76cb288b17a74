"""What a call may bring and how long it may take, whoever sends it: both doors end it with the same status."""

import asyncio
import gzip
import struct
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from lepton.contracts.pb import grpc_service_pb2 as oip
from services.predictor.core import engine
from tests.harness.doors import DOORS, SETTING
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.conftest import Gate
from tests.unit.predictor.doors.frames import (
    DATA,
    GOAWAY,
    INFER,
    INITIAL_WINDOW,
    MAX_STREAMS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    STREAM,
    WINDOW_UPDATE,
    connected,
    frame,
    message,
    speaking,
)
from tests.unit.predictor.test_wire import ONE, answered, known, numbers, raw
from tests.unit.predictor.world import World, amounts, status, world

KIB = 1024
MIB = 1024 * KIB
FLOOD = 2400
ONE_ROW = raw("tiny", 1.0).SerializeToString()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of rows are short enough for the wire: that is not for a busy machine's warm-up to say here."""
    monkeypatch.setattr(engine, "INLINE_LIMIT_S", 60.0)


async def ready(here: World, door: str, model: str = "tiny", **linear: Any) -> str:
    """A model that answers, and the key for it."""
    await here.registry.publish(model, Linear(ONE, **linear))
    await here.serving(model, 1)
    await known(here, door, raw(model, 1.0))
    return here.metadata[0][1]


Held = tuple[str, oip.ModelInferRequest, asyncio.Future[list[float]]]


async def one_held(here: World, gate: Gate, door: str) -> Held:
    """A slow model that works on a request until the gate opens: the key for it, the request, and its answer."""
    key = await ready(here, door, "slow", hidden=1024)
    many = raw("slow", *[0.5] * 63)
    await known(here, door, many)
    gate.close()
    first = asyncio.ensure_future(answered(here, many))
    await gate.holds()
    return key, many, first


async def test_compressed_requests_are_read_within_the_same_limit(tmp_path: Path, door: str) -> None:
    async with world(tmp_path, request_bytes=4 * KIB) as here:
        key = await ready(here, door)
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            call = here.stub.ModelInfer(raw("tiny", *[2.0] * 200), metadata=here.metadata, compression=compression)
            assert numbers(await call) == [2.0] * 200
            bomb = here.stub.ModelInfer(raw("tiny", *[2.0] * 600), metadata=here.metadata, compression=compression)
            assert (await status(bomb))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        packed = message(gzip.compress(ONE_ROW), compressed=True)
        async with speaking(here.address) as peer:
            for path in (INFER, STREAM):
                odd = peer.call(key, message(ONE_ROW, compressed=True), path=path, grpc_encoding="snappy")
                # grpc.aio calls it INTERNAL, against its own specification.
                assert await peer.status(odd) == ("12" if door == "native" else "13")
                assert door == "python" or "gzip" in peer.trailers(odd)["grpc-accept-encoding"]
                unnamed = peer.call(key, packed, path=path)
                assert await peer.status(unnamed) == "13"
                assert await peer.status(peer.call(key, packed, path=path, grpc_encoding="gzip")) == "0"


async def test_metadata_is_bounded_at_one_size(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        await ready(here, door)
        for size, code in ((12, grpc.StatusCode.OK), (20, grpc.StatusCode.RESOURCE_EXHAUSTED)):
            call = here.stub.ModelInfer(raw("tiny", 1.0), metadata=(*here.metadata, ("x-much", "y" * size * KIB)))
            assert await call.code() == code


async def test_the_door_itself_ends_what_is_past_its_deadline(tmp_path: Path, gate: Gate, door: str) -> None:
    async with world(tmp_path) as here:
        key, many, first = await one_held(here, gate, door)
        async with speaking(here.address) as peer:
            body = message(many.SerializeToString())
            late = peer.call(key, body, grpc_timeout="300m")
            idle = peer.call(key, path=STREAM, end=False, grpc_timeout="300m")
            half = peer.call(key, body[:9], end=False, grpc_timeout="300m")
            for stream in (late, idle, half):
                assert await peer.status(stream) in {"4", "reset 8"}
                if door == "native":
                    assert await peer.status(stream) == "4"
        gate.open()
        assert await first == [0.5] * 63


@pytest.mark.skipif("native" not in DOORS, reason="the native door is not built here; grpc.aio counts nobody's bytes")
async def test_half_a_message_of_a_stream_holds_everybodys_room_no_longer_than_a_call_may_take(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "native")
    async with world(tmp_path, request_bytes=8 * MIB, request_timeout_s=5.0) as here:
        key = await ready(here, "native")
        begun = struct.pack(">?I", False, 8 * MIB)
        async with speaking(here.address) as peer:
            idle = peer.call(key, message(ONE_ROW), path=STREAM, end=False)
            await peer.received(idle, 1)
            # All that callers may hold together, but for fewer bytes than any request has.
            torn = [peer.call(key, begun, path=STREAM, end=False) for _ in range(8)]
            for stream in torn:
                await peer.fill(stream, 8 * MIB - 1 - len(begun))
            assert {await peer.status(stream) for stream in torn} == {"4"}
            assert await answered(here, raw("tiny", 2.0)) == [2.0]
            # Between two messages a stream may be silent for as long as it likes.
            peer.data(idle, message(ONE_ROW), end=True)
            assert await peer.status(idle) == "0"


@pytest.mark.skipif("native" not in DOORS, reason="the native door is not built here; grpc.aio counts nobody's bytes")
async def test_what_was_asked_before_half_a_message_is_answered_and_no_window_keeps_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "native")
    async with world(tmp_path, request_timeout_s=1.0) as here:
        key = await ready(here, "native")
        body = message(ONE_ROW)
        async with speaking(here.address) as peer:
            half = peer.call(key, body + body[:3], path=STREAM, end=False)
            deaf = peer.call(key, body[:9], path=STREAM, end=False)
            await peer.received(half, 1)
            assert await peer.status(half) == "4"
            assert "3 bytes of a message came" in peer.trailers(half)["grpc-message"]
            assert peer.body(half)
            assert await peer.status(deaf) == "4"
            deaf = peer.call(key, body + body[:9], path=STREAM, end=False)
            await peer.received(deaf, 1)
            # What is answered from now on finds no room: nobody asks the stream for more.
            peer.send(frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, 0)))
            assert await peer.status(deaf) in {"4", "reset 8"}


async def test_calls_given_up_all_at_once_leave_their_connection_whole(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        key = await ready(here, door)
        async with speaking(here.address) as peer:
            assert await peer.status(peer.call(key, message(ONE_ROW))) == "0"
            assert peer.settings()[MAX_STREAMS] == 1024
            for _ in range(5):
                for _ in range(100):
                    stream = peer.call(key, message(ONE_ROW))
                    peer.send(frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big")))
                assert await peer.status(peer.call(key, message(ONE_ROW))) == "0"
            assert not [one for one in peer.frames if one.kind == GOAWAY]


@pytest.mark.usefixtures("short")
async def test_who_does_not_read_holds_up_nobody_and_is_given_up(tmp_path: Path, door: str) -> None:
    async with world(tmp_path, request_timeout_s=1.5) as here:
        key = await ready(here, door)
        many = raw("tiny", *[2.0] * 2000)
        await known(here, door, many)
        body = message(many.SerializeToString())
        async with speaking(here.address, {INITIAL_WINDOW: 0}) as peer:
            unread = [peer.call(key, body)]
            for _ in range(8):
                unread.append(peer.call(key, message(ONE_ROW)))
                unread.append(peer.call(key, message(ONE_ROW) * 20, path=STREAM, end=False))
            assert await answered(here, raw("tiny", 3.0)) == [3.0]
            if door == "native":
                assert {await peer.status(stream) for stream in unread} == {"reset 8"}
            assert not [one for one in peer.frames if one.kind == DATA]
            assert peer.open
            reads = peer.call(key, message(ONE_ROW))
            peer.send(frame(WINDOW_UPDATE, 0, reads, (64 * KIB).to_bytes(4, "big")))
            assert await peer.status(reads) == "0"
        assert await answered(here, raw("tiny", 4.0)) == [4.0]


@pytest.mark.usefixtures("short")
async def test_a_large_answer_comes_whole_however_small_the_window(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        key = await ready(here, door)
        values = [float(number) for number in range(4000)]
        many = raw("tiny", *values)
        await known(here, door, many)
        body = message(many.SerializeToString())
        async with speaking(here.address, {INITIAL_WINDOW: 1000}) as peer:
            for path in (INFER, STREAM):
                stream = peer.call(key, body[:16 * KIB], path=path, end=False)
                peer.data(stream, body[16 * KIB:], end=True)
                for taken in range(1000, 16_000, 1000):
                    await peer.received(stream, taken)
                    peer.send(frame(WINDOW_UPDATE, 0, stream, (1000).to_bytes(4, "big")))
                peer.send(frame(WINDOW_UPDATE, 0, stream, (1000).to_bytes(4, "big")))
                assert await peer.status(stream) == "0"
                answer = peer.body(stream)[5:]
                response = (oip.ModelInferResponse.FromString(answer) if path == INFER
                            else oip.ModelStreamInferResponse.FromString(answer).infer_response)
                assert numbers(response) == values


async def test_a_caller_who_crashes_in_the_middle_leaves_nothing_behind(tmp_path: Path, gate: Gate,
                                                                        door: str) -> None:
    async with world(tmp_path) as here:
        key, many, first = await one_held(here, gate, door)
        body = message(many.SerializeToString())
        async with speaking(here.address) as peer:
            for _ in range(5):
                peer.call(key, body * 10, path=STREAM, end=False)
                peer.call(key, body)
                peer.call(key, body[:100], end=False)
            await here.metric("lepton_predictor_waiting_rows ")

            async def waiting() -> bool:
                return "lepton_predictor_waiting_rows 0.0" not in here.metrics()
            await apoll_until(waiting, "the queue to fill", 10)
            peer.abort()
        gate.open()
        assert await first == [0.5] * 63
        await here.metric("lepton_predictor_waiting_rows 0.0")
        assert await answered(here, raw("slow", 1.0)) == [1.0]


async def test_pings_are_answered_and_a_stop_says_goodbye(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        key = await ready(here, door)
        async with speaking(here.address) as peer:
            assert await peer.status(peer.call(key, message(ONE_ROW))) == "0"
            peer.send(frame(PING, 0, 0, b"whatever"))
            await peer.until(lambda: any(one.kind == PING and one.flags and one.payload == b"whatever"
                                         for one in peer.frames), "the ping's answer")
            here.service.request_stop()
            await peer.until(lambda: any(one.kind == GOAWAY for one in peer.frames), "GOAWAY")
            await peer.closed()


async def test_each_ping_is_answered_once_with_its_own_bytes_beside_calls_and_among_others(tmp_path: Path,
                                                                                          door: str) -> None:
    async with world(tmp_path) as here:
        key = await ready(here, door)
        async with speaking(here.address) as peer:
            sent: list[bytes] = []
            for _ in range(20):
                # grpc.aio ends the connection of whoever pings much more often than it is answered.
                for _ in range(3 if door == "native" else 1):
                    sent.append(len(sent).to_bytes(8, "big"))
                    peer.send(frame(PING, 0, 0, sent[-1]))
                assert await peer.status(peer.call(key, message(ONE_ROW))) == "0"

            def pongs() -> list[bytes]:
                return [one.payload for one in peer.frames if one.kind == PING and one.flags]
            await peer.until(lambda: len(pongs()) >= len(sent), "an answer to each ping")
            assert pongs() == sent


@pytest.mark.parametrize("said", [b"", PREFACE[:20]])
async def test_who_connects_and_says_nothing_is_not_waited_for(tmp_path: Path, said: bytes, door: str) -> None:
    async with world(tmp_path, request_timeout_s=1.0) as here, connected(here.address) as peer:
        peer.send(said)
        await peer.closed()


async def test_a_flood_that_python_must_read_is_answered_to_the_last_call(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        key = await ready(here, door)
        body = message(amounts("tiny", 1.0).SerializeToString())
        async with AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(speaking(here.address)) for _ in range(4)]
            calls = [(peer, peer.call(key, body)) for _ in range(FLOOD // len(peers)) for peer in peers]
            codes = [await peer.status(stream) for peer, stream in calls]
        assert set(codes) <= {"0", "8"}
        assert await answered(here, raw("tiny", 2.0)) == [2.0]
