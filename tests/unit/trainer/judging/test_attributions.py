"""What each field did to a row's score: it adds up, the file says what torch says, and a run says it on its card."""

from dataclasses import replace

import numpy as np
import pytest

from lepton.contracts.modelling.blocks import Explain, Parameters
from services.trainer.core.explaining.attributions import Attributions, by_torch
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.networks.stack import Stack
from services.trainer.core.preparing.rows import inputs_of
from services.trainer.core.telling.card import bundle
from tests.unit.trainer import samples
from tests.unit.trainer.judging.test_cards import opened

FEW = Parameters(epochs=4, learning_rate=0.02)
ASKED = Explain(rows=True)


def test_a_linear_answer_is_what_its_fields_did_from_the_average_row_on() -> None:
    plan, rows = samples.diabetes(parameters=FEW, explain=ASKED)
    learned = learn(plan, Given(rows), [])
    session, inputs = Session(learned.exported.data), inputs_of(plan.fields, rows)
    did = session.attributions(inputs)
    said = session.answers(inputs)["prediction"]
    # Every answer less what its fields did is the same number: what the average row is answered with.
    start = said - did.sum(axis=1)
    assert np.abs(start - start.mean()).max() < 1e-3
    assert did.shape == (rows.num_rows, len(plan.fields))
    # A field's part is linear in its value: exact, so two of its values say all others.
    values = inputs.values["f2"]
    slope, offset = np.polyfit(values, did[:, 2], 1)
    assert np.abs(did[:, 2] - (slope * values + offset)).max() < 1e-3


@pytest.mark.parametrize("sample", [samples.wine, samples.mixed, samples.diabetes])
def test_paths_through_a_network_add_up_to_its_score(sample: object) -> None:
    plan, rows = sample(family="mlp", explain=ASKED, parameters=Parameters(epochs=6, hidden=(12, 6)))  # type: ignore[operator]
    learned = learn(plan, Given(rows), [])
    told = learned.report["attribution"]
    spread = learned.target.std if plan.task == "regression" else 1.0
    assert told["method"] == "integrated gradients over 32 points"
    assert told["error"] < 0.03 * spread
    finer = learn(plan.model_copy(update={"explain": Explain(rows=True, steps=256)}), Given(rows), [])
    assert finer.report["attribution"]["error"] < told["error"]
    assert finer.weights == learned.weights
    assert all(one["moves"] is not None for one in learned.report["importance"])


def test_what_nobody_asks_for_is_neither_computed_nor_answered_otherwise() -> None:
    plan, rows = samples.mixed(family="mlp", parameters=Parameters(epochs=3))
    plain = learn(plan, Given(rows), [])
    asked = learn(plan.model_copy(update={"explain": ASKED}), Given(rows), [])
    inputs = inputs_of(plan.fields, rows)
    one, other = (Session(found.exported.data).answers(inputs) for found in (plain, asked))
    assert sorted(one) == sorted(other) == ["label", "probabilities"]
    assert np.array_equal(one["probabilities"], other["probabilities"])
    assert [spec.name for spec in plain.exported.outputs] == ["label", "probabilities"]
    assert [spec.name for spec in asked.exported.outputs] == ["label", "probabilities", "attributions"]
    assert [(spec.name, spec.optional) for spec in asked.exported.inputs][-2:] == [
        ("_missing", True), ("_explain", True)]
    assert "ai.onnx::If" not in plain.exported.operators
    assert "ai.onnx::If" in asked.exported.operators


def test_the_card_says_how_rows_are_explained() -> None:
    plan, rows = samples.breast_cancer(parameters=Parameters(epochs=3), explain=ASKED)
    text = opened(bundle(learn(plan, Given(rows), []).report))["card.md"].decode()
    assert "moves the score by" in text
    assert "Attributions: exact for a linear model, from the average training row, in log odds." in text


def test_a_file_that_explains_otherwise_than_torch_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(network: Stack, rows: np.ndarray, how: Attributions) -> np.ndarray:
        return by_torch(network, rows, replace(how, base=how.base + 0.1))

    monkeypatch.setattr("services.trainer.core.explaining.checking.by_torch", shifted)
    plan, rows = samples.breast_cancer(parameters=Parameters(epochs=3), explain=ASKED)
    with pytest.raises(RunFailed, match="does not explain held-out rows as the trained one"):
        learn(plan, Given(rows), [])


def test_a_family_that_a_command_chose_and_cannot_explain_goes_without() -> None:
    plan, rows = samples.breast_cancer(parameters=Parameters(epochs=2), explain=ASKED)
    learned: Learned = learn(plan.model_copy(update={
        "family": "autoencoder", "task": "anomaly", "gate": plan.gate.model_copy(update={"metric": "separation"})}),
        Given(rows), [])
    assert [spec.name for spec in learned.exported.outputs] == ["label", "score"]
    assert learned.warnings[-1].startswith("it answers without the attributions of model.explain.rows: a autoencoder")
