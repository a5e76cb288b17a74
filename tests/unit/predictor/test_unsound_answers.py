"""Answers that are no numbers: the champion before answers instead, and whose they were is told."""

import math
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import struct_pb2

from lepton.contracts import codec, names, topics
from lepton.contracts.pb import prediction_pb2, prediction_pb2_grpc, telemetry_pb2
from lepton.contracts.topics import Topic
from lepton.store.artifacts import sha256_hex
from services.predictor.core.rollout.comparing import sound
from tests.harness.bus import read_all
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import World, amounts, world

ONE = {"amount": "float"}
GOOD, BROKEN = Linear(ONE, bias=1.0), Linear(ONE, bias=math.nan)


async def told(here: World, name: str, version: str) -> None:
    """Wait for a measurement in a heartbeat that is about a version."""
    async def probe() -> bool:
        beats = [codec.decode_as(Topic.TELEMETRY, telemetry_pb2.Telemetry, one.value or b"")
                 for one in await read_all(here.broker, topics.name(Topic.TELEMETRY))]
        return any(one.name == name and version in (one.attributes.get("version"), f"{one.value:g}")
                   for beat in beats for one in beat.measurements)
    await apoll_until(probe, f"a heartbeat with {name} of {version}", 20)


async def versions(here: World, *models: Linear) -> None:
    for number, model in enumerate(models, 1):
        await here.registry.publish("tiny", model)
        await here.metric(f'lepton_predictor_model_version{{model="tiny",provider="CPUExecutionProvider"}} {number}.0')


@pytest.mark.parametrize("results", ["records", "batches"])
async def test_rows_of_a_stream_are_answered_by_the_champion_before(tmp_path: Path, results: str) -> None:
    async with world(tmp_path) as here:
        spec = await here.registry.apply("tiny", ONE, results=results)
        await versions(here, GOOD, BROKEN)
        await here.registry.features(spec, [{"_event_id": f"e-{number}", "amount": 2.0} for number in range(12)])
        found = await here.predictions("tiny", 12)
        assert {(one.number, one.version) for one in found} == {(3.0, 1)}
        await here.metric('lepton_predictor_unsound_rows_total{model="tiny",version="2"} 12.0')
        await told(here, names.UNSOUND_ROWS, "2")


async def test_named_fields_too_and_a_tensor_is_given_as_it_is(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await versions(here, GOOD, BROKEN)
        stub = prediction_pb2_grpc.PredictionStub(here.channel)
        row = struct_pb2.Struct()
        row.update({"amount": 2.0})
        answer = await stub.Predict(prediction_pb2.PredictRequest(model="tiny", rows=[row]), metadata=here.metadata)
        assert (answer.version, answer.rows[0].number) == (1, 3.0)
        asked_for = prediction_pb2.PredictRequest(model="tiny", version=2, rows=[row])
        named = await stub.Predict(asked_for, metadata=here.metadata)
        assert named.version == 2
        assert math.isnan(named.rows[0].number)
        raw = await here.stub.ModelInfer(amounts("tiny", 2.0), metadata=here.metadata)
        assert raw.model_version == "2"
        await here.metric('lepton_predictor_unsound_rows_total{model="tiny",version="2"} 3.0')


async def test_without_a_version_before_it_is_said_all_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        spec = await here.registry.apply("tiny", ONE)
        await versions(here, BROKEN)
        await here.registry.features(spec, [{"_event_id": "e-0", "amount": 2.0}])
        (one,) = await here.predictions("tiny", 1)
        assert math.isnan(one.number)
        await told(here, names.UNSOUND_ROWS, "1")


async def test_a_champion_whose_bytes_were_changed_is_told_of_while_the_one_before_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await versions(here, GOOD)
        broken = Linear(ONE, bias=2.0)
        digest = await here.registry.artifacts.put(broken.build())
        chunks = here.database.collection("fs.chunks")
        (chunk,) = await chunks.find({"files_id": digest})
        await chunks.put({**chunk, "data": chunk["data"][:-1] + bytes([chunk["data"][-1] ^ 1])})
        await here.registry.publish("tiny", broken, store=False)
        await told(here, names.REFUSED_VERSION, "2")
        assert (await here.stub.ModelInfer(amounts("tiny", 1.0), metadata=here.metadata)).model_version == "1"
        await here.registry.roll_back("tiny")
        await here.serving("tiny", 1)


async def test_a_lost_file_is_named_in_heartbeats_and_taken_up_once_it_is_back(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        data = GOOD.build()
        await here.registry.publish("tiny", GOOD, store=False)

        async def lost() -> bool:
            beats = [codec.decode_as(Topic.TELEMETRY, telemetry_pb2.Telemetry, one.value or b"")
                     for one in await read_all(here.broker, topics.name(Topic.TELEMETRY))]
            return any(one.name == names.REFUSED_VERSION and one.attributes["lost"] == sha256_hex(data)
                       for beat in beats for one in beat.measurements)
        await apoll_until(lost, "a heartbeat with the lost file", 20)
        await here.registry.artifacts.put(data)
        await here.serving("tiny", 1)


@pytest.mark.parametrize(("values", "kind", "are"), [
    ([1, 2], "f4", True), ([], "f4", True), ([1, math.nan], "f4", False), ([-math.inf, 1], "f8", False),
    ([3e38, 3e38], "f4", True), ([1e308], "f8", True), ([6e4], "f2", True), ([math.nan], "f2", False)])
def test_numbers_are_told_from_what_is_none(values: list[float], kind: str, are: bool) -> None:
    assert sound({"prediction": np.array(values, dtype=kind), "label": np.array([True])}) is are
