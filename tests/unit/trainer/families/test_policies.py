"""Policies are learnt from a log, better than the log's own, and judged from it as they then turn out to be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from examples.allocation.data import ACTIONS, REQUESTS, URGENCIES, State, decisions, worth
from lepton.contracts.pipeline import InvalidPipeline, from_json, parse
from services.predictor.core import answers, signature
from services.trainer import worker
from services.trainer.core.dataset import LABEL
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.gate import decide
from services.trainer.core.learning import Given, Learned, learn, manifest
from services.trainer.core.plan import Plan, Rival
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.trainer.families.planned import example, plan_of, rows_of
from tests.unit.trainer.folders import furnish

SPEC = example("allocation")
QUICK = {"epochs": 12}


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return rows_of(SPEC, decisions(240))


@pytest.fixture(scope="module")
def learned(rows: pa.Table) -> Learned:
    return learn(plan_of(SPEC, QUICK), Given(rows), [])


def decided(plan: Plan, learned: Learned) -> dict[tuple[int, int, str], str]:
    """What the file decides in every state there is."""
    states = [(stock, left, urgency) for stock in range(5) for left in range(1, REQUESTS + 1) for urgency in URGENCIES]
    columns = {name: pa.array([one[place] for one in states])
               for place, name in enumerate(("stock", "requests_left", "urgency"))}
    found = Session(learned.exported.data).answers(inputs_of(plan.fields, pa.table(columns)))
    return dict(zip(states, found["label"].tolist(), strict=True))


def true_worth(plan: Plan, learned: Learned) -> float:
    table = decided(plan, learned)

    def choose(state: State) -> str:
        return table[state["stock"], state["requests_left"], state["urgency"]]

    return worth(choose, plan.parameters.discount)


@pytest.mark.parametrize("family", ["q_learning", "dqn"])
def test_it_is_better_than_the_log_and_as_good_as_the_estimate(rows: pa.Table, learned: Learned, family: str) -> None:
    plan = plan_of(SPEC, QUICK | ({"learning_rate": 0.01, "hidden": (16,), "bins": 5} if family == "dqn" else {}),
                   family=family)
    found = learned if family == "q_learning" else learn(plan, Given(rows), [])
    true = true_worth(plan, found)
    logged = found.metrics["baseline_fqe_value"]
    assert true > logged + 2
    assert found.metrics["fqe_gain"] == pytest.approx(found.metrics["fqe_value"] - logged)
    assert abs(found.metrics["fqe_value"] - true) < 0.2 * true
    assert decide(plan.gate, found.metrics, None).passed


def test_what_is_worse_than_the_log_is_kept_out(rows: pa.Table) -> None:
    """Rewards that are told with the wrong sign teach what should not be done."""
    plan = plan_of(SPEC, QUICK)
    split = learn(plan, Given(rows), [])
    wrong = rows.set_column(rows.column_names.index(LABEL), LABEL,
                            pa.array([-one for one in rows.column(LABEL).to_pylist()]))
    bad = learn(plan, Given(wrong), [])
    again = learn(plan_of(SPEC, {"epochs": 1, "learning_rate": 1e-9}, champion=Rival(version=1, classes=ACTIONS)),
                  Given(rows, champion=bad.exported.data), [])
    assert again.champion_metrics is not None
    assert again.champion_metrics["fqe_gain"] < 0 < split.metrics["fqe_gain"]
    verdict = decide(plan.gate, again.champion_metrics, None)
    assert not verdict.passed
    assert "fqe_gain" in verdict.reasons[0]


def test_importance_weights_agree_where_enough_weeks_went_that_way(rows: pa.Table) -> None:
    """A policy that looks one request ahead shares many a week's decisions with the log."""
    plan = plan_of(SPEC, {**QUICK, "discount": 0.0})
    found = learn(plan, Given(rows), [])
    assert found.metrics["wis_value"] == pytest.approx(found.metrics["fqe_value"], abs=0.8)
    assert found.metrics["wis_value"] > found.metrics["baseline_wis_value"] + 0.5


