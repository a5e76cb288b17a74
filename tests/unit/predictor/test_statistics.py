"""Statistics of the protocol add up: requests, rows, batches and times, whoever asks for them."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest

from lepton.contracts.pb import grpc_service_pb2 as oip
from services.predictor.core.batching.limits import Limits
from tests.harness.onnx_models import Linear
from tests.unit.predictor.conftest import Load
from tests.unit.predictor.world import World, amounts, status, world

pytestmark = pytest.mark.usefixtures("door")

ONE = {"amount": "float"}


async def statistics(here: World, model: str = "", version: str = "") -> list[oip.ModelStatistics]:
    asked = oip.ModelStatisticsRequest(name=model, version=version)
    return list((await here.stub.ModelStatistics(asked, metadata=here.metadata)).model_stats)


async def test_every_request_is_counted_once_and_its_steps_last_no_longer_than_it(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        (before,) = await statistics(here, "tiny")
        began_ms = time.time() * 1000
        sizes = [1, 2, 2, 5, 1]
        await asyncio.gather(*(here.stub.ModelInfer(amounts("tiny", *range(size)), metadata=here.metadata)
                               for size in sizes))
        await status(here.stub.ModelInfer(amounts("tiny"), metadata=here.metadata))
        await status(here.stub.ModelInfer(amounts("other", 1.0), metadata=here.metadata))
        (after,) = await statistics(here, "tiny", "1")
        said, was = after.inference_stats, before.inference_stats
        assert said.success.count - was.success.count == len(sizes)
        assert (said.fail.count - was.fail.count, said.fail.ns > 0) == (1, True)
        assert after.inference_count - before.inference_count == sum(sizes)
        assert {one.count for one in (said.queue, said.compute_input, said.compute_infer,
                                      said.compute_output)} == {said.success.count}
        steps = said.queue.ns + said.compute_input.ns + said.compute_infer.ns + said.compute_output.ns
        assert 0 < steps <= said.success.ns
        assert sum(one.batch_size * one.compute_infer.count for one in after.batch_stats) == after.inference_count
        assert sum(one.compute_infer.count for one in after.batch_stats) == after.execution_count
        assert began_ms - 1 <= after.last_inference <= time.time() * 1000 + 1


async def test_all_models_and_versions_in_memory_are_told_of_and_others_are_not_found(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        for version in (1, 2):
            await here.registry.publish("tiny", Linear(ONE))
            await here.serving("tiny", version)
        await here.registry.publish("other", Linear(ONE))
        await here.serving("other", 1)
        found = await statistics(here)
        assert [(one.name, one.version) for one in found] == [("other", "1"), ("tiny", "1"), ("tiny", "2")]
        assert [one.version for one in await statistics(here, "tiny")] == ["1", "2"]
        for name, named in (("nobody", ""), ("tiny", "9"), ("tiny", "x")):
            asked = oip.ModelStatisticsRequest(name=name, version=named)
            code, _ = await status(here.stub.ModelStatistics(asked, metadata=here.metadata))
            assert code == grpc.StatusCode.NOT_FOUND


async def test_a_crowd_in_batches_adds_up_too(load: Load) -> None:
    engine = load(Linear(ONE), limits=Limits(max_rows=8))
    clock = time.monotonic

    async def ask(rows: int) -> None:
        request = amounts("tiny", *range(rows))
        with engine.tally.request(clock, clock()) as timed:
            outputs = await engine.answer(timed.read(engine.prepare(request).feed), clock() + 10)
            timed.answered()
            assert len(outputs["prediction"]) == rows

    for _ in range(4):
        await asyncio.gather(*(ask(1 + number % 3) for number in range(200)))
    told = engine.tally.report("tiny", 1, clock(), time.time())
    assert told.inference_stats.success.count == 800
    assert told.inference_count == 4 * sum(1 + number % 3 for number in range(200))
    assert sum(one.batch_size * one.compute_infer.count for one in told.batch_stats) == told.inference_count
    assert sum(one.compute_infer.count for one in told.batch_stats) == told.execution_count < 800
    assert max(one.batch_size for one in told.batch_stats) <= 8
    assert told.inference_stats.queue.ns > 0
