"""The log of answers to requests: whom they are about, and a digest of their inputs that no door changes."""

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import prediction_pb2, prediction_pb2_grpc, predictions_pb2
from tests.harness.bus import read_all
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import World, world

pytestmark = pytest.mark.usefixtures("door")

MIXED = {"amount": "float", "country": "category", "known": "bool"}
ROWS = ((1.5, "us", True), (-7.0, "größer", False))


def tensors(request_id: str, *, typed: bool, entity: str = "") -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="mixed", id=request_id)
    amounts, known = [row[0] for row in ROWS], [row[2] for row in ROWS]
    for name, datatype in (("amount", "FP64"), ("country", "BYTES"), ("known", "BOOL")):
        request.inputs.add(name=name, datatype=datatype, shape=[len(ROWS)])
    texts = [country.encode() for _, country, _ in ROWS]
    if typed:
        request.inputs[0].contents.fp64_contents.extend(amounts)
        request.inputs[1].contents.bytes_contents.extend(texts)
        request.inputs[2].contents.bool_contents.extend(known)
    else:
        request.raw_input_contents.extend([np.array(amounts, dtype="<f8").tobytes(),
                                           b"".join(map(sized, texts)), np.array(known).tobytes()])
    if entity:
        request.parameters["entity"].string_param = entity
    return request


def sized(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def digest(amount: float, country: str, known: bool) -> bytes:
    """As docs/observing.md says it."""
    parts: Sequence[tuple[str, str, bytes]] = (
        ("amount", "FP64", struct.pack("<d", amount)), ("country", "BYTES", sized(country.encode())),
        ("known", "BOOL", struct.pack("?", known)), ("_missing", "BOOL", bytes(3)))
    return hashlib.sha256(b"".join(sized(name.encode()) + sized(datatype.encode()) + value
                                   for name, datatype, value in parts)).digest()


async def logged(here: World, *request_ids: str) -> dict[str, predictions_pb2.PredictionServed]:
    """Answers in the log by event id, once those to these requests are there."""
    found: dict[str, predictions_pb2.PredictionServed] = {}

    async def there() -> bool:
        found.update({one.event_id: one for one in await here.predictions("mixed", 1)})
        return all(f"{one}#1" in found for one in request_ids)
    await apoll_until(there, f"the answers to {request_ids} in the log", 10)
    return found


async def serve(here: World) -> Any:
    """Serves `mixed`; the stub of calls by named fields."""
    await here.registry.apply("mixed", MIXED)
    await here.registry.publish("mixed", Linear(MIXED))

    async def answers() -> bool:
        index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True), metadata=here.metadata)
        return bool(index.models)
    await apoll_until(answers, "the model to answer", 10)
    return prediction_pb2_grpc.PredictionStub(here.channel)


async def test_equal_inputs_have_one_digest_whichever_door_and_form_they_come_by(tmp_path: Path, door: str) -> None:
    async with world(tmp_path, log_share=1.0, log_inputs="digest") as here:
        named_stub = await serve(here)
        await here.stub.ModelInfer(tensors("typed", typed=True), metadata=here.metadata)
        named = prediction_pb2.PredictRequest(model="mixed", request_id="named")
        for amount, country, known in ROWS:
            named.rows.add().update({"amount": amount, "country": country, "known": known})
        await named_stub.Predict(named, metadata=here.metadata)

        async def by_the_door() -> bool:
            await here.stub.ModelInfer(tensors("raw", typed=False), metadata=here.metadata)
            return door == "python" or "lepton_predictor_wire_requests_total{" in here.metrics()
        await apoll_until(by_the_door, "the wire to know the form", 20)
        # What the wire answered by itself is among these.
        await here.stub.ModelInfer(tensors("again", typed=False), metadata=here.metadata)
        found = await logged(here, "typed", "named", "raw", "again")
    for request_id in ("typed", "named", "raw", "again"):
        assert [found[f"{request_id}#{row}"].inputs_sha256 for row in range(2)] == [digest(*row) for row in ROWS]


async def test_without_being_asked_for_the_log_knows_nothing_of_inputs(tmp_path: Path) -> None:
    async with world(tmp_path, log_share=1.0) as here:
        await serve(here)
        await here.stub.ModelInfer(tensors("r", typed=True), metadata=here.metadata)
        assert (await logged(here, "r"))["r#0"].inputs_sha256 == b""


async def test_a_request_that_names_an_entity_is_logged_under_it(tmp_path: Path) -> None:
    async with world(tmp_path, log_share=1.0) as here:
        named_stub = await serve(here)
        await here.stub.ModelInfer(tensors("tensors", typed=False, entity="ann"), metadata=here.metadata)
        named = prediction_pb2.PredictRequest(model="mixed", request_id="named", entity="bob")
        for _ in range(2):
            named.rows.add().update({"amount": 1.0, "country": "us", "known": True})
        await named_stub.Predict(named, metadata=here.metadata)
        await here.stub.ModelInfer(tensors("nobody", typed=False), metadata=here.metadata)
        found = await logged(here, "tensors", "named", "nobody")
        keys = {record.key for record in await read_all(here.broker, "lepton-predictions-mixed")}
    assert {event_id: one.entity for event_id, one in found.items()} == {
        "tensors#0": "ann", "tensors#1": "ann", "named#0": "bob", "named#1": "bob", "nobody#0": "nobody#0",
        "nobody#1": "nobody#1"}
    assert keys == {b"ann", b"bob", b"nobody#0", b"nobody#1"}