def test_the_same_log_gives_the_same_policy_with_a_resume_or_without(rows: pa.Table) -> None:
    small = rows.slice(0, 1000)
    plan = plan_of(SPEC, {"epochs": 3, "hidden": (8,), "bins": 5}, family="dqn")
    kept: list[bytes] = []

    class Keep:
        def epoch_done(self, loop: Any) -> None:
            kept.append(loop.checkpoint())

    whole = learn(plan, Given(small), [Keep()])
    resumed = learn(plan, Given(small, checkpoint=kept[0]), [])
    assert resumed.weights == whole.weights
    assert resumed.exported.data == whole.exported.data


def test_propensities_are_estimated_where_none_were_logged(rows: pa.Table, learned: Learned) -> None:
    assert SPEC.model is not None
    bare = plan_of(SPEC, QUICK, roles=SPEC.model.roles.model_copy(update={"propensity": None}))
    found = learn(bare, Given(rows), [])
    assert found.weights == learned.weights
    assert found.metrics["fqe_value"] == learned.metrics["fqe_value"]
    assert found.metrics.get("wis_episodes", 0) == pytest.approx(learned.metrics.get("wis_episodes", 0), abs=3)


def test_a_reward_that_is_not_known_teaches_nothing_and_breaks_no_week(rows: pa.Table) -> None:
    chance = np.random.default_rng(1)
    gone = pa.array([None if chance.random() < 0.02 else one for one in rows.column(LABEL).to_pylist()], pa.float64())
    found = learn(plan_of(SPEC, QUICK), Given(rows.set_column(rows.column_names.index(LABEL), LABEL, gone)), [])
    assert found.train_rows < rows.num_rows - found.held_out_rows
    assert found.metrics["fqe_gain"] > 1


def test_a_policy_goes_on_from_its_parent_until_there_is_another_action(rows: pa.Table, learned: Learned) -> None:
    place, done = rows.column_names.index("decision"), rows.column("decision").to_pylist()
    goes_on = plan_of(SPEC, QUICK | {"epochs": 1}, parent=Rival(version=1, classes=ACTIONS))
    forgotten = rows.set_column(place, "decision", pa.array([None, *done[1:]]))
    assert learn(goes_on, Given(forgotten, parent=learned.weights), []).metrics["fqe_gain"] > 1
    other = rows.set_column(place, "decision", pa.array(["lend" if one == "hold" else one for one in done]))
    with pytest.raises(RunFailed, match="one the parent version does not know"):
        learn(goes_on, Given(other, parent=learned.weights), [])


def test_the_predictor_answers_with_the_action_and_what_each_may_bring(learned: Learned) -> None:
    plan = plan_of(SPEC, QUICK)
    said = manifest(plan, learned, "test")
    answers.check(said, signature.of_manifest(said))
    table = pa.table({"stock": [0, 4], "requests_left": [3, 2], "urgency": ["high", "high"]})
    outputs = Session(learned.exported.data).answers(inputs_of(plan.fields, table))
    empty, full = answers.named(answers.read(outputs, tuple(said.classes)))
    assert set(empty.values) == set(ACTIONS)
    assert (empty.label, full.label) == ("refer", "give")
    assert max(full.values, key=lambda name: full.values[name]) == full.label
    assert full.values["give"] == pytest.approx(10, abs=4)


def test_one_action_teaches_nothing(rows: pa.Table) -> None:
    same = rows.set_column(rows.column_names.index("decision"), "decision", pa.array(["give"] * rows.num_rows))
    with pytest.raises(RunFailed, match="fewer than two actions"):
        learn(plan_of(SPEC), Given(same), [])


