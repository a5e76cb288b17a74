"""The example of tumours: what its page says of the data, of the model's figures and of one answer's reasons."""

import pytest
from sklearn.metrics import roc_auc_score

from examples import alone
from examples.tumours.data import LEARNT_FROM, tumours
from services.trainer.core.learning import Given, learn
from services.trainer.core.telling.card import bundle
from tests.unit.examples.taken import refusals


def test_its_rows_are_taken_by_its_pipeline() -> None:
    of, rows = alone.spec("tumours"), tumours()
    assert len(rows) == 569
    assert sum(row["malignant"] for row in rows) == 212
    assert sum(row["malignant"] for row in rows[LEARNT_FROM:]) == 68
    assert of.model is not None
    assert of.model.train.first_rows == LEARNT_FROM
    assert refusals(of, rows) == []


def test_most_tumours_never_seen_are_told_and_each_answer_has_its_reasons() -> None:
    of, rows = alone.spec("tumours"), tumours()
    learned = learn(alone.plan(of), Given(alone.table(of, rows[:LEARNT_FROM])), [])
    assert of.gate is not None
    assert learned.metrics["roc_auc"] >= (of.gate.at_least or 1)
    assert learned.metrics["folds_roc_auc"] > 0.98
    unseen = rows[LEARNT_FROM:]
    said, true = alone.answers(of, learned.exported.data, unseen), [row["malignant"] for row in unseen]
    assert (said["label"] == true).mean() > 0.94
    assert roc_auc_score(true, said["probabilities"][:, 1]) > 0.98
    reasons = alone.attributions(of, learned.exported.data, unseen[0])
    assert sorted(name for name, _ in reasons) == sorted(of.inputs)
    assert abs(reasons[0][1]) == pytest.approx(max(abs(effect) for _, effect in reasons))
    assert bundle(learned.report)[:2] == b"PK"
