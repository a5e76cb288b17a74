"""A traced request shows each of its steps, and the batch it shared with others, which is linked to all of them."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lepton.contracts.pb import grpc_service_pb2 as oip
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.conftest import Gate
from tests.unit.predictor.world import World, amounts, world
from tests.unit.runtime.test_telemetry import Collector

pytestmark = pytest.mark.usefixtures("door")

ONE = {"amount": "float"}
ROWS = 32
CALL = "inference.GRPCInferenceService/ModelInfer"
PARENT = "b7ad6b7169203331"


def trace_id(number: int) -> str:
    return f"{number:032x}"


def raw(model: str) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=model)
    request.inputs.add(name="amount", datatype="FP64", shape=[ROWS])
    request.raw_input_contents.append(np.full(ROWS, 0.5, dtype="<f8").tobytes())
    return request


def asked(here: World, model: str, number: int, sampled: str = "01") -> Any:
    """A request of the trace of that number."""
    return here.stub.ModelInfer(raw(model), metadata=(
        *here.metadata, ("traceparent", f"00-{trace_id(number)}-{PARENT}-{sampled}")))


def of(received: Collector, number: int) -> dict[str, Any]:
    """Spans of a trace by name."""
    with received.lock:
        return {span.name: span for span in received.spans if span.trace_id.hex() == trace_id(number)}


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: one.value.int_value or one.value.string_value for one in span.attributes}


async def test_a_request_has_a_child_for_each_step_and_its_batch(tmp_path: Path,
                                                                 collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    async with world(tmp_path, otlp_endpoint=endpoint) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await asked(here, "tiny", 1)
    spans = of(received, 1)
    call, batch = spans[CALL], spans["batch"]
    assert call.parent_span_id.hex() == PARENT
    assert attributes(call) == {"lepton.model": "tiny", "lepton.model_version": 1}
    assert attributes(batch) == {"lepton.model": "tiny", "lepton.model_version": 1, "lepton.rows": ROWS,
                                 "lepton.requests": 1}
    assert {spans[name].parent_span_id for name in ("input", "infer", "output", "batch")} == {call.span_id}
    assert [link.span_id for link in batch.links] == [call.span_id]
    assert [link.span_id for link in spans["infer"].links] == [batch.span_id]
    times = [time for name in ("input", "infer", "output")
             for time in (spans[name].start_time_unix_nano, spans[name].end_time_unix_nano)]
    assert times == sorted(times)


async def test_one_batch_is_linked_to_every_traced_request_in_it(tmp_path: Path, gate: Gate,
                                                                 collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    async with world(tmp_path, otlp_endpoint=endpoint) as here:
        await here.registry.apply("slow", ONE, batching={"max_rows": 4 * ROWS})
        await here.registry.publish("slow", Linear(ONE, hidden=1024))
        await here.serving("slow", 1)
        gate.close()
        first = asyncio.ensure_future(asked(here, "slow", 1))
        await gate.holds()
        others = [asyncio.ensure_future(asked(here, "slow", number)) for number in (2, 3)]

        async def waiting() -> bool:
            return 'nv_inference_pending_request_count{model="slow",version="1"} 2' in here.metrics()
        await apoll_until(waiting, "two requests to wait", 10)
        gate.open()
        await asyncio.gather(first, *others)
    batch = (of(received, 2) | of(received, 3))["batch"]
    assert attributes(batch)["lepton.requests"] == 2
    assert {link.span_id for link in batch.links} == {of(received, number)[CALL].span_id for number in (2, 3)}
    for number in (2, 3):
        spans = of(received, number)
        assert [link.span_id for link in spans["infer"].links] == [batch.span_id]
        assert spans["queue"].parent_span_id == spans[CALL].span_id
        assert spans["queue"].end_time_unix_nano == spans["infer"].start_time_unix_nano


async def test_a_batch_that_fails_says_so_in_the_traces_of_its_requests(
        tmp_path: Path, collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch) -> None:
    received, endpoint = collector
    async with world(tmp_path, otlp_endpoint=endpoint) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        with monkeypatch.context() as patch:
            patch.setattr("services.predictor.core.batching.batcher.checked", lambda *_: 1 / 0)
            with pytest.raises(grpc.aio.AioRpcError):
                await asked(here, "tiny", 1)
    spans = of(received, 1)
    assert (spans["batch"].status.code, spans["batch"].status.message) == (2, "ZeroDivisionError")
    assert spans[CALL].status.code == 2
    assert "output" not in spans


async def test_a_request_whose_trace_is_not_sampled_leaves_no_span(tmp_path: Path,
                                                                   collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    async with world(tmp_path, otlp_endpoint=endpoint, trace_ratio=0.0) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await asked(here, "tiny", 1, sampled="00")
        await here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata)
    assert not [span.name for span in received.spans if span.name in (CALL, "batch", "infer")]