def test_a_table_with_too_many_states_is_refused(rows: pa.Table) -> None:
    with pytest.raises(RunFailed, match="more than a table may have") as failure:
        wide = {f"f{place}": [float(place)] * 40 for place in range(10)}
        text = ("apiVersion: lepton/v1\nkind: Pipeline\nmetadata: {name: wide}\n"
                "events:\n  entity: who\n  label: {field: reward, type: float}\n  fields:\n"
                + "".join(f"    {name}: {{type: float}}\n" for name in wide)
                + "    does: {type: bool, input: false}\n"
                + "model: {family: q_learning, roles: {action: does}}\n")
        events = [{"event_id": str(number), "who": str(number // 4), "does": number % 2 == 0, "reward": 1.0,
                   **{name: column[number] for name, column in wide.items()}} for number in range(40)]
        spec = parse(text)
        learn(plan_of(spec), Given(rows_of(spec, events)), [])
    assert failure.value.failure_class == "parameter"
    assert "dqn" in failure.value.remedy


def test_a_worker_leaves_a_result_with_the_figures_of_the_gate(tmp_path: Path, rows: pa.Table) -> None:
    furnish(tmp_path, plan_of(SPEC, {"epochs": 1}), rows)
    assert worker.train(tmp_path) == 0
    assert not (tmp_path / worker.FAILURE).exists()
    result = json.loads((tmp_path / worker.RESULT).read_text())
    assert {"fqe_gain", "fqe_value", "baseline_fqe_value"} <= set(result["manifest"]["metrics"])


WRITTEN = "gate: {metric: fqe_gain, at_least: 1.0, beat_champion_by: -1.0, held_out: 0.3}"


@pytest.mark.parametrize(("gate", "bound"), [
    ("", 0.0), ("gate: {metric: fqe_gain}", 0.0), ("gate: {metric: wis_gain, held_out: 0.3}", 0.0),
    ("gate: {metric: fqe_gain, at_least: -0.5}", -0.5), ("gate: {metric: fqe_value, at_least: 7.5}", 7.5)])
def test_a_first_policy_is_held_to_the_log_unless_another_bound_is_written(gate: str, bound: float) -> None:
    text = (Path(__file__).parents[4] / "examples/allocation/pipeline.yaml").read_text("utf-8")
    assert WRITTEN in text
    asked = parse(text.replace(WRITTEN, gate)).gate
    assert asked is not None and asked.at_least == bound
    # There is no champion yet, so nothing else keeps it out.
    worse, as_good = ({str(asked.metric): value} for value in (bound - 0.01, bound))
    assert f"below {bound:g}" in decide(asked, worse, None).reasons[0]
    assert decide(asked, as_good, None).passed


def test_a_policy_stored_before_a_bound_was_asked_for_goes_on() -> None:
    text = (Path(__file__).parents[4] / "examples/allocation/pipeline.yaml").read_text("utf-8")
    stored = parse(text.replace(WRITTEN, "gate: {metric: fqe_value, at_least: 7.5}")).canonical_json()
    older = stored.replace('"at_least":7.5', '"at_least":null')
    assert older != stored
    asked = from_json(older).gate
    assert asked is not None and (asked.metric, asked.at_least) == ("fqe_value", None)


@pytest.mark.parametrize(("before", "after", "said"), [
    (WRITTEN, "gate: {metric: fqe_value}", "which fqe_value is enough"),
    (WRITTEN, "gate: {metric: wis_value, beat_champion_by: 1.0}", "which wis_value is enough"),
    ("action: decision, ", "", "which field is the action"),
    ("  entity: week\n", "", "an episode is the rows of one entity"),
    ("{field: benefit, type: float,", "{field: benefit, type: bool,", "learns from rewards"),
    ("metric: fqe_gain", "metric: rmse", "does not measure policy"),
    ("caution: 0.05", "class_weights: balanced", "is for classes"),
    ("q_learning", "dqn", "has no parameter `bins`")])
def test_a_pipeline_that_cannot_learn_a_policy_is_refused(before: str, after: str, said: str) -> None:
    text = (Path(__file__).parents[4] / "examples/allocation/pipeline.yaml").read_text("utf-8")
    assert before in text
    with pytest.raises(InvalidPipeline) as refused:
        parse(text.replace(before, after))
    assert any(said in str(problem) for problem in refused.value.problems)
