"""What each field did, as a predictor serves it: to who asks, by name and by tensor, and to nobody else."""

from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format, struct_pb2

from lepton.contracts.modelling.blocks import Explain, Parameters
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2
from lepton.contracts.pb.models_pb2 import TensorSpec
from lepton.errors import Invalid, Refused
from lepton_ai._predicting.messages import plain
from services.predictor.core import rows as named_rows
from services.predictor.core.signature import of_manifest
from services.trainer.core.export.session import Session
from services.trainer.core.learning import Given, learn
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.predictor.learnt import Learnt, predict
from tests.unit.predictor.world import World, world
from tests.unit.trainer import samples
from tests.unit.trainer.families import shapes

PLAN, ROWS = samples.mixed(family="mlp", parameters=Parameters(epochs=3), explain=Explain(rows=True))
COUNT = 20


@pytest.fixture(scope="module")
def learnt() -> Learnt:
    return Learnt(PLAN, learn(PLAN, Given(ROWS), []))


async def serve(here: World, learnt: Learnt) -> None:
    await here.registry.publish("m", learnt)
    await here.metric('lepton_predictor_model_version{model="m",provider="CPUExecutionProvider"} 1.0')


def tensors(rows: pa.Table, *outputs: str) -> oip.ModelInferRequest:
    """All columns but the label, none of them missing."""
    request = oip.ModelInferRequest(model_name="m")
    for name, kind, member in (("amount", "FP64", "fp64_contents"), ("visits", "INT64", "int64_contents"),
                               ("member", "BOOL", "bool_contents"), ("country", "BYTES", "bytes_contents"),
                               ("note", "BYTES", "bytes_contents")):
        tensor = request.inputs.add(name=name, datatype=kind, shape=[rows.num_rows])
        values = rows.column(name).to_pylist()
        getattr(tensor.contents, member).extend([one.encode() if kind == "BYTES" else one for one in values])
    for name in outputs:
        request.outputs.add(name=name)
    return request


async def test_rows_are_explained_to_who_asks_as_the_trainer_measured(tmp_path: Path, learnt: Learnt) -> None:
    some = ROWS.slice(0, COUNT)
    named = some.select(learnt.learned.preparation.fields).to_pylist()
    expected = Session(learnt.build()).attributions(inputs_of(PLAN.fields, some))
    async with world(tmp_path) as here:
        await serve(here, learnt)
        told = await predict(here, "m", named, explain=True)
        for row, did in zip(told.rows, expected, strict=True):
            assert set(row.attributions) == set(learnt.learned.preparation.fields)
            assert [row.attributions[name] for name in learnt.learned.preparation.fields] == pytest.approx(
                did.tolist(), abs=1e-5)
        plain = await predict(here, "m", named, explain=False)
        assert [(one.label, dict(one.attributions)) for one in plain.rows] == [(one.label, {}) for one in told.rows]


async def test_a_tensor_client_names_the_output_and_gets_it(tmp_path: Path, learnt: Learnt) -> None:
    whole = ROWS.filter(pa.compute.and_(*[ROWS.column(name).is_valid() for name in ("visits", "amount")])).drop_null()
    some = whole.slice(0, 4)
    expected = Session(learnt.build()).attributions(inputs_of(PLAN.fields, some))
    async with world(tmp_path) as here:
        await serve(here, learnt)
        for _ in range(2):  # a form that is known is read another way
            answer = await here.stub.ModelInfer(tensors(some, "attributions"), metadata=here.metadata)
            (output,) = answer.outputs
            assert (output.name, list(output.shape)) == ("attributions", [4, 5])
            assert np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(4, 5) == pytest.approx(
                expected, abs=1e-5)
        plain = await here.stub.ModelInfer(tensors(some), metadata=here.metadata)
        assert [one.name for one in plain.outputs] == ["label", "probabilities"]


async def test_a_version_that_cannot_explain_says_so(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"explain": Explain()})
    async with world(tmp_path) as here:
        await serve(here, Learnt(plan, learn(plan, Given(ROWS), [])))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await predict(here, "m", [{"amount": 3.0}], explain=True)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "cannot say what each field did" in (refused.value.details() or "")
        assert (await predict(here, "m", [{"amount": 3.0}], explain=False)).rows[0].label in ("high", "low")


