"""Models that were trained elsewhere: taken in, measured and gated like any other, or refused with the remedy."""

import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pyarrow.compute as pc
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lepton.contracts.bundles.brought import check_plain
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import ModelVersion
from lepton.contracts.signing import verify_manifest
from lepton.errors import Invalid, Missing
from lepton.store.registry.garbage import UPLOADS
from lepton_ai._library.importing import of_estimator
from services.predictor.core import answers, graph
from services.predictor.core.signature import of_manifest
from services.trainer import worker
from services.trainer.core.dataset import LABEL
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.importing.opened import opened
from services.trainer.core.learning import Given, Learned, manifest
from services.trainer.core.plan import Imported, Plan
from services.trainer.core.preparing.rows import inputs_of
from services.trainer.flow.registry.changes import Changes
from tests.unit.trainer import samples
from tests.unit.trainer.library.test_exports import archive_of, offline, unpacked
from tests.unit.trainer.world import World, rows_of

IMPORT = training_pb2.TRAINING_KIND_IMPORT


def matrix(plan: Plan, rows: Any) -> Any:
    return np.column_stack([rows.column(field.name).to_numpy() for field in plan.fields])


def labels(rows: Any) -> Any:
    return np.array(rows.column(LABEL).to_pylist())


def taken_in(plan: Plan, rows: Any, data: bytes, classes: tuple[str, ...] = ()) -> Learned:
    found = worker.brought(plan.model_copy(update={"imported": Imported(classes=classes)}), Given(rows), data)
    told = manifest(plan, found, "test")
    # The predictor would take it.
    graph.check(found.exported.data, told.operators)
    answers.check(told, of_manifest(told))
    return found


def test_an_estimator_answers_as_it_did_where_it_was_trained() -> None:
    plan, rows = samples.wine()
    estimator = RandomForestClassifier(20, random_state=0).fit(matrix(plan, rows), labels(rows))
    brought = of_estimator(estimator, {field.name: field.type for field in plan.fields})
    assert (brought.classes, brought.origin.split()[-1]) == (tuple(estimator.classes_), "RandomForestClassifier")
    found = taken_in(plan, rows, brought.data, brought.classes)
    said = Session(found.exported.data).answers(inputs_of(plan.fields, rows))
    assert np.abs(said["probabilities"] - estimator.predict_proba(matrix(plan, rows))).max() < 1e-5
    assert said["label"].tolist() == estimator.predict(matrix(plan, rows)).tolist()
    assert found.metrics["accuracy"] > 0.9
    assert found.weights == b""


def test_classes_come_in_the_pipelines_order_whatever_the_files() -> None:
    plan, rows = samples.wine(label_categories=("grignolino", "barbera", "barolo"))
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(matrix(plan, rows), labels(rows))
    brought = of_estimator(estimator, {field.name: field.type for field in plan.fields})
    found = taken_in(plan, rows, brought.data, brought.classes)
    assert found.target.classes == ("grignolino", "barbera", "barolo")
    assert found.metrics["accuracy"] > 0.9


def test_a_regression_and_columns_by_name_are_taken_in() -> None:
    plan, rows = samples.diabetes()
    line = LinearRegression().fit(matrix(plan, rows), labels(rows))
    found = taken_in(plan, rows, of_estimator(line, {field.name: field.type for field in plan.fields}).data)
    said = Session(found.exported.data).answers(inputs_of(plan.fields, rows))["prediction"]
    assert np.abs(said - line.predict(matrix(plan, rows))).max() < 1e-2
    assert found.metrics["r2"] > 0.3


def test_text_and_missing_values_are_filled_as_the_pipeline_says() -> None:
    plan, rows = samples.mixed()
    plan = plan.model_copy(update={"fields": tuple(one for one in plan.fields if one.name in ("amount", "country"))})
    mean = pc.mean(rows.column("amount")).as_py()
    frame = np.array([[mean if row["amount"] is None else row["amount"], row["country"] or "us"]
                      for row in rows.select(["amount", "country"]).to_pylist()], dtype=object)
    estimator = make_pipeline(ColumnTransformer([("country", OneHotEncoder(handle_unknown="ignore"), [1]),
                                                 ("amount", StandardScaler(), [0])]),
                              LogisticRegression()).fit(frame, labels(rows))
    brought = of_estimator(estimator, {"amount": "float", "country": "category"})
    found = taken_in(plan, rows, brought.data, brought.classes)
    said = Session(found.exported.data).answers(inputs_of(plan.fields, rows))
    agreed = said["label"] == estimator.predict(frame)
    assert agreed.mean() > 0.97
    assert found.metrics["accuracy"] > 0.8


