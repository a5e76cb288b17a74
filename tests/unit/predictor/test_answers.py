"""Outputs are read as numbers or labels, with or without probabilities."""

import numpy as np

from services.predictor.core.answers import named, read


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
