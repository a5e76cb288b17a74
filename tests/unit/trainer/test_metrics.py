"""Every metric beside scikit-learn's, and the gate that judges by them."""

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from lepton.contracts.pipeline_blocks import Gate
from services.trainer.core.gate import decide
from services.trainer.core.metrics import (
    Classification,
    Regression,
    classification_baseline,
    regression_baseline,
    roc_auc,
)


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_are_measured_as_scikit_learn_does(seed: int) -> None:
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, 2, 200)
    # Rounded, so that scores tie.
    second = np.round(np.clip(truth * 0.3 + chance.random(200) * 0.7, 0.01, 0.99), 1 + seed % 2)
    measure = Classification(2)
    for part in np.array_split(np.arange(200), 3):
        measure.update(np.stack([1 - second[part], second[part]], axis=1), truth[part])
    found = measure.compute()
    said = (second > 0.5).astype(int)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, said))
    assert found["precision"] == pytest.approx(reference.precision_score(truth, said))
    assert found["recall"] == pytest.approx(reference.recall_score(truth, said))
    assert found["f1"] == pytest.approx(reference.f1_score(truth, said))
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(truth, second))
    assert found["log_loss"] == pytest.approx(reference.log_loss(truth, second, labels=[0, 1]))


@pytest.mark.parametrize("seed", range(3))
def test_many_classes_are_measured_as_scikit_learn_does(seed: int) -> None:
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, 4, 300)
    scores = chance.random((300, 4)) + np.eye(4)[truth]
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    measure = Classification(4)
    measure.update(probabilities, truth)
    found = measure.compute()
    said = probabilities.argmax(axis=1)
    assert found["precision"] == pytest.approx(reference.precision_score(truth, said, average="macro"))
    assert found["recall"] == pytest.approx(reference.recall_score(truth, said, average="macro"))
    assert found["f1"] == pytest.approx(reference.f1_score(truth, said, average="macro"))
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(truth, probabilities, multi_class="ovr"))
    assert found["log_loss"] == pytest.approx(reference.log_loss(truth, probabilities))


def test_numbers_are_measured_as_scikit_learn_does() -> None:
    chance = np.random.default_rng(1)
    truth, answers = chance.normal(100, 5, 50), chance.normal(100, 5, 50)
    measure = Regression()
    measure.update(answers[:20], truth[:20])
    measure.update(answers[20:], truth[20:])
    found = measure.compute()
    assert found["mse"] == pytest.approx(reference.mean_squared_error(truth, answers))
    assert found["rmse"] == pytest.approx(math.sqrt(reference.mean_squared_error(truth, answers)))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, answers))
    assert found["r2"] == pytest.approx(reference.r2_score(truth, answers))


def test_what_is_not_defined_is_left_out() -> None:
    measure = Classification(2)
    measure.update(np.array([[0.9, 0.1]] * 3), np.array([0, 0, 0]))
    assert measure.compute()["precision"] == 0.0
    assert "roc_auc" not in measure.compute()
    assert roc_auc(np.array([1.0, 2.0]), np.array([True, True])) is None
    numbers = Regression()
    numbers.update(np.array([1.0, 2.0]), np.array([5.0, 5.0]))
    assert "r2" not in numbers.compute()


def test_a_class_the_model_does_not_know_is_answered_wrongly() -> None:
    measure = Classification(2)
    measure.update(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, -1]))
    assert measure.compute()["accuracy"] == 0.5
    assert math.isfinite(measure.compute()["log_loss"])


def test_reset_forgets() -> None:
    measure = Regression()
    measure.update(np.array([9.0]), np.array([0.0]))
    measure.reset()
    measure.update(np.array([1.0]), np.array([1.0]))
    assert measure.compute()["mse"] == 0.0


def test_baselines_answer_what_training_rows_had_most_of() -> None:
    training, truth = np.array([0, 1, 1, 1, -1]), np.array([0, 0, 1, 1])
    assert classification_baseline(training, truth, 2) == {"baseline_accuracy": 0.5}
    assert regression_baseline(np.array([1.0, 3.0]), np.array([2.0, 4.0]))["baseline_mse"] == 2.0


def test_the_gate_names_every_bound_that_was_missed() -> None:
    gate = Gate(metric="accuracy", at_least=0.9, beat_champion_by=0.01)
    assert decide(gate, {"accuracy": 0.95}, {"accuracy": 0.93}).passed
    assert decide(gate, {"accuracy": 0.95}, None).passed
    verdict = decide(gate, {"accuracy": 0.85}, {"accuracy": 0.93})
    assert not verdict.passed
    assert verdict.reasons == ("accuracy 0.85 is below 0.9", "accuracy 0.85 does not beat the champion's 0.93 by 0.01")


def test_a_slightly_worse_candidate_passes_where_the_gate_tolerates_it() -> None:
    gate = Gate(metric="accuracy", beat_champion_by=-0.02)
    assert decide(gate, {"accuracy": 0.88}, {"accuracy": 0.9}).passed
    assert not decide(gate, {"accuracy": 0.87}, {"accuracy": 0.9}).passed


def test_less_is_better_for_errors() -> None:
    gate = Gate(metric="mse", at_most=10.0, beat_champion_by=1.0)
    assert decide(gate, {"mse": 5.0}, {"mse": 6.5}).passed
    assert decide(gate, {"mse": 6.0}, {"mse": 6.5}).reasons == ("mse 6 does not beat the champion's 6.5 by 1",)
    assert not decide(gate, {"mse": 11.0}, {"mse": 50.0}).passed


@pytest.mark.parametrize("metrics", [{}, {"roc_auc": math.nan}])
def test_what_cannot_be_measured_does_not_pass(metrics: dict[str, float]) -> None:
    assert "could not be measured" in decide(Gate(metric="roc_auc"), metrics, None).reasons[0]
