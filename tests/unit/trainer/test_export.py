"""The exported file alone: it answers as torch on every row, takes an absent mask, and a wrong one is found out."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pipeline_blocks import FieldType, Outliers
from services.predictor.core import answers, graph, signature
from services.trainer.core.dataset import Target
from services.trainer.core.export import session
from services.trainer.core.export.answers import decode
from services.trainer.core.export.graph import export
from services.trainer.core.failure import RunFailed
from services.trainer.core.learning import Given, Learned, learn, manifest
from services.trainer.core.preparing.rows import Inputs, inputs_of
from services.trainer.core.weights import unpack
from tests.unit.trainer import samples


@pytest.fixture(scope="module")
def learned() -> Learned:
    plan, rows = samples.mixed(family="mlp", parameters=Parameters(hidden=(8,), epochs=5),
                               outliers=Outliers(method="mad", action="clip"))
    return learn(plan, Given(rows), [])


def test_the_file_is_plain_onnx_and_complete(learned: Learned) -> None:
    model = onnx.load_from_string(learned.exported.data)
    onnx.checker.check_model(model, full_check=True)
    assert {(one.domain, one.version) for one in model.opset_import} == {("", 20), ("ai.onnx.ml", 4)}
    assert learned.exported.operators == tuple(sorted(
        {f"{node.domain or 'ai.onnx'}::{node.op_type}" for node in model.graph.node}))
    assert not model.metadata_props
    assert not any(constant.external_data for constant in model.graph.initializer)


def test_the_predictor_takes_what_the_trainer_exports(learned: Learned) -> None:
    plan, _ = samples.mixed(family="mlp", parameters=Parameters(hidden=(8,), epochs=5))
    said = manifest(plan, learned, "test")
    graph.check(learned.exported.data, said.operators)
    takes = signature.of_manifest(said)
    answers.check(said, takes)
    assert list(takes.inputs) == ["amount", "visits", "member", "country", "note", "_missing"]
    assert takes.takes_mask


def test_a_request_may_leave_the_mask_out(learned: Learned) -> None:
    plan, rows = samples.mixed()
    complete = inputs_of(plan.fields, rows.slice(50, 3))
    bare = onnxruntime.InferenceSession(learned.exported.data, _quiet(), providers=["CPUExecutionProvider"])
    found = bare.run(["label", "probabilities"], complete.values)
    masked = session.Session(learned.exported.data).answers(Inputs(complete.values, np.zeros((3, 5), dtype=bool)))
    assert np.array_equal(found[1], masked["probabilities"])
    assert found[0].tolist() == masked["label"].tolist()


def test_nan_counts_as_missing(learned: Learned) -> None:
    plan, rows = samples.mixed()
    running = session.Session(learned.exported.data)
    row = inputs_of(plan.fields, rows).take(np.array([50, 50]))
    row.values["amount"][:] = [np.nan, 123.0]
    row.missing[:, 0] = [False, True]
    probabilities = running.answers(row)["probabilities"]
    assert np.array_equal(probabilities[0], probabilities[1])


def test_no_rows_give_no_answers(learned: Learned) -> None:
    plan, rows = samples.mixed()
    found = session.Session(learned.exported.data).answers(inputs_of(plan.fields, rows.slice(0, 0)))
    assert found["probabilities"].shape == (0, 2)


@pytest.mark.parametrize("fields", [
    {"c": "category"}, {"b": "bool"}, {"n": "int"}, {"t": "text", "x": "float"}])
def test_any_mix_of_field_types_can_be_exported(fields: dict[str, FieldType]) -> None:
    values: dict[str, list[Any]] = {"c": ["a", "b"], "b": [True, False], "n": [1, 2], "t": ["hello", "bye"],
                                    "x": [0.5, None]}
    columns = {name: values[name] * 30 for name in fields}
    plan = samples.plan(fields, parameters=Parameters(epochs=2))
    found = learn(plan, Given(samples.rows(columns, [True, False] * 30, fields)), [])
    assert [one.name for one in found.exported.inputs] == [*fields, "_missing"]


@pytest.mark.parametrize("layer", [0, 1])
def test_a_file_that_answers_otherwise_than_torch_is_found_out(learned: Learned, layer: int) -> None:
    arrays, _ = unpack(learned.weights)
    layers = [(arrays[f"layers.{place}.weight"], arrays[f"layers.{place}.bias"]) for place in range(2)]
    true_scores = _scores(learned, layers)
    layers[layer] = (layers[layer][0] + 0.01, layers[layer][1])
    broken = session.Session(export(learned.preparation, samples.Layers(layers), learned.target).data)
    with pytest.raises(RunFailed, match="does not answer as the trained one"):
        session.check_parity(broken.answers(_rows()), true_scores, learned.target, "some rows")


@pytest.mark.parametrize(("target", "scores", "allowed"), [
    # Absolute, also where a probability is close to 1.
    (Target("classification", "bool", ("false", "true")), [[4.0]], 1e-4),
    (Target("classification", "category", ("a", "b", "c")), [[5.0, 1.0, 0.0]], 1e-4),
    # Of the spread of labels and of the number, both: 20 and |5 * 20 + 300|, 20 and |5 * 20|; 1 and 5 / 0.5.
    (Target("regression", "float", mean=300.0, std=20.0), [[5.0]], 1e-4 * 420),
    (Target("policy", "category", ("give", "keep"), std=20.0), [[5.0, 5.0]], 1e-4 * 120),
    (Target("anomaly", "", std=0.5), [[5.0]], 1e-4 * 11)])
@pytest.mark.parametrize("sign", [1, -1])
def test_just_within_the_tolerance_is_alike_and_just_beyond_is_not(target: Target, scores: list[list[float]],
                                                                  allowed: float, sign: int) -> None:
    raw = np.array(scores)
    name, expected = decode(raw, target)
    best = {"policy": "give", "anomaly": True}.get(target.task, target.classes[-1 if raw.shape[1] == 1 else 0]
                                                   if target.classes else None)
    for share, alike in ((0.99, True), (1.01, False)):
        said = {name: expected.copy(), "label": np.array([best], dtype=object if isinstance(best, str) else bool)}
        said[name][..., 0] += sign * share * allowed
        if alike:
            session.check_parity(said, raw, target, "a row")
        else:
            with pytest.raises(RunFailed, match=f"{name} differs by"):
                session.check_parity(said, raw, target, "a row")


def test_a_wrong_label_beside_right_probabilities_is_found_out(learned: Learned) -> None:
    scores = np.array([[4.0], [-4.0]], dtype=np.float32)
    _, probabilities = decode(scores, learned.target)
    said = {"probabilities": probabilities, "label": np.array(["low", "high"], dtype=object)}
    session.check_parity(said, scores, learned.target, "two rows")
    with pytest.raises(RunFailed, match="1 labels differ"):
        session.check_parity({**said, "label": np.array(["low", "low"], dtype=object)}, scores, learned.target,
                             "two rows")


def _rows() -> Inputs:
    plan, rows = samples.mixed()
    return inputs_of(plan.fields, rows)


def _scores(learned: Learned, layers: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    value = learned.preparation.transform(_rows())
    hidden = np.maximum(value @ layers[0][0].T + layers[0][1], 0)
    scores: np.ndarray = hidden @ layers[1][0].T + layers[1][1]
    return scores


def _quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options