def network(softmax: bool = True, one_row: bool = False, domain: str = "", outside: bool = False) -> bytes:
    """A linear layer over 13 numbers and three classes, as torch's exporter writes one."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(13, 3)
    weight = numpy_helper.from_array(layer.weight.detach().numpy().T.copy() / 1000, "weight")
    if outside:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../../etc/passwd")
    size = numpy_helper.from_array(np.array([1 if one_row else -1, 13]), "size")
    nodes = [helper.make_node("Reshape", ["x", "size"], ["flat"]),
             helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
             helper.make_node("Softmax" if softmax else "Identity", ["scores"], ["y"], domain=domain)]
    whole = helper.make_graph(nodes, "torch", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 13])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])], [weight, size])
    imports = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    data: bytes = helper.make_model(whole, ir_version=9, opset_imports=imports).SerializeToString()
    return data


def old_operators() -> bytes:
    model = onnx.load_from_string(network())
    model.opset_import[0].version = 9
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize(("build", "says"), [
    (lambda: b"no model at all", "no ONNX model"),
    (lambda: network(softmax=False), "scores, not probabilities"),
    (lambda: network(domain="com.evil"), "operators outside ONNX: com.evil::Softmax"),
    (lambda: network(outside=True), "data outside its file"),
    (lambda: network(one_row=True), "does not run"),
    (old_operators, "operators of version 9"),
])
def test_what_cannot_be_taken_is_refused_with_the_remedy(build: Callable[[], bytes], says: str) -> None:
    plan, rows = samples.wine()
    with pytest.raises(RunFailed, match=says) as told:
        taken_in(plan, rows, build())
    assert (told.value.failure_class, told.value.name) == ("parameter", "unfit_file")
    assert told.value.remedy


def test_a_network_of_torch_is_taken_in_and_foreign_shapes_are_not() -> None:
    plan, rows = samples.wine()
    assert taken_in(plan, rows, network()).exported.outputs[1].name == "probabilities"
    with pytest.raises(RunFailed, match="knows the classes a, b, c"):
        taken_in(plan, rows, network(), ("a", "b", "c"))
    other, others = samples.diabetes()
    with pytest.raises(RunFailed, match=r"x FLOAT \[\?, 13\]"):
        taken_in(other, others, network())
    assert opened(network()).graph.name == "torch"


@pytest.mark.parametrize(("data", "says"), [
    (pickle.dumps({"a": 1}), "pickle"), (b"PK\x03\x04torch", "zip"), (b"\x89HDF\r\n", "HDF5"), (b"", "empty")])
def test_files_that_can_run_code_are_refused_by_their_first_bytes(data: bytes, says: str) -> None:
    with pytest.raises(Invalid, match=says) as told:
        check_plain(data)
    assert "ONNX" in (told.value.remedy or "")


async def imported(world: World, data: bytes, command_id: str = "c1", **about: Any) -> tuple[Any, ModelVersion]:
    digest = await world.stores.artifacts.put(data, UPLOADS)
    run = await world.train(command_id, kind=IMPORT, artifact_sha256=digest, about_json=json.dumps(about))
    return run, (await world.stores.models.state("tumours")).versions[-1]


async def test_an_import_is_published_signed_served_and_exported_like_any_version(world: World, tmp_path: Any) -> None:
    await world.rows(0, 200)
    table, outcomes = rows_of(world.spec, 0, 200)
    values = np.column_stack([table.column(f"f{place}").to_numpy() for place in range(10)])
    estimator = RandomForestClassifier(10, random_state=0).fit(values, [one.flag for one in outcomes])
    brought = of_estimator(estimator, {f"f{place}": "float" for place in range(10)})
    assert brought.classes == ("false", "true")
    run, version = await imported(world, brought.data, classes=brought.classes, origin=brought.origin)
    assert run.progress.state == training_pb2.RUN_STATE_SUCCEEDED, run.progress.failure
    verify_manifest(world.trust(), version, world.clock.now())
    told = version.manifest
    assert (told.family, told.origin, told.lineage.weights_sha256) == ("imported", brought.origin, "")
    assert told.card_sha256
    assert await world.champion() == 1
    folder = unpacked((await archive_of(world))[0], tmp_path / "out")
    row = {f"f{place}": float(values[0, place]) for place in range(10)}
    assert offline(folder, [row])[0]["label"] == str(bool(estimator.predict(values[:1])[0])).lower()
    # What learns from now on begins anew, and is measured against it.
    after = await world.train("c2", reason="rows")
    assert after.progress.state in (training_pb2.RUN_STATE_SUCCEEDED, training_pb2.RUN_STATE_REJECTED)
    assert (await world.stores.models.state("tumours")).versions[-1].manifest.champion_metrics


async def test_a_file_that_does_not_fit_ends_in_a_named_failure_and_publishes_nothing(world: World) -> None:
    await world.rows(0, 200)
    digest = await world.stores.artifacts.put(network(), UPLOADS)
    run = await world.train(kind=IMPORT, artifact_sha256=digest)
    assert run.progress.state == training_pb2.RUN_STATE_FAILED
    assert "[rows, 10]" in run.progress.failure.remedy
    with pytest.raises(Missing):
        await world.stores.models.state("tumours")
    gone = await world.train("c2", kind=IMPORT, artifact_sha256="ab" * 32)
    assert gone.progress.failure.message == "the file to import is gone"
    changes = Changes(world.stores, world.tell)
    assert (await changes.collect())["files"] == 0
    assert (await changes.collect())["files"] == 1
