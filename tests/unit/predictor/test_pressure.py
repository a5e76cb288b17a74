"""Too large, too many, too late, and a stop in the middle: every request gets its answer or its reason."""

import asyncio
import struct
from pathlib import Path

import grpc
import pytest

from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.conftest import Gate
from tests.unit.predictor.world import World, amounts, status, turned_away, world

pytestmark = pytest.mark.usefixtures("door")

ONE = {"amount": "float"}
MANY = [0.5] * 63
"""With one more, rows that a slow model runs on its thread and not on the loop."""


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
        await here.registry.apply("slow", ONE, batching={"queue_rows": 64, "max_wait_ms": 60_000})
        await here.registry.publish("slow", Linear(ONE, hidden=1024))
        await here.serving("slow", 1)
        gate.close()
        first = asyncio.ensure_future(_answer(here, *MANY[:31], 1.0))
        await gate.holds()
        rest = {asyncio.ensure_future(_answer(here, *MANY[:31], 2.0)) for _ in range(5)}
        await turned_away(3, rest)
        gate.open()
        assert await asyncio.gather(first, *rest) == [1.0, 2.0, 2.0]


async def test_a_call_past_its_deadline_ends_and_the_next_one_isanswered(tmp_path: Path, gate: Gate) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("slow", Linear(ONE, hidden=1024))
        await here.serving("slow", 1)
        gate.close()
        first = asyncio.ensure_future(_answer(here, *MANY, 0.0))
        await gate.holds()
        calls = [here.stub.ModelInfer(amounts("slow", 1.0), metadata=here.metadata, timeout=0.1) for _ in range(5)]
        assert {(await status(call))[0] for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        gate.open()
        assert await first == 0.0
        assert await _answer(here, 3.0) == 3.0
        await here.metric('lepton_predictor_batch_rows_total{model="slow"} 66.0')


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


async def test_a_stop_answers_what_was_asked_and_ends_idle_streams(tmp_path: Path, gate: Gate) -> None:
    async def draining() -> bool:
        return not here.service.health.ready

    async with world(tmp_path) as here:
        await here.registry.apply("slow", ONE, batching={"max_wait_ms": 60_000})
        await here.registry.publish("slow", Linear(ONE, hidden=1024))
        await here.serving("slow", 1)
        stream = here.stub.ModelStreamInfer(metadata=here.metadata)
        await stream.write(amounts("slow", 7.0))
        assert (await stream.read()).infer_response.model_version == "1"
        gate.close()
        calls = [asyncio.ensure_future(_answer(here, *MANY, float(number))) for number in range(8)]
        await gate.holds()
        await here.metric("lepton_predictor_waiting_rows 448.0")
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