def test_a_manifest_whose_explanations_do_not_fit_its_fields_is_refused(learnt: Learnt) -> None:
    told = learnt.manifest(learnt.build(), "m", 1)
    assert of_manifest(told).explains
    assert "_explain" not in [one.name for one in of_manifest(told).fields]
    unasked, silent, wide = (models_pb2.ModelManifest.FromString(told.SerializeToString()) for _ in range(3))
    unasked.inputs.pop()
    silent.outputs.pop()
    wide.outputs[-1].CopyFrom(TensorSpec(name="attributions", datatype="FP32", shape=[-1, 9]))
    for wrong in (unasked, silent, wide):
        with pytest.raises(Refused, match="attributions"):
            of_manifest(wrong)


def test_rows_that_ask_and_rows_that_do_not_may_share_a_batch(learnt: Learnt) -> None:
    signature = of_manifest(learnt.manifest(learnt.build(), "m", 1))
    row = json_format.ParseDict({"amount": 1.0}, struct_pb2.Struct())
    asks, quiet = (named_rows.from_structs([row], signature, 10, explain) for explain in (True, False))
    with pytest.raises(Invalid, match="257 rows are to be explained, 256 at most"):
        named_rows.from_structs([row] * 257, signature, 4096, explain=True)
    assert named_rows.from_structs([row] * 257, signature, 4096).rows == 257
    assert list(asks.arrays) == list(quiet.arrays)
    assert [feed.arrays["_explain"].tolist() for feed in (asks, quiet)] == [[True], [False]]


async def test_patches_of_an_image_are_told_by_name_and_by_tensor(tmp_path: Path) -> None:
    plan, rows = shapes.digits(80, channels=(2,), hidden=(4,), epochs=1)
    plan = plan.model_copy(update={"explain": Explain(rows=True, steps=4, parts=20)})
    digits = Learnt(plan, learn(plan, Given(rows), []))
    some = rows.slice(0, 3)
    pixels = some.column("pixels").to_pylist()
    expected = Session(digits.build()).reasons(inputs_of(plan.fields, some))
    async with world(tmp_path) as here:
        await serve(here, digits)
        told = await predict(here, "m", [{"pixels": one} for one in pixels], explain=True)
        for row, parts in zip(told.rows, expected["attributions:pixels"], strict=True):
            assert list(row.attribution_parts["pixels"].shape) == [4, 4]
            assert list(row.attribution_parts["pixels"].values) == pytest.approx(parts.ravel().tolist(), abs=1e-5)
            assert sum(row.attribution_parts["pixels"].values) == pytest.approx(row.attributions["pixels"], abs=1e-5)
            assert plain(row, explain=True)["attribution_parts"]["pixels"]["shape"] == [4, 4]
        silent = await predict(here, "m", [{"pixels": pixels[0]}], explain=False)
        assert not silent.rows[0].attribution_parts
        request = oip.ModelInferRequest(model_name="m")
        request.inputs.add(name="pixels", datatype="FP32", shape=[3, 64])
        for _ in range(2):  # a form that is known is read another way
            del request.outputs[:], request.raw_input_contents[:]
            request.raw_input_contents.append(np.array(pixels, dtype="<f4").tobytes())
            request.outputs.add(name="attributions:pixels")
            answer = await here.stub.ModelInfer(request, metadata=here.metadata)
            assert list(answer.outputs[0].shape) == [3, 4, 4]
            assert np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(3, 4, 4) == pytest.approx(
                expected["attributions:pixels"], abs=1e-5)
        del request.outputs[:]
        quiet = await here.stub.ModelInfer(request, metadata=here.metadata)
        assert [one.name for one in quiet.outputs] == ["label", "probabilities"]
        with pytest.raises(grpc.aio.AioRpcError, match="33 rows are to be explained, 32 at most"):
            await predict(here, "m", [{"pixels": pixels[0]}] * 33, explain=True)
    manifest = digits.manifest(digits.build(), "m", 1)
    assert of_manifest(manifest).parted == ["pixels"]
    for name, shape in (("attributions:pixels", [-1, -1]), ("attributions:strange", [-1, 4]), ("attributions:", [-1])):
        wrong = models_pb2.ModelManifest.FromString(manifest.SerializeToString())
        wrong.outputs[-1].CopyFrom(TensorSpec(name=name, datatype="FP32", shape=shape))
        with pytest.raises(Refused, match="attributions:"):
            of_manifest(wrong)
