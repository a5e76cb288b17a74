"""One real predictor process: adopts, refuses, swaps under load, scores exactly, comes back, and stops in order."""

import asyncio
import signal
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest

from lepton.contracts import codec, topics
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import predictions_pb2, telemetry_pb2
from lepton.contracts.topics import Topic
from tests.harness.bus import read_all
from tests.harness.doors import DOORS, SETTING
from tests.harness.onnx_models import Linear
from tests.harness.predictions import served
from tests.harness.registry import digest, trainer
from tests.harness.wait import apoll_until
from tests.integration.predictor.conftest import ROOT, Ground, amounts

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]

ONE = {"amount": "float"}


def plain(model: str, value: float) -> oip.ModelInferRequest:
    """A request in raw tensors, as most clients send them."""
    request = oip.ModelInferRequest(model_name=model)
    request.inputs.add(name="amount", datatype="FP64", shape=[1])
    request.raw_input_contents.append(struct.pack("<d", value))
    return request


async def serving(stub: Any, metadata: Any, model: str, version: int) -> None:
    async def probe() -> bool:
        try:
            answer = await stub.ModelInfer(amounts(model, 1.0), metadata=metadata, timeout=5)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.model_version == str(version))
    await apoll_until(probe, f"{model} v{version} to answer", 20)


@pytest.mark.parametrize("door", DOORS)
async def test_a_plain_protocol_client_gets_raw_tensors_and_swaps_cost_no_request(
        ground: Ground, model: str, door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, door)
    await ground.registry.publish(model, Linear(ONE, bias=1.0))
    metadata = (("authorization", await ground.registry.key()),)
    async with ground.predictor() as predictor, ground.stub(predictor) as stub:
        answer = await stub.ModelInfer(amounts(model, 1.0, 2.0), metadata=metadata)
        assert struct.unpack("<2f", answer.raw_output_contents[0]) == (2.0, 3.0)
        seen: Counter[str] = Counter()
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                got = await stub.ModelInfer(plain(model, 5.0), metadata=metadata, timeout=10)
                (value,) = struct.unpack("<f", got.raw_output_contents[0])
                assert value == 5.0 + float(got.model_version)
                seen[got.model_version] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(ask())
            for version in range(2, 6):
                await ground.registry.publish(model, Linear(ONE, bias=float(version)))
                await serving(stub, metadata, model, version)
            done.set()
        assert {"1", "5"} <= set(seen)
        if door == "native":
            # What the wire counted is taken over now and then.
            await predictor.metric(f'lepton_predictor_wire_requests_total{{model="{model}"}}')
        await predictor.metric(f'lepton_predictor_model_version{{model="{model}",provider="CPUExecutionProvider"}} 5.0')


