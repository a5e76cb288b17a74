"""Triton's metrics at /metrics: they add up with ModelStatistics, tell why requests failed, and end with a version."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Unavailable
from services.predictor.core.session import Session
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.conftest import Gate
from tests.unit.predictor.world import World, amounts, status, world

pytestmark = pytest.mark.usefixtures("door")

ONE = {"amount": "float"}
ROWS = 32
STEPS = {"nv_inference_queue_duration_us": "queue", "nv_inference_compute_input_duration_us": "compute_input",
         "nv_inference_compute_infer_duration_us": "compute_infer",
         "nv_inference_compute_output_duration_us": "compute_output"}


def raw(model: str) -> oip.ModelInferRequest:
    """A request that the wire, where it is the door, answers by itself once it knows the form."""
    request = oip.ModelInferRequest(model_name=model)
    request.inputs.add(name="amount", datatype="FP64", shape=[ROWS])
    request.raw_input_contents.append(np.full(ROWS, 0.5, dtype="<f8").tobytes())
    return request


def seen(here: World, name: str, model: str = "tiny", **labels: str) -> dict[str, float]:
    """Values of one of Triton's families by version. The parser calls every counter `_total`, whatever it is called."""
    return {sample.labels["version"]: sample.value
            for family in text_string_to_metric_families(here.metrics()) for sample in family.samples
            if sample.name.removesuffix("_total") == name
            and {"model": model, **labels}.items() <= sample.labels.items()}


def reasons(here: World, model: str) -> dict[str, float]:
    return {reason: seen(here, "nv_inference_request_failure", model, reason=reason)["1"]
            for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")}


async def by_wire(here: World, door: str, model: str) -> None:
    """Wait until the wire, if it is the door, answers plain requests by itself."""
    async def probe() -> bool:
        await here.stub.ModelInfer(raw(model), metadata=here.metadata)
        return door == "python" or f'lepton_predictor_wire_requests_total{{model="{model}"}}' in here.metrics()
    await apoll_until(probe, "the wire to know the form", 20)


async def test_they_add_up_with_the_statistics_of_the_protocol(tmp_path: Path, door: str) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE))
        await here.serving("tiny", 1)
        await by_wire(here, door, "tiny")
        await asyncio.gather(*(here.stub.ModelInfer(request, metadata=here.metadata)
                               for request in [raw("tiny")] * 20 + [amounts("tiny", 1.0, 2.0)] * 5))
        await status(here.stub.ModelInfer(amounts("tiny"), metadata=here.metadata))
        told = (await here.stub.ModelStatistics(oip.ModelStatisticsRequest(name="tiny"),
                                                metadata=here.metadata)).model_stats[0]
        spent = told.inference_stats
        assert spent.success.count >= 25
        assert seen(here, "nv_inference_request_success") == {"1": spent.success.count}
        assert seen(here, "nv_inference_count") == {"1": told.inference_count}
        assert seen(here, "nv_inference_exec_count") == {"1": told.execution_count}
        assert reasons(here, "tiny") == {"REJECTED": 0, "CANCELED": 0, "BACKEND": 0, "OTHER": spent.fail.count}
        assert spent.fail.count == 1
        assert seen(here, "nv_inference_request_duration_us") == {"1": (spent.success.ns + spent.fail.ns) // 1000}
        for name, step in STEPS.items():
            assert seen(here, name) == {"1": getattr(spent, step).ns // 1000}, name
        assert seen(here, "nv_inference_pending_request_count") == {"1": 0}


async def test_what_waits_is_shown_and_why_requests_failed(tmp_path: Path, gate: Gate, door: str,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    run, broken = Session.run, asyncio.Event()

    def fragile(session: Session, arrays: Any) -> Any:
        if broken.is_set():
            raise Unavailable("the model failed")
        return run(session, arrays)
    monkeypatch.setattr(Session, "run", fragile)
    async with world(tmp_path) as here:
        await here.registry.apply("slow", ONE, batching={"queue_rows": 3 * ROWS})
        await here.registry.publish("slow", Linear(ONE, hidden=1024))
        await here.serving("slow", 1)
        await by_wire(here, door, "slow")
        gate.close()
        first = asyncio.ensure_future(here.stub.ModelInfer(raw("slow"), metadata=here.metadata))
        await gate.holds()
        waiting = [here.stub.ModelInfer(raw("slow"), metadata=here.metadata) for _ in range(3)]

        async def pending() -> bool:
            return seen(here, "nv_inference_pending_request_count", "slow") == {"1": 3}
        await apoll_until(pending, "three requests to wait", 10)
        code, _ = await status(here.stub.ModelInfer(raw("slow"), metadata=here.metadata))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        waiting.pop().cancel()
        gate.open()
        await asyncio.gather(first, *waiting)
        broken.set()
        await status(here.stub.ModelInfer(raw("slow"), metadata=here.metadata))
        await status(here.stub.ModelInfer(amounts("slow"), metadata=here.metadata))

        async def counted() -> bool:
            return reasons(here, "slow") == {"REJECTED": 1, "CANCELED": 1, "BACKEND": 1, "OTHER": 1}
        await apoll_until(counted, "every failure by its reason", 10)
        assert seen(here, "nv_inference_pending_request_count", "slow") == {"1": 0}


async def test_series_end_with_their_version_and_the_machine_is_seen(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        for version in (1, 2, 3):
            await here.registry.publish("tiny", Linear(ONE))
            await here.serving("tiny", version)

        async def left() -> bool:
            return set(seen(here, "nv_inference_request_success")) == {"2", "3"}
        await apoll_until(left, "the first version to leave memory", 10)
        families = {family.name: family for family in text_string_to_metric_families(here.metrics())}
        share, total, used = (families[f"nv_cpu_{name}"].samples[0].value
                              for name in ("utilization", "memory_total_bytes", "memory_used_bytes"))
        assert 0 <= share <= 1
        assert 0 < used < total
        assert families["nv_inference_request_success"].type == "counter"
        await here.metric('lepton_predictor_model_version{model="tiny"')
        assert 'nv_inference_request_success{model="tiny",version="3"} ' in here.metrics()
