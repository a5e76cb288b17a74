"""Traces in real Jaeger: from the gateway's door over both Kafka hops to the prediction, and into a request's batch."""

import uuid
from typing import Any

import httpx
import pytest

from tests.harness.ledger import phishing_rows
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]


async def test_one_trace_spans_gateway_kafka_ingest_kafka_predictor(trained_stack: LocalStack) -> None:
    trace_id = uuid.uuid4().hex
    parent = uuid.uuid4().hex[:16]
    event = {"event_id": f"trace-{trace_id}", "entity_id": "traced", **next(phishing_rows())}
    async with trained_stack.rest_client() as rest:
        posted = await rest.post("/v1/pipelines/phishing/events", json=event,
                                 headers={"traceparent": f"00-{trace_id}-{parent}-01"})
    assert posted.is_success, posted.text

    async def services() -> set[str]:
        async with httpx.AsyncClient(timeout=5) as client:
            answer = await client.get(f"{trained_stack.jaeger}/api/traces/{trace_id}")
        if answer.status_code != 200 or not answer.json().get("data"):
            return set()
        trace = answer.json()["data"][0]
        seen = {process["serviceName"] for process in trace["processes"].values()}
        return seen if {"gateway", "ingest", "predictor"} <= seen else set()

    await apoll_until(services, "gateway, ingest and predictor in one trace", 40, every_s=0.5)


async def test_a_prediction_is_one_trace_from_the_gateway_into_its_batch(trained_stack: LocalStack) -> None:
    trace_id = uuid.uuid4().hex
    async with trained_stack.rest_client() as rest:
        said = await rest.post("/v1/models/phishing/predict", json={"rows": [next(phishing_rows())]},
                               headers={"traceparent": f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01"})
    assert said.is_success, said.text

    async def spans() -> dict[str, dict[str, Any]]:
        async with httpx.AsyncClient(timeout=5) as client:
            answer = await client.get(f"{trained_stack.jaeger}/api/traces/{trace_id}")
        if answer.status_code != 200 or not answer.json().get("data"):
            return {}
        found = {span["operationName"]: span for span in answer.json()["data"][0]["spans"]}
        return found if {"infer", "batch", "output"} <= set(found) else {}

    seen = await apoll_until(spans, "a request's steps in Jaeger", 40, every_s=0.5)
    call = seen["lepton.v1.Prediction/Predict"]
    # Jaeger shows a link as a second reference beside the one to the parent.
    for name, others in (("batch", {call["spanID"]}), ("infer", {call["spanID"], seen["batch"]["spanID"]})):
        assert {one["spanID"] for one in seen[name]["references"]} == others, name
    assert any(span.startswith("POST ") for span in seen), list(seen)
