"""The example of risk: what its page says of the data, of the model a search finds, and of the groups compared."""

import numpy as np
from sklearn.metrics import roc_auc_score

from examples import alone
from examples.risk.compare import found, risks
from examples.risk.data import LEARNT_FROM, patients
from lepton.contracts.modelling.blocks import Fairness
from lepton.contracts.pipeline_blocks import Gate
from services.trainer.core.gate import decide
from tests.unit.examples.taken import refusals

GATE = Gate(metric="roc_auc", at_least=0.7)


def test_its_rows_are_taken_by_its_pipeline_and_sex_is_no_input() -> None:
    of, rows = alone.spec("risk"), patients()
    assert len(rows) == 442
    assert sum(row["worse"] for row in rows[:LEARNT_FROM]) == 115
    assert sum(row["worse"] for row in rows[LEARNT_FROM:]) == 41
    assert sum(row["sex"] == "a" for row in rows) == 235
    assert of.model is not None
    assert of.model.train.first_rows == LEARNT_FROM
    assert "sex" not in of.inputs
    assert refusals(of, rows) == []


def test_a_search_finds_a_model_that_ranks_patients_and_is_compared_between_groups() -> None:
    rows = patients()
    model = found(rows[:LEARNT_FROM], trials=3)
    assert model.plan.family in ("logistic_regression", "mlp")
    assert model.account.startswith("3 trials of logistic_regression, mlp")
    assert 0 < model.learned.metrics["fairness_gap"] <= 0.3
    assert model.verdict.passed
    stricter = Fairness(groups=("sex",), at_most=0.01)
    assert "by equal opportunity, more than 0.01" in decide(GATE, model.learned.metrics, None,
                                                            fairness=stricter).reasons[0]
    unseen = rows[LEARNT_FROM:]
    assert roc_auc_score(np.array([row["worse"] for row in unseen]), risks(model, unseen)) > 0.78