async def test_a_wrong_key_and_a_flipped_byte_are_refused_while_the_old_one_answers(ground: Ground, model: str) -> None:
    await ground.registry.publish(model, Linear(ONE, bias=1.0))
    metadata = (("authorization", await ground.registry.key()),)
    async with ground.predictor() as predictor, ground.stub(predictor) as stub:
        await serving(stub, metadata, model, 1)
        mallory = trainer(ground.home, "mallory", trusted=False)
        forged = ground.registry.state(model)
        forged.champion = 0
        await ground.registry.announce(forged, mallory)
        await predictor.metric(f'lepton_predictor_models_refused_total{{model="{model}"}} 1.0')
        await serving(stub, metadata, model, 1)

        data = Linear(ONE, bias=2.0).build()
        await ground.registry.artifacts.put(data)
        chunks = ground.database.collection("fs.chunks")
        (chunk,) = await chunks.find({"files_id": digest(data)})
        flipped = bytearray(chunk["data"])
        flipped[len(flipped) // 2] ^= 1
        await chunks.put({**chunk, "data": bytes(flipped)})
        state = ground.registry.state(model)
        state.champion = 1
        await ground.registry.announce(state)
        await ground.registry.publish(model, Linear(ONE, bias=2.0), store=False)
        await predictor.metric(f'lepton_predictor_models_refused_total{{model="{model}"}} 2.0')
        await serving(stub, metadata, model, 1)

        async def told() -> bool:
            beats = [codec.decode_as(Topic.TELEMETRY, telemetry_pb2.Telemetry, record.value or b"")
                     for record in await read_all(ground.broker, Topic.TELEMETRY)]
            return any(error.kind == "model_refused" and model in error.place for beat in beats
                       for error in beat.errors)

        await apoll_until(told, "a heartbeat that tells of the refusal", 10)


@pytest.mark.parametrize("results", ["records", "batches"])
async def test_a_stream_is_scored_exactly_once_across_a_kill(ground: Ground, model: str, results: str) -> None:
    fields = {"amount": "float", "country": "category"}
    spec = await ground.registry.apply(model, fields, partitions=2, results=results)
    await ground.registry.publish(model, Linear(fields))

    async def produce(batch: int) -> None:
        rows = [{"_event_id": f"{batch}-{number}", "amount": float(number), "country": "us"} for number in range(50)]
        await ground.registry.features(spec, rows, partition=batch % 2)

    async def arrived(count: int) -> list[predictions_pb2.PredictionServed]:
        found = served(await read_all(ground.broker, topics.name(Topic.PREDICTIONS, model)))
        return found if len(found) >= count else []

    async with ground.predictor() as predictor:
        for batch in range(20):
            await produce(batch)
        await apoll_until(lambda: arrived(1), "the first predictions", 20)
        predictor.process.send_signal(signal.SIGKILL)
        predictor.process.wait()
    async with ground.predictor() as predictor:
        for batch in range(20, 30):
            await produce(batch)
        found = await apoll_until(lambda: arrived(1500), "every row", 40)
        assert len(found) == 1500
        numbers = {one.event_id: one.number for one in found}
        assert numbers == {f"{batch}-{number}": number + 1.0 for batch in range(30) for number in range(50)}


async def test_a_stop_finishes_what_is_under_way_and_exits_0(ground: Ground, model: str) -> None:
    await ground.registry.publish(model, Linear(ONE, bias=1.0))
    metadata = (("authorization", await ground.registry.key()),)
    async with ground.predictor() as predictor, ground.stub(predictor) as stub:
        await serving(stub, metadata, model, 1)
        stream = stub.ModelStreamInfer(metadata=metadata)
        await stream.write(amounts(model, 1.0))
        assert (await stream.read()).infer_response.model_version == "1"
        outcomes: Counter[str] = Counter()
        asking = asyncio.ensure_future(_ask_until_away(stub, metadata, model, outcomes))
        await apoll_until(lambda: _count(outcomes), "answers under load", 10)
        assert await predictor.terminate() == 0
        await asking
        # What was answered was right; what came too late was told to go elsewhere. Nothing else.
        assert set(outcomes) <= {"ok", "UNAVAILABLE", "CANCELLED"}
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stream.read()
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert not await _announced(ground, "predictor-0")


async def _ask_until_away(stub: Any, metadata: Any, model: str, outcomes: Counter[str]) -> None:
    while True:
        try:
            await stub.ModelInfer(amounts(model, 1.0), metadata=metadata, timeout=5)
            outcomes["ok"] += 1
        except grpc.aio.AioRpcError as error:
            outcomes[error.code().name] += 1
            return


async def _count(outcomes: Counter[str]) -> bool:
    return outcomes["ok"] > 20


async def _announced(ground: Ground, instance: str) -> telemetry_pb2.Instance | None:
    """What the instances topic says of an instance now."""
    latest = None
    for record in await read_all(ground.broker, Topic.INSTANCES):
        if record.key == instance.encode():
            latest = record.value
    return codec.decode_as(Topic.INSTANCES, telemetry_pb2.Instance, latest) if latest is not None else None


async def test_an_instance_announces_its_door_models_and_provider(ground: Ground, model: str) -> None:
    await ground.registry.publish(model, Linear(ONE))
    async with ground.predictor("predictor-1") as predictor:
        async def probe() -> bool:
            found = await _announced(ground, "predictor-1")
            return (found is not None and found.state == telemetry_pb2.INSTANCE_STATE_READY
                    and any(one.model == model and one.version == 1 and one.revision == 1 for one in found.models)
                    and found.provider == "CPUExecutionProvider" and found.address == predictor.grpc_address)
        await apoll_until(probe, "the announcement", 10)


async def test_a_restart_without_the_database_serves_from_the_cache(ground: Ground, model: str) -> None:
    await ground.registry.publish(model, Linear(ONE, bias=1.0))
    metadata = (("authorization", await ground.registry.key()),)
    async with ground.predictor() as predictor, ground.stub(predictor) as stub:
        await serving(stub, metadata, model, 1)
    await ground.registry.artifacts.delete(digest(Linear(ONE, bias=1.0).build()))
    async with ground.predictor() as predictor, ground.stub(predictor) as stub:
        await serving(stub, metadata, model, 1)


def end(**settings: str) -> tuple[int, str]:
    """Exit code and last words of a predictor that cannot start."""
    done = subprocess.run([sys.executable, "-m", "services.predictor"], cwd=ROOT, env=settings, capture_output=True,
                          text=True, timeout=60, check=False)
    return done.returncode, done.stderr + done.stdout


def test_settings_that_make_no_sense_are_named_and_end_it_with_2() -> None:
    code, said = end(LEPTON_DEVICE="gpu", LEPTON_PREDICTOR_PROT="1")
    assert code == 2
    assert "LEPTON_DEVICE" in said
    assert "did you mean LEPTON_PREDICTOR_PORT" in said


def test_cuda_that_is_not_to_be_had_ends_it_with_3_and_the_remedy(tmp_path: Path) -> None:
    trainer(tmp_path)
    code, said = end(LEPTON_DEVICE="cuda", CUDA_VISIBLE_DEVICES="", LEPTON_LOG_FORMAT="text",
                     LEPTON_TRUST_DIR=str(tmp_path / "trust"))
    assert code == 3
    assert "CUDA was asked for, but a session does not get it" in said
    assert "set auto or cpu" in said
    assert "Traceback" not in said


async def test_a_port_that_is_taken_ends_it_with_3_and_one_line(ground: Ground) -> None:
    async with ground.predictor() as predictor:
        code, said = await asyncio.to_thread(
            end, LEPTON_PREDICTOR_PORT=predictor.grpc_address.rpartition(":")[2], LEPTON_LOG_FORMAT="text",
            LEPTON_INSTANCE="second", LEPTON_KAFKA_BOOTSTRAP=ground.bootstrap, LEPTON_MONGO_URL=ground.mongo_url,
            LEPTON_MONGO_DATABASE=ground.database_name, LEPTON_TRUST_DIR=str(ground.home / "trust"),
            LEPTON_STATE_DIR=str(ground.home / "state"), LEPTON_DEVICE="cpu")
        assert code == 3
        assert f"cannot listen on {predictor.grpc_address}" in said


async def test_metadata_names_what_is_served(ground: Ground, model: str) -> None:
    await ground.registry.publish(model, Linear(ONE))
    metadata = (("authorization", await ground.registry.key()),)
    async with ground.predictor() as predictor, ground.stub(predictor) as stub:
        found = await stub.ModelMetadata(oip.ModelMetadataRequest(name=model), metadata=metadata)
        assert (found.platform, list(found.versions)) == ("onnxruntime_onnx", ["1"])
        server = await stub.ServerMetadata(oip.ServerMetadataRequest(), metadata=metadata)
        assert "provider:CPUExecutionProvider" in server.extensions
