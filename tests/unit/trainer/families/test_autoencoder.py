"""An autoencoder needs no label, is gated without one, and finds what was never called strange before."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn import datasets

from lepton.contracts import pipeline
from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pb.models_pb2 import MODEL_TASK_ANOMALY
from lepton.contracts.pipeline_blocks import Gate
from services.predictor.core import answers, signature
from services.trainer.core.dataset import LABEL
from services.trainer.core.export.session import Session
from services.trainer.core.learning import Given, learn, manifest
from services.trainer.core.lessons.anomaly import mixed
from services.trainer.core.plan import Plan, Rival
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.trainer import samples

PARAMETERS = Parameters(hidden=(16,), code=4, epochs=40, learning_rate=0.01, contamination=0.05)


def tumours(labelled: bool) -> tuple[Plan, pa.Table]:
    """Tumours that were benign are what is usual; the others are strange."""
    plan, rows = samples.breast_cancer(task="anomaly", family="autoencoder", parameters=PARAMETERS,
                                       gate=Gate(metric="separation"))
    strange = pa.array(~datasets.load_breast_cancer().target.astype(bool))
    label = strange if labelled else pa.nulls(rows.num_rows, pa.float64())
    return plan, rows.set_column(rows.column_names.index(LABEL), LABEL, label)


def test_without_a_label_the_gate_asks_whether_rows_that_were_mixed_stand_out() -> None:
    plan, rows = tumours(labelled=False)
    learned = learn(plan, Given(rows), [])
    assert learned.metrics["separation"] > 0.8 > learned.metrics["baseline_separation"] == 0.5
    assert "roc_auc" not in learned.metrics
    assert learned.metrics["flagged_share"] < 0.2
    untaught = learn(plan.model_copy(update={"parameters": PARAMETERS.model_copy(update={
        "epochs": 1, "learning_rate": 1e-9})}), Given(rows), [])
    assert untaught.metrics["separation"] < learned.metrics["separation"] - 0.1


def test_with_labels_strange_rows_are_measured_on_and_not_learnt_from() -> None:
    plan, rows = tumours(labelled=True)
    learned = learn(plan, Given(rows), [])
    assert learned.metrics["roc_auc"] > 0.9
    assert learned.train_rows < 0.7 * rows.num_rows
    answered = Session(learned.exported.data).answers(inputs_of(plan.fields, rows))
    assert ((answered["score"] > 1) == answered["label"]).all()


def test_the_champion_is_measured_on_the_same_rows_by_its_own_file() -> None:
    plan, rows = tumours(labelled=False)
    first = learn(plan, Given(rows), [])
    again = learn(plan.model_copy(update={"champion": Rival(version=1)}), Given(rows, champion=first.exported.data), [])
    assert again.champion_metrics == {name: value for name, value in first.metrics.items() if "baseline" not in name}
    assert again.weights == first.weights


def test_mixing_keeps_each_field_and_breaks_the_rows() -> None:
    plan, rows = tumours(labelled=False)
    inputs = inputs_of(plan.fields, rows)
    other = mixed(inputs)
    changed = np.stack([other.values[name] != column for name, column in inputs.values.items()], axis=1)
    assert 0.25 < changed.mean() < 0.4
    assert abs(other.values["f0"].mean() - inputs.values["f0"].mean()) < 0.5
    assert np.array_equal(mixed(inputs).values["f0"], other.values["f0"])


def test_the_predictor_serves_its_label() -> None:
    plan, rows = tumours(labelled=False)
    said = manifest(plan, learned := learn(plan, Given(rows), []), "test")
    assert said.task == MODEL_TASK_ANOMALY
    answers.check(said, signature.of_manifest(said))
    answered = Session(learned.exported.data).answers(inputs_of(plan.fields, rows.slice(0, 3)))
    served = answers.named(answers.read(answered, tuple(said.classes)))
    assert [one.label for one in served] == ["true" if score > 1 else "false" for score in answered["score"]]


def test_parameters_for_classes_are_refused() -> None:
    with pytest.raises(pipeline.InvalidPipeline, match="is for classes, and anomaly has none"):
        pipeline.parse("""
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: pumps}
events: {fields: {pressure: {type: float}, flow: {type: float}}}
model: {family: autoencoder, parameters: {class_weights: balanced}}
""")


def test_a_pipeline_without_a_label_may_ask_for_one() -> None:
    spec = pipeline.parse("""
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: pumps}
events: {fields: {pressure: {type: float}, flow: {type: float}}}
model: {family: autoencoder}
""")
    assert spec.task == "anomaly"
    assert spec.gate is not None
    assert spec.gate.metric == "separation"
