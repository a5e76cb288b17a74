"""Whole runs on real data: scores beside scikit-learn's, the same weights every time, named failures."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lepton.contracts.features import EVENT_ID
from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pipeline_blocks import Gate, MissingPolicy, Outliers
from services.trainer.core.dataset import HELD_OUT, LABEL, roles
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.handlers import Checkpoint
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.plan import Plan, Rival
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.trainer import samples

# A twentieth of what there is to gain: sklearn solves the same problem to the last digit, on other penalties.
MARGIN = 0.05


def sklearn_score(plan: Plan, rows: pa.Table, model: Any) -> float:
    """Its score on our held-out rows, learnt from our training rows."""
    held = roles(rows.column(EVENT_ID).to_pylist(), plan.gate.held_out) == HELD_OUT
    values = np.column_stack([rows.column(field.name).to_numpy() for field in plan.fields])
    labels = rows.column(LABEL).to_numpy(zero_copy_only=False)
    fitted = make_pipeline(StandardScaler(), model).fit(values[~held], labels[~held])
    return float(fitted.score(values[held], labels[held]))


@pytest.mark.parametrize(("sample", "rival", "metric"), [
    (samples.breast_cancer, LogisticRegression(max_iter=1000), "accuracy"),
    (samples.wine, LogisticRegression(max_iter=1000), "accuracy"),
    (samples.diabetes, LinearRegression(), "r2")])
def test_a_linear_family_scores_as_well_as_scikit_learns(
        sample: Callable[..., tuple[Plan, pa.Table]], rival: Any, metric: str) -> None:
    plan, rows = sample()
    learned = learn(plan, Given(rows), [])
    assert learned.metrics[metric] >= sklearn_score(plan, rows, rival) - MARGIN


@pytest.mark.parametrize(("sample", "metric", "at_least"), [
    (samples.breast_cancer, "accuracy", 0.93), (samples.wine, "accuracy", 0.9), (samples.diabetes, "r2", 0.3)])
def test_an_mlp_learns_classes_and_numbers(
        sample: Callable[..., tuple[Plan, pa.Table]], metric: str, at_least: float) -> None:
    plan, rows = sample(family="mlp", parameters=Parameters(hidden=(16,), epochs=40))
    learned = learn(plan, Given(rows), [])
    assert learned.metrics[metric] >= at_least


def test_metrics_stand_beside_a_baseline_that_they_beat() -> None:
    plan, rows = samples.breast_cancer()
    found = learn(plan, Given(rows), []).metrics
    assert {"accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"} <= set(found)
    assert found["accuracy"] > found["baseline_accuracy"] + 0.25
    plan, rows = samples.diabetes()
    found = learn(plan, Given(rows), []).metrics
    assert {"mse", "rmse", "mae", "r2"} <= set(found)
    assert found["mse"] < found["baseline_mse"]


@pytest.mark.parametrize("family", ["logistic_regression", "mlp"])
def test_every_field_type_is_learnt_from_and_may_be_missing(family: str) -> None:
    plan, rows = samples.mixed(family=family, outliers=Outliers(method="iqr", action="clip"))
    learned = learn(plan, Given(rows), [])
    assert learned.metrics["accuracy"] > 0.85
    assert [(one.name, one.datatype) for one in learned.exported.inputs] == [
        ("amount", "FP64"), ("visits", "INT64"), ("member", "BOOL"), ("country", "BYTES"), ("note", "BYTES"),
        ("_missing", "BOOL")]
    assert learned.exported.inputs[-1].optional
    assert learned.target.classes == ("high", "low")


def run_of(plan: Plan, rows: pa.Table, **given: Any) -> Learned:
    return learn(plan, Given(rows, **given), [])


def test_the_same_run_twice_gives_the_same_bytes() -> None:
    plan, rows = samples.mixed(family="mlp", parameters=Parameters(hidden=(8,), epochs=5, dropout=0.2))
    first, second = run_of(plan, rows), run_of(plan, rows)
    assert first.weights == second.weights
    assert first.exported.data == second.exported.data
    other = run_of(plan.model_copy(update={"parameters": Parameters(hidden=(8,), epochs=5, dropout=0.2, seed=8)}), rows)
    assert other.weights != first.weights


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("patience_matters", [False, True])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(patience_matters: bool) -> None:
    # A high rate makes validation loss bounce, so that early stop has a memory worth restoring.
    parameters = Parameters(hidden=(8,), epochs=24, dropout=0.2, learning_rate=0.3 if patience_matters else 0.01)
    plan, rows = samples.breast_cancer(family="mlp", parameters=parameters)
    uninterrupted = run_of(plan, rows)
    saved: list[bytes] = []

    def save_then_die(checkpoint: bytes) -> None:
        saved.append(checkpoint)
        if len(saved) == 7:
            raise Killed

    with pytest.raises(Killed):
        learn(plan, Given(rows), [Checkpoint(save_then_die)])
    resumed = run_of(plan, rows, checkpoint=saved[-1])
    assert resumed.weights == uninterrupted.weights
    assert resumed.exported.data == uninterrupted.exported.data
    assert resumed.epochs == uninterrupted.epochs


def test_a_fine_tune_begins_with_its_parent_and_keeps_its_statistics() -> None:
    plan, rows = samples.breast_cancer()
    parent = run_of(plan, rows.slice(0, 300))
    tuned = run_of(plan.model_copy(update={"parent": Rival(version=1), "parameters": Parameters(epochs=1)}), rows,
                   parent=parent.weights)
    cold = run_of(plan.model_copy(update={"parameters": Parameters(epochs=1)}), rows)
    assert tuned.preparation == parent.preparation
    assert tuned.metrics["log_loss"] < cold.metrics["log_loss"]


def test_a_fine_tune_that_only_gets_worse_ends_where_it_began() -> None:
    plan, rows = samples.diabetes()
    parent = run_of(plan, rows)
    wild = plan.model_copy(update={"parent": Rival(version=1), "parameters": Parameters(epochs=3, learning_rate=9.0)})
    assert run_of(wild, rows, parent=parent.weights).weights == parent.weights


def test_the_champion_is_measured_on_the_same_held_out_rows() -> None:
    plan, rows = samples.wine()
    champion = run_of(plan, rows)
    rematch = run_of(plan.model_copy(update={"champion": Rival(version=1, classes=champion.target.classes)}), rows,
                     champion=champion.exported.data)
    assert rematch.champion_metrics is not None
    assert rematch.champion_metrics["accuracy"] == pytest.approx(champion.metrics["accuracy"])
    assert rematch.champion_metrics["log_loss"] == pytest.approx(champion.metrics["log_loss"])


def test_a_champion_of_fewer_classes_is_wrong_about_the_others() -> None:
    plan, rows = samples.wine()
    two = rows.filter(pa.array([label != "barbera" for label in rows.column(LABEL).to_pylist()]))
    champion = run_of(plan, two)
    assert champion.target.classes == ("barolo", "grignolino")
    rematch = run_of(plan.model_copy(update={"champion": Rival(version=1, classes=champion.target.classes)}), rows,
                     champion=champion.exported.data)
    assert rematch.champion_metrics is not None
    assert rematch.champion_metrics["accuracy"] < 0.85 < rematch.metrics["accuracy"]


def test_a_category_never_seen_is_answered_as_an_unknown_one() -> None:
    plan, rows = samples.mixed()
    learned = run_of(plan, rows)
    session = Session(learned.exported.data)
    inputs = inputs_of(plan.fields, rows).take(np.array([50, 50]))
    inputs.values["country"][:] = ["atlantis", "el dorado"]
    probabilities = session.answers(inputs)["probabilities"]
    assert np.isfinite(probabilities).all()
    assert probabilities[0] == pytest.approx(probabilities[1])


def test_int_labels_can_be_classes() -> None:
    plan, rows = samples.wine(label_type="int")
    places = {"barolo": 3.0, "grignolino": 20.0, "barbera": 100.0}
    numbered = rows.set_column(rows.column_names.index(LABEL), LABEL,
                               pa.array([places[name] for name in rows.column(LABEL).to_pylist()]))
    learned = run_of(plan, numbered)
    assert learned.target.classes == ("3", "20", "100")
    answers = Session(learned.exported.data).answers(inputs_of(plan.fields, rows))
    assert answers["label"].dtype == np.int64
    assert set(answers["label"].tolist()) == {3, 20, 100}


def labelled(rows: pa.Table, labels: list[Any]) -> pa.Table:
    return rows.set_column(rows.column_names.index(LABEL), LABEL, pa.array(labels))


def test_a_run_without_rows_fails_as_data() -> None:
    plan, rows = samples.breast_cancer()
    with pytest.raises(RunFailed, match="no labelled rows") as failure:
        run_of(plan, rows.slice(0, 0))
    assert failure.value.failure_class == "data"


def test_too_few_rows_fail_as_data() -> None:
    plan, rows = samples.breast_cancer()
    with pytest.raises(RunFailed, match="too little data") as failure:
        run_of(plan, rows.slice(0, 5))
    assert failure.value.failure_class == "data"


def test_one_class_only_fails_as_data() -> None:
    plan, rows = samples.breast_cancer()
    with pytest.raises(RunFailed, match="same label") as failure:
        run_of(plan, labelled(rows, [True] * rows.num_rows))
    assert failure.value.failure_class == "data"


def test_a_label_that_is_no_number_fails_a_regression_as_parameter() -> None:
    plan, rows = samples.diabetes()
    with pytest.raises(RunFailed, match="not a number") as failure:
        run_of(plan, labelled(rows, ["many"] * rows.num_rows))
    assert failure.value.failure_class == "parameter"


def test_divergence_fails_as_parameter() -> None:
    plan, rows = samples.diabetes(family="mlp", parameters=Parameters(hidden=(256,) * 8, learning_rate=10.0, epochs=9))
    with pytest.raises(RunFailed, match="diverged") as failure:
        run_of(plan, rows)
    assert failure.value.failure_class == "parameter"


def test_an_infinite_label_fails_as_data() -> None:
    plan, rows = samples.diabetes()
    with pytest.raises(RunFailed, match="not finite") as failure:
        run_of(plan, labelled(rows, [float("inf")] * rows.num_rows))
    assert failure.value.failure_class == "data"


def test_a_class_the_parent_does_not_know_fails_a_fine_tune_as_data() -> None:
    plan, rows = samples.wine()
    two = rows.filter(pa.array([label != "barbera" for label in rows.column(LABEL).to_pylist()]))
    parent = run_of(plan, two)
    with pytest.raises(RunFailed, match="does not know") as failure:
        run_of(plan.model_copy(update={"parent": Rival(version=1)}), rows, parent=parent.weights)
    assert failure.value.failure_class == "data"


def test_a_parent_of_another_shape_fails_as_parameter() -> None:
    plan, rows = samples.wine(family="mlp", parameters=Parameters(hidden=(4,), epochs=1))
    parent = run_of(plan, rows)
    wider = plan.model_copy(update={"parent": Rival(version=1), "parameters": Parameters(hidden=(5,), epochs=1)})
    with pytest.raises(RunFailed, match="another shape") as failure:
        run_of(wider, rows, parent=parent.weights)
    assert failure.value.failure_class == "parameter"


def test_a_constant_field_is_kept_and_warned_of() -> None:
    plan, rows = samples.breast_cancer()
    constant = rows.set_column(rows.column_names.index("f3"), "f3", pa.array([4.2] * rows.num_rows))
    learned = run_of(plan, constant)
    assert any(warning.startswith("f3 ") for warning in learned.warnings)
    assert "f3" in learned.preparation.fields
    # It never varied, so nothing may depend on it now that it does.
    inputs = inputs_of(plan.fields, constant)
    before = Session(learned.exported.data).answers(inputs)["probabilities"]
    inputs.values["f3"] = inputs.values["f3"] + 1e6
    assert np.array_equal(before, Session(learned.exported.data).answers(inputs)["probabilities"])


def test_a_category_that_was_the_only_one_has_no_say() -> None:
    plan, rows = samples.mixed()
    only = rows.set_column(rows.column_names.index("note"), "note", pa.array(["hello"] * rows.num_rows))
    session = Session(run_of(plan, only).exported.data)
    inputs = inputs_of(plan.fields, only)
    before = session.answers(inputs)["probabilities"]
    inputs.values["note"][:] = "something else"
    assert np.array_equal(before, session.answers(inputs)["probabilities"])


def test_quarantined_outliers_and_dropped_gaps_are_not_learnt_from() -> None:
    plan, rows = samples.mixed(outliers=Outliers(method="iqr", action="quarantine", k=1.0))
    everything = run_of(plan.model_copy(update={"outliers": Outliers()}), rows)
    assert run_of(plan, rows).train_rows < everything.train_rows
    dropping = tuple(field if field.name != "amount" else PlannedField(
        name="amount", type="float", missing=MissingPolicy.model_validate("drop")) for field in plan.fields)
    dropped = run_of(plan.model_copy(update={"outliers": Outliers(), "fields": dropping}), rows)
    assert dropped.train_rows + dropped.held_out_rows == rows.num_rows - rows.column("amount").null_count


def test_held_out_rows_follow_the_gates_share() -> None:
    plan, rows = samples.breast_cancer(gate=Gate(metric="accuracy", held_out=0.5))
    learned = run_of(plan, rows)
    assert 0.4 < learned.held_out_rows / rows.num_rows < 0.6
