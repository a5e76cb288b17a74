"""Models over images and series as a predictor serves them: one answer by stream, by named rows and by tensors."""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest

from lepton.contracts import features, pipeline
from lepton.contracts.pb import grpc_service_pb2 as oip
from services.trainer.core.learning import Given, learn
from services.trainer.core.plan import Plan, planned_fields
from tests.unit.contracts.reading.test_images import packed
from tests.unit.predictor.learnt import Learnt, predict
from tests.unit.predictor.world import World, world
from tests.unit.trainer.families import shapes

DIGITS = pipeline.parse("""
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: digits}
events:
  partitions: 2
  fields: {pixels: {type: vector, dims: 64, image: [8, 8]}}
  label: {field: digit, type: int, task: classification}
model: {family: cnn, parameters: {image: [8, 8]}}
""")
WALKS = pipeline.parse("""
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: walks}
events:
  partitions: 2
  fields: {steps: {type: sequence, max_length: 12}, size: {type: float}}
  label: {field: rises, type: bool}
model: {family: gru}
""")


@dataclass(frozen=True)
class Shaped(Learnt):
    """With the Pipeline and the rows it was learnt from."""

    spec: pipeline.Pipeline
    rows: pa.Table


def shaped(spec: pipeline.Pipeline, plan: Plan, rows: pa.Table) -> Shaped:
    assert planned_fields(spec) == plan.fields
    return Shaped(plan, learn(plan, Given(rows), []), spec, rows)


@pytest.fixture(scope="module")
def digits() -> Shaped:
    return shaped(DIGITS, *shapes.digits(300, epochs=2, channels=(4, 8)))


@pytest.fixture(scope="module")
def walks() -> Shaped:
    return shaped(WALKS, *shapes.walks("gru", 100, epochs=2, units=4))


def accepted(learnt: Shaped, count: int) -> pa.RecordBatch:
    """The first rows as ingest writes them."""
    rows = [{features.EVENT_ID: f"e-{number}", features.ENTITY: f"e-{number}", features.SOURCE: "test",
             features.OCCURRED_AT: datetime(2026, 1, 1, tzinfo=UTC), features.SOURCE_OFFSET: number,
             features.OUTLIERS: [], **{name: row[name] for name in learnt.spec.fields}}
            for number, row in enumerate(learnt.rows.slice(0, count).to_pylist())]
    return pa.RecordBatch.from_pylist(rows, schema=features.features_schema(learnt.spec))


async def serve(here: World, learnt: Shaped) -> None:
    await here.registry.create(learnt.spec.name, partitions=2)
    await here.registry.announce_spec(learnt.spec)
    await here.registry.publish(learnt.spec.name, learnt)
    await here.metric(f'lepton_predictor_model_version{{model="{learnt.spec.name}",provider="CPUExecutionProvider"}} '
                      "1.0")


async def labels(here: World, model: str, rows: list[dict[str, Any]]) -> list[str]:
    return [one.label for one in (await predict(here, model, rows)).rows]


async def infer(here: World, model: str, **tensors: np.ndarray) -> list[str]:
    kinds = {"float32": "FP32", "float64": "FP64"}
    request = oip.ModelInferRequest(
        model_name=model, raw_input_contents=[array.tobytes() for array in tensors.values()],
        inputs=[oip.ModelInferRequest.InferInputTensor(name=name, datatype=kinds[str(array.dtype)], shape=array.shape)
                for name, array in tensors.items()])
    answer = await here.stub.ModelInfer(request, metadata=here.metadata)
    place = [one.name for one in answer.outputs].index("label")
    raw = answer.raw_output_contents[place]
    if answer.outputs[place].datatype == "BOOL":
        return ["true" if one else "false" for one in raw]
    return [str(one) for one in np.frombuffer(raw, "<i8")]


