"""A model that Keras wrote becomes ONNX by TensorFlow and tf2onnx, in their own environment, and answers alike."""

import subprocess
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn import datasets

from deploy.keras.__main__ import environment
from lepton.contracts.pipeline_blocks import FieldType
from lepton_ai._library.importing import Brought, of_file
from services.trainer.core.export.session import Session
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.trainer import samples
from tests.unit.trainer.library.test_imports import taken_in

pytestmark = pytest.mark.process

# Weights are given, so that what the file must answer can be worked out here.
_WRITE = """
import sys
import keras
import numpy as np
model = keras.Sequential([keras.layers.Input((4,), name="fields"), keras.layers.Dense(3, activation="relu"),
                          keras.layers.Dense(2, activation="softmax")])
model.set_weights([np.arange(12.0).reshape(4, 3) / 10 - 0.5, np.array([0.1, 0.2, 0.3]),
                   np.arange(6.0).reshape(3, 2) ** 2 / 7, np.array([0.0, 0.5])])
model.save(sys.argv[1])
"""


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Brought:
    """Made on first use of the environment, outside the clone; that may take minutes, once."""
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    done = subprocess.run([str(environment() / "bin" / "python"), "-I", "-c", _WRITE, str(path)], capture_output=True,
                          text=True, check=False, env={"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.returncode == 0, done.stderr
    return of_file(path, ("no", "yes"))


def answers(rows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """What the layers with their given weights make of rows [n, 4]: probabilities [n, 2]."""
    hidden = np.maximum(rows @ (np.arange(12.0).reshape(4, 3) / 10 - 0.5) + [0.1, 0.2, 0.3], 0)
    scores = np.exp(hidden @ (np.arange(6.0).reshape(3, 2) ** 2 / 7) + [0.0, 0.5])
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def test_a_keras_file_answers_in_onnx_as_its_layers_do(brought: Brought) -> None:
    assert brought.classes == ("no", "yes")
    assert brought.origin.startswith("Keras 3")
    running = onnxruntime.InferenceSession(brought.data, providers=["CPUExecutionProvider"])
    (given,) = running.get_inputs()
    rows = np.random.default_rng(1).normal(0, 2, (7, 4)).astype(np.float32)
    (found,) = running.run(None, {given.name: rows})
    assert given.shape[1:] == [4]
    assert np.asarray(found) == pytest.approx(answers(rows), abs=1e-4)


def test_it_becomes_a_candidate_that_answers_events_as_its_layers_do(brought: Brought) -> None:
    data = datasets.load_iris()
    fields: dict[str, FieldType] = dict.fromkeys([f"{part}_{side}" for part in ("sepal", "petal")
                                                    for side in ("length", "width")], "float")
    plan = samples.plan(fields, label_type="category")
    rows = samples.rows(dict(zip(fields, data.data.T, strict=True)), np.where(data.target == 0, "yes", "no"), fields)
    candidate = taken_in(plan, rows, brought.data, brought.classes)
    said = Session(candidate.exported.data).answers(inputs_of(plan.fields, rows))
    expected = answers(data.data)
    assert said["probabilities"] == pytest.approx(expected, abs=1e-4)
    assert said["label"].tolist() == np.array(brought.classes)[expected.argmax(axis=1)].tolist()
    assert {"accuracy", "baseline_accuracy"} <= set(candidate.metrics)
