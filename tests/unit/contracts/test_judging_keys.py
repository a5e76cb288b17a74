"""What a Pipeline may ask a run to measure of itself."""

import pytest

from lepton.contracts.pipeline import from_json, parse
from tests.unit.contracts.test_pipeline import BASE, only

NUMBERS = BASE.replace("type: bool}\n", "type: float}\n")
AUTOENCODER = BASE.replace("  label: {field: bought, type: bool}\n", "") + "model: {family: autoencoder, "


def test_what_is_asked_for_is_read_and_kept() -> None:
    pipeline = parse(BASE + "model: {family: mlp, evaluate: {folds: 5, by: time}}\n"
                            "gate: {metric: accuracy, significance: 0.05}\n")
    assert pipeline.model is not None
    assert (pipeline.model.evaluate.folds, pipeline.model.evaluate.by) == (5, "time")
    assert pipeline.gate is not None
    assert pipeline.gate.significance == 0.05
    assert from_json(pipeline.canonical_json()) == pipeline


@pytest.mark.parametrize(("text", "path", "message"), [
    (BASE + "model: {family: mlp, evaluate: {folds: 1}}\n", "model.evaluate.folds", "greater than or equal to 2"),
    (BASE + "model: {family: mlp, evaluate: {by: luck}}\n", "model.evaluate.by", "not one of `chance`, `time`"),
    (BASE + "gate: {metric: accuracy, significance: 0.6}\n", "gate.significance", "less than 0.5"),
    (BASE + "model: {family: mlp, evaluate: {slices: [colour]}}\n", "model.evaluate.slices", "`colour` is no field"),
    (BASE + "model: {family: mlp, evaluate: {fairness: {groups: []}}}\n", "model.evaluate.fairness.groups", "1 item"),
    (NUMBERS + "model: {family: mlp, evaluate: {fairness: {groups: [member]}}}\n",
     "model.evaluate.fairness.criterion", "is about classes"),
    (AUTOENCODER.removesuffix(", ") + "}\ngate: {metric: separation, significance: 0.05}\n", "gate.significance",
     "no test compares two models of anomaly"),
    (BASE + "model: {family: mlp, train: {stream: {}}, evaluate: {fairness: {groups: [member], at_most: 0.1}}}\n",
     "model.evaluate.fairness.at_most", "not judged by group"),
    (AUTOENCODER + "explain: {rows: true}}\n", "model.explain.rows", "autoencoder cannot say"),
    (BASE + "model: {family: mlp, explain: {rows: true}, export: {precision: fp16}}\n", "model.explain.rows",
     "of the file as it was learnt"),
    (AUTOENCODER + "evaluate: {slices: [member]}}\n", "model.evaluate.slices", "not judged row by row"),
    (AUTOENCODER + "evaluate: {folds: 3}}\n", "model.evaluate.folds", "not judged row by row"),
])
def test_what_cannot_be_measured_is_refused(text: str, path: str, message: str) -> None:
    found = only(text)
    assert found.path == path
    assert message in found.message