async def test_an_image_gets_one_answer_by_stream_by_name_and_by_tensor(tmp_path: Path, digits: Shaped) -> None:
    count = 40
    async with world(tmp_path) as here:
        await serve(here, digits)
        await here.registry.raw_features(DIGITS, features.encode_batch(accepted(digits, count)))
        streamed = {one.event_id: one.label for one in await here.predictions("digits", count)}
        wanted = [streamed[f"e-{number}"] for number in range(count)]
        assert len(set(wanted)) > 3
        images = digits.rows.column("pixels").to_pylist()[:count]
        assert await labels(here, "digits", [{"pixels": one} for one in images]) == wanted
        assert await infer(here, "digits", pixels=np.array(images, dtype=np.float32)) == wanted


async def test_a_png_by_name_is_answered_as_its_pixels_are(tmp_path: Path, digits: Shaped) -> None:
    async with world(tmp_path) as here:
        await serve(here, digits)
        shown = np.array(digits.rows.column("pixels").to_pylist()[:10], dtype=np.uint8).reshape(-1, 8, 8)
        sent = [base64.b64encode(packed(one)).decode() for one in shown]
        numbers = [one.ravel().tolist() for one in shown]
        by_image = await predict(here, "digits", [{"pixels": one} for one in sent])
        by_numbers = await predict(here, "digits", [{"pixels": one} for one in numbers])
        assert list(by_image.rows) == list(by_numbers.rows)
        for wrong, said in ((base64.b64encode(packed(shown[0][:4])).decode(), "is 8 x 4 pixels, not 8 x 8"),
                            ("AAAA", "is neither PNG nor JPEG"), ("%", "is no base64")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await labels(here, "digits", [{"pixels": sent[0]}, {"pixels": wrong}])
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert said in (refused.value.details() or "")


async def test_series_of_any_length_get_one_answer_by_stream_by_name_and_by_tensor(tmp_path: Path,
                                                                                  walks: Shaped) -> None:
    count = 40
    async with world(tmp_path) as here:
        await serve(here, walks)
        await here.registry.raw_features(WALKS, features.encode_batch(accepted(walks, count)))
        streamed = {one.event_id: one.label for one in await here.predictions("walks", count)}
        wanted = [streamed[f"e-{number}"] for number in range(count)]
        assert set(wanted) == {"true", "false"}
        rows = walks.rows.select(["steps", "size"]).to_pylist()[:count]
        assert await labels(here, "walks", rows) == wanted
        steps = np.full((count, 12), np.nan)
        for place, row in enumerate(rows):
            steps[place, :len(row["steps"] or [])] = row["steps"] or []
        assert await infer(here, "walks", steps=steps, size=np.array([row["size"] for row in rows])) == wanted


async def test_what_is_no_image_is_refused_and_the_next_request_is_answered(tmp_path: Path, digits: Shaped) -> None:
    async with world(tmp_path) as here:
        await serve(here, digits)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await labels(here, "digits", [{"pixels": [1.0] * 63}])
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "63 numbers" in (refused.value.details() or "")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await infer(here, "digits", pixels=np.ones((2, 63), dtype=np.float32))
        assert "the model takes [-1, 64]" in (refused.value.details() or "")
        for rows in (0, 1):
            with pytest.raises(grpc.aio.AioRpcError):
                await infer(here, "digits", pixels=np.ones((0, 64 + rows), dtype=np.float32))
        assert len(await labels(here, "digits", [{"pixels": [0.0] * 64}, {}])) == 2


async def test_a_batch_without_rows_does_not_reach_a_recurrent_network(tmp_path: Path, walks: Shaped) -> None:
    async with world(tmp_path) as here:
        await serve(here, walks)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await infer(here, "walks", steps=np.ones((0, 12)), size=np.ones(0))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        await here.registry.raw_features(WALKS, features.encode_batch(accepted(walks, 0)))
        await here.registry.raw_features(WALKS, features.encode_batch(accepted(walks, 3)))
        assert len(await here.predictions("walks", 3)) == 3
