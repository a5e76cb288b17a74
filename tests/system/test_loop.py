"""The loop end to end on the real stack: any client in, a prediction out, every refusal with its reason."""

import asyncio
import json
import subprocess
import uuid
from datetime import UTC, datetime
from itertools import islice

import grpc
import pytest
from google.protobuf import json_format

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import grpc_service_pb2_grpc as oip_grpc
from lepton.contracts.pb import predictions_pb2
from tests.harness.ledger import Tail, ids_of_prediction, phishing_rows
from tests.harness.records import everything, raw_records
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]


def infer_request(row: dict[str, float], request_id: str = "") -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="phishing", id=request_id)
    for name, value in row.items():
        if isinstance(value, int):
            request.inputs.add(name=name, datatype="INT64", shape=[1]).contents.int64_contents.append(value)
        else:
            request.inputs.add(name=name, datatype="FP64", shape=[1]).contents.fp64_contents.append(value)
    return request


async def test_a_plain_protocol_client_gets_a_prediction_in_raw_tensors(trained_stack: LocalStack) -> None:
    row = next(phishing_rows())
    async with grpc.aio.insecure_channel(trained_stack.grpc) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        answer = await stub.ModelInfer(infer_request(row, "r-1"), metadata=trained_stack.grpc_metadata, timeout=10)
        metadata = await stub.ModelMetadata(oip.ModelMetadataRequest(name="phishing"),
                                            metadata=trained_stack.grpc_metadata, timeout=10)
    assert answer.id == "r-1"
    assert [output.name for output in answer.outputs] == ["label", "probabilities"]
    assert len(answer.raw_output_contents) == 2
    assert {tensor.name for tensor in metadata.inputs} >= set(row)
    by_rest = await trained_stack.post("/v1/models/phishing/predict", {"rows": [row]})
    assert by_rest["version"] == int(answer.model_version)
    assert by_rest["rows"][0]["label"] == ("true" if answer.raw_output_contents[0][0] else "false")


async def test_a_call_without_a_key_is_refused_on_both_doors(trained_stack: LocalStack) -> None:
    async with grpc.aio.insecure_channel(trained_stack.grpc) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ModelInfer(infer_request(next(phishing_rows())), timeout=10)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    async with trained_stack.rest_client(key="") as rest:
        assert (await rest.get("/v1/models")).status_code == 401


async def test_an_event_from_the_java_console_producer_becomes_a_prediction(trained_stack: LocalStack) -> None:
    event_id = f"java-{uuid.uuid4().hex}"
    body = {"event_id": event_id, "entity_id": "console", "occurred_at": datetime.now(UTC).isoformat(),
            **next(phishing_rows())}
    async with Tail(trained_stack.kafka, "lepton-predictions-phishing", ids_of_prediction, "java-") as predictions:
        await asyncio.to_thread(subprocess.run, [*trained_stack.console_producer, "--topic", "lepton-events-phishing"],
                                input=json.dumps(body).encode() + b"\n", check=True, timeout=60)

        async def arrived() -> bool:
            await predictions.read()
            return predictions.seen[event_id] == 1

        await apoll_until(arrived, "the prediction for the console producer's event", 30)


async def test_the_same_event_by_stream_and_by_request_gets_the_same_answer(trained_stack: LocalStack) -> None:
    rows = list(islice(phishing_rows(), 40))
    prefix = f"same-{uuid.uuid4().hex[:8]}-"
    events = [{"event_id": f"{prefix}{n}", "entity_id": f"{prefix}e", **row} for n, row in enumerate(rows)]
    async with Tail(trained_stack.kafka, "lepton-predictions-phishing", ids_of_prediction, prefix) as predictions:
        await trained_stack.post("/v1/pipelines/phishing/events", events)

        async def arrived() -> bool:
            await predictions.read()
            return not predictions.missing([str(event["event_id"]) for event in events])

        await apoll_until(arrived, "predictions of the posted events", 30)
    streamed = {served.event_id: served for served in await everything(
        trained_stack.kafka, "lepton-predictions-phishing", predictions_pb2.PredictionServed.FromString)}
    # A model may be published at any moment: each row is compared with what the version that scored it answers.
    asked = {version: await trained_stack.post("/v1/models/phishing/predict", {"rows": rows, "version": version})
             for version in {streamed[str(event["event_id"])].version for event in events}}
    for number in range(len(rows)):
        served = streamed[f"{prefix}{number}"]
        answer = asked[served.version]["rows"][number]
        assert served.label == answer["label"], json_format.MessageToJson(served)
        assert max(served.probabilities) == pytest.approx(max(answer["probabilities"].values()), abs=1e-6)


async def test_a_late_label_reaches_the_outcomes_and_the_rows_in_the_store(trained_stack: LocalStack) -> None:
    before = (await trained_stack.get("/v1/pipelines/phishing/rows"))["outcomes"]
    event_id = f"label-{uuid.uuid4().hex}"
    row = {"event_id": event_id, "entity_id": "l", **next(phishing_rows())}
    await trained_stack.post("/v1/pipelines/phishing/events", row)
    await trained_stack.post("/v1/pipelines/phishing/labels", {"event_id": event_id, "entity": "l", "label": True})

    async def stored() -> bool:
        return bool((await trained_stack.get("/v1/pipelines/phishing/rows"))["outcomes"] > before)

    await apoll_until(stored, "the outcome in the row segments", 20)


async def test_a_bad_event_is_dead_lettered_with_its_bytes_and_reason(trained_stack: LocalStack) -> None:
    entity = f"bad-{uuid.uuid4().hex}"
    body = {"event_id": entity, "entity_id": entity, **next(phishing_rows()), "https": "yes"}
    await trained_stack.post("/v1/pipelines/phishing/events", body)

    async def refused() -> list[dict[str, bytes]]:
        records = await raw_records(trained_stack.kafka, "lepton-events-phishing-dead-letters")
        return [dict(record.headers) for record in records if entity.encode() in record.value]

    headers = (await apoll_until(refused, "the dead letter", 20))[0]
    assert headers["lepton-dead-field"] == b"https"
    assert b"number" in headers["lepton-dead-reason"] or b"float" in headers["lepton-dead-reason"]
    assert headers["lepton-dead-place"].startswith(b"lepton-events-phishing/")
