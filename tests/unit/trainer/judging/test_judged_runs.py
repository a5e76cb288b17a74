"""Whole runs as they judge themselves: folds, calibration, the champion on the same rows, and the gate that asks."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from lepton.contracts.modelling.blocks import Evaluate, Parameters
from lepton.contracts.pb.training_pb2 import RUN_STATE_REJECTED, RUN_STATE_SUCCEEDED
from lepton.contracts.pipeline_blocks import Gate
from services.trainer.core.gate import decide
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.plan import Plan, Rival
from tests.unit.trainer import samples
from tests.unit.trainer.world import SPEC, World, state_of

FEW = Parameters(epochs=4, learning_rate=0.05)


def challenged(plan: Plan, rows: pa.Table, champion: Learned) -> Learned:
    rival = plan.model_copy(update={"champion": Rival(version=1, classes=champion.target.classes)})
    return learn(rival, Given(rows, champion=champion.exported.data), [])


def test_every_run_stands_beside_the_last_value_and_says_how_far_its_probabilities_are_off() -> None:
    plan, rows = samples.wine(parameters=FEW)
    found = learn(plan, Given(rows), []).metrics
    # The rows of this set lie class by class, so repeating the last one is nearly always right.
    assert found["last_value_accuracy"] > 0.9 > found["baseline_accuracy"]
    assert 0 <= found["calibration_error"] < 1
    assert 0 <= found["brier"] < 1
    plan, rows = samples.diabetes(parameters=FEW)
    found = learn(plan, Given(rows), []).metrics
    assert found["rmse"] < found["last_value_rmse"]
    assert "brier" not in found


@pytest.mark.parametrize("by", ["chance", "time"])
def test_folds_are_learnt_anew_and_change_nothing_of_the_model(by: Literal["chance", "time"]) -> None:
    plan, rows = samples.breast_cancer(parameters=FEW)
    alone = learn(plan, Given(rows), [])
    folded = learn(plan.model_copy(update={"evaluate": Evaluate(folds=3, by=by)}), Given(rows), [])
    assert folded.weights == alone.weights
    assert folded.exported.data == alone.exported.data
    assert folded.metrics["folds_accuracy"] == pytest.approx(alone.metrics["accuracy"], abs=0.1)
    assert 0 <= folded.metrics["folds_accuracy_error"] < 0.1
    assert not any(name.startswith("folds_") for name in alone.metrics)


def test_a_fold_that_cannot_be_learnt_is_told_of_and_keeps_nothing_back() -> None:
    plan, rows = samples.wine(parameters=FEW, evaluate=Evaluate(folds=3, by="time"))
    # In order of time the first quarter is all of one class.
    learned = learn(plan, Given(rows), [])
    assert "fold 1 of 3 could not be learnt: all" in learned.warnings[-1]
    assert "folds_accuracy" in learned.metrics
    few = learn(plan.model_copy(update={"evaluate": Evaluate(folds=20)}), Given(rows.slice(40, 38)), [])
    assert few.warnings[-1].startswith("it was not learnt anew in folds: 38 rows are too few for 20 parts")


def test_a_candidate_is_tested_against_the_champion_row_by_row() -> None:
    plan, rows = samples.breast_cancer()
    poor = learn(plan.model_copy(update={"parameters": Parameters(epochs=1, learning_rate=1e-5)}), Given(rows), [])
    gate = Gate(metric="log_loss", significance=0.05)
    good = challenged(plan.model_copy(update={"gate": gate}), rows, poor)
    assert good.metrics["champion_lead"] == pytest.approx(poor.metrics["log_loss"] - good.metrics["log_loss"])
    assert good.metrics["champion_lead_low"] > 0
    assert good.metrics["champion_chance"] < 0.05
    assert decide(gate, good.metrics, good.champion_metrics).passed
    again = challenged(plan.model_copy(update={"gate": gate}), rows, good)
    verdict = decide(gate, again.metrics, again.champion_metrics)
    assert verdict.reasons == ("its lead in log_loss is luck with a chance of 1, more than 0.05",)
    tolerant = Gate(metric="log_loss", significance=0.05, beat_champion_by=-0.05)
    as_good = challenged(plan.model_copy(update={"gate": tolerant}), rows, good)
    assert decide(tolerant, as_good.metrics, as_good.champion_metrics).passed


def test_the_same_run_judges_itself_the_same() -> None:
    plan, rows = samples.diabetes(parameters=FEW, evaluate=Evaluate(folds=2))
    champion = learn(plan, Given(rows), [])
    one, other = (challenged(plan, rows, champion).metrics for _ in range(2))
    assert one == other
    assert all(np.isfinite(value) for value in one.values())


async def test_what_the_pipeline_asks_for_stands_in_the_version_and_decides(world: World) -> None:
    text = SPEC.replace("beat_champion_by: -0.05", "significance: 0.05").replace(
        "model:\n", "model:\n  evaluate: {folds: 2, by: time}\n")
    world.pipelines["tumours"] = state_of(text)
    await world.rows(0, 240)
    first = await world.train("c1")
    second = await world.train("c2")
    assert [first.progress.state, second.progress.state] == [RUN_STATE_SUCCEEDED, RUN_STATE_REJECTED]
    assert "its lead in accuracy is luck with a chance of 1" in second.progress.failure.message
    manifest = (await world.stores.models.state("tumours")).versions[0].manifest
    assert {"folds_accuracy", "folds_accuracy_error", "calibration_error", "last_value_accuracy"} <= set(
        manifest.metrics)
