"""Outputs are read as numbers or labels, with probabilities, items, expected returns or a score beside them."""

import numpy as np
import pytest

from lepton.contracts.pb import models_pb2
from lepton.errors import Refused
from services.predictor.core.answers import check, named, read
from services.predictor.core.signature import of_manifest


def test_numbers_are_answers_as_they_are() -> None:
    answers = read({"prediction": np.array([1.5, 2.5], dtype="<f4")}, ())
    assert [row.number for row in named(answers)] == [1.5, 2.5]
    assert list(answers.rows()) == [{"number": 1.5}, {"number": 2.5}]
    assert len(answers) == 2


def test_labels_of_every_type_are_text() -> None:
    cases = [(np.array(["a", "b"], dtype=object), ["a", "b"]), (np.array([True, False]), ["true", "false"]),
             (np.array([3, 4]), ["3", "4"])]
    for labels, texts in cases:
        answers = read({"label": labels}, ("x", "y"))
        assert [row.label for row in named(answers)] == texts
        assert list(answers.rows()) == [{"label": text} for text in texts]
        assert len(answers) == 2


def test_probabilities_come_by_class() -> None:
    outputs = {"label": np.array([True]), "probabilities": np.array([[0.25, 0.75]], dtype="<f4")}
    answers = read(outputs, ("false", "true"))
    assert dict(named(answers)[0].probabilities) == {"false": 0.25, "true": 0.75}
    assert list(answers.rows()) == [{"label": "true", "probabilities": [0.25, 0.75]}]


def test_items_come_best_first_with_their_scores() -> None:
    outputs = {"label": np.array([7, 9]), "items": np.array([[7, 9], [9, 8]]),
               "scores": np.array([[2.0, 1.5], [0.5, 0.25]], dtype="<f4")}
    answers = read(outputs, ())
    assert [[(one.item, one.score) for one in row.top] for row in named(answers)] == [
        [("7", 2.0), ("9", 1.5)], [("9", 0.5), ("8", 0.25)]]
    assert [row.label for row in named(answers)] == ["7", "9"]
    assert list(answers.rows())[1] == {"label": "9", "items": ["9", "8"], "scores": [0.5, 0.25]}


def test_expected_returns_come_by_action() -> None:
    outputs = {"label": np.array(["hold"], dtype=object), "values": np.array([[1.5, -0.5]], dtype="<f4")}
    answers = read(outputs, ("hold", "sell"))
    assert named(answers)[0].label == "hold"
    assert dict(named(answers)[0].values) == {"hold": 1.5, "sell": -0.5}
    assert list(answers.rows()) == [{"label": "hold", "scores": [1.5, -0.5]}]


def test_how_strange_a_row_is_stands_beside_its_label() -> None:
    answers = read({"label": np.array([True, False]), "score": np.array([2.0, 0.5], dtype="<f4")}, ("false", "true"))
    assert [(row.label, row.score) for row in named(answers)] == [("true", 2.0), ("false", 0.5)]
    assert next(iter(answers.rows())) == {"label": "true", "scores": [2.0]}


@pytest.mark.parametrize(("task", "outputs", "fits"), [
    ("RANKING", {"label": [], "items": [5], "scores": [5]}, True),
    ("RANKING", {"label": [], "items": [5], "scores": [4]}, False),
    ("RANKING", {"label": []}, False),
    ("POLICY", {"label": [], "values": [2]}, True),
    ("POLICY", {"label": [], "values": [3]}, False),
    ("ANOMALY", {"label": [], "score": []}, True),
    ("ANOMALY", {"score": []}, False)])
def test_outputs_must_be_those_of_the_task(task: str, outputs: dict[str, list[int]], fits: bool) -> None:
    said = models_pb2.ModelManifest(
        task=models_pb2.ModelTask.Value(f"MODEL_TASK_{task}"), classes=["a", "b"],
        inputs=[models_pb2.TensorSpec(name="x", datatype="FP64", shape=[-1])],
        outputs=[models_pb2.TensorSpec(name=name, datatype="FP32", shape=[-1, *tail])
                 for name, tail in outputs.items()])
    if fits:
        check(said, of_manifest(said))
    else:
        with pytest.raises(Refused, match="do not fit"):
            check(said, of_manifest(said))
