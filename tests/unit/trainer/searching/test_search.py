"""A search over real rows: what is tried, what is taken and why, the same in one life or several."""

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lepton.contracts.features import EVENT_ID
from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pb import models_pb2
from lepton.contracts.pipeline_blocks import FieldType, Search
from services.trainer import worker
from services.trainer.core.dataset import HELD_OUT, LABEL, roles
from services.trainer.core.deadline import out_of_time
from services.trainer.core.failure import RunFailed, bad_parameter, no_resource
from services.trainer.core.learning import Given, learn
from services.trainer.core.plan import Plan
from services.trainer.core.searching import study
from services.trainer.core.searching.search import Notes, find
from services.trainer.core.searching.space import Space
from services.trainer.core.searching.trials import attempts
from tests.harness.wait import poll_until
from tests.unit.trainer import samples
from tests.unit.trainer.families import shapes
from tests.unit.trainer.folders import furnish
from tests.unit.trainer.test_worker import ROOT


def notes(kept: bytes | None = None, saved: list[bytes] | None = None, step_s: float = 0.0) -> Notes:
    """A world whose time goes on by `step_s` with each look at it."""
    times = itertools.count()
    return Notes(kept, (saved if saved is not None else []).append, lambda *_: None, lambda: step_s * next(times))


def plain(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
    """An attempt whose loss is how far the learning rate is from 0.1."""
    for epoch in range(1, plan.parameters.epochs + 1):
        after_epoch(0, epoch, abs(plan.parameters.learning_rate - 0.1) + 1 / epoch)
    return study.Judged(abs(plan.parameters.learning_rate - 0.1))


def told(plan: Plan) -> models_pb2.Search:
    return json_format.Parse(plan.found, models_pb2.Search())


def planned(family: str = "logistic_regression", **search: object) -> Plan:
    return samples.wine(family=family, search=Search.model_validate(search))[0]


def test_declared_ranges_are_searched_and_the_best_is_taken_with_its_account() -> None:
    plan = planned(trials=25, epochs=5, ranges={
        "learning_rate": {"low": 0.001, "high": 0.3, "log": True}, "batch_size": {"one_of": (16, 32)},
        "warmup_epochs": {"low": 0, "high": 3}})
    found = find(plan, lambda: plain, notes())
    account = told(found)
    assert abs(found.parameters.learning_rate - 0.1) < 0.03
    assert found.parameters.batch_size in (16, 32) and found.parameters.warmup_epochs in range(4)
    assert (found.search, found.family, found.parameters.epochs) == (None, plan.family, plan.parameters.epochs)
    assert len(account.trials) == 20
    assert all(set(json.loads(one.parameters_json)) <= {"learning_rate", "batch_size", "warmup_epochs"}
               for one in account.trials)
    complete = [one for one in account.trials if one.state == models_pb2.TRIAL_STATE_COMPLETE]
    best = min(complete, key=lambda one: one.loss)
    assert best.number == account.chosen
    assert any(one.state == models_pb2.TRIAL_STATE_PRUNED for one in account.trials)
    assert f"Taken is trial {best.number}, logistic_regression with batch_size" in account.explanation


def test_the_first_trial_is_what_the_pipeline_says_so_that_nothing_worse_is_taken() -> None:
    plan = planned("mlp", trials=5, epochs=2)
    saved: list[bytes] = []
    find(plan, lambda: plain, notes(saved=saved))
    first, second, *_ = study.Kept.from_json(saved[-1]).trials
    assert (first.parameters["learning_rate"], first.parameters["l2"]) == (
        plan.parameters.learning_rate, plan.parameters.l2)
    assert second.parameters["learning_rate"] != first.parameters["learning_rate"]


def test_what_somebody_set_is_not_looked_for() -> None:
    plan = planned("mlp", trials=6, epochs=2).model_copy(update={"parameters": Parameters(hidden=(9,), l2=0.5)})
    account = told(find(plan, lambda: plain, notes()))
    assert {name for one in account.trials for name in json.loads(one.parameters_json)} == {"dropout", "learning_rate"}


def test_the_same_search_in_one_life_or_in_many_finds_the_same() -> None:
    plan = planned("auto", trials=14, epochs=6)
    saved: list[bytes] = []
    whole = find(plan, lambda: plain, notes(saved=saved))
    for life in range(0, len(saved), 4):
        assert find(plan, lambda: plain, notes(kept=saved[life])) == whole
    assert find(plan, lambda: plain, notes(kept=b"{cut short")) == whole
    other = plan.model_copy(update={"parameters": Parameters(seed=8)})
    assert find(other, lambda: plain, notes()).found != whole.found


def test_nothing_is_prepared_again_once_a_search_has_ended() -> None:
    saved: list[bytes] = []
    whole = find(planned(trials=2, epochs=2), lambda: plain, notes(saved=saved))

    def never() -> study.Attempt:
        raise AssertionError("there was nothing left to try")

    assert find(planned(trials=2, epochs=2), never, notes(kept=saved[-1])) == whole


def test_auto_picks_among_the_families_that_fit_label_and_fields() -> None:
    def families(task: str, **fields: FieldType) -> tuple[str, ...]:
        return Space(samples.plan(fields, task=task, family="auto", search=Search())).families

    assert families("regression", x="float") == ("linear_regression", "mlp")
    assert families("classification", x="float", note="text") == ("logistic_regression", "mlp", "gru")
    assert families("classification", x="float", signal="vector") == ("logistic_regression", "mlp", "cnn")


def test_families_that_read_the_rows_in_other_ways_are_tried_on_the_same_rows() -> None:
    plan, rows = samples.mixed(120, family="auto", search=Search(trials=3, epochs=1), parameters=Parameters(epochs=1))
    found = find(plan, partial(attempts, plan, rows), notes())
    assert [one.family for one in told(found).trials] == ["logistic_regression", "mlp", "gru"]
    assert all(one.state == models_pb2.TRIAL_STATE_COMPLETE for one in told(found).trials)
    assert learn(found, Given(rows), []).metrics["accuracy"] > 0


def test_images_are_folded_as_their_field_says_when_a_cnn_is_tried() -> None:
    plan, rows = shapes.digits(200, "auto", epochs=1)
    found = find(plan.model_copy(update={"search": Search(trials=3, epochs=1)}), partial(attempts, plan, rows), notes())
    tried = {one.family: json.loads(one.parameters_json) for one in told(found).trials}
    assert tried["cnn"]["image"] == [8, 8]
    assert not {"image"} & {*tried["logistic_regression"], *tried["mlp"]}


def test_seconds_bound_a_search_but_never_its_first_trial() -> None:
    found = find(planned(trials=50, seconds=60, epochs=4, ranges={"learning_rate": {"low": 0.01, "high": 0.2}}),
                 lambda: plain, notes(step_s=20.0))
    states = [one.state for one in told(found).trials]
    assert states[0] == models_pb2.TRIAL_STATE_COMPLETE and len(states) < 5


def test_a_simpler_family_is_taken_when_the_best_is_better_by_less_than_its_error() -> None:
    def nearly(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        return study.Judged(0.30 if plan.family == "mlp" else 0.33, 0.05)

    found = find(planned("auto", trials=4), lambda: nearly, notes())
    assert found.family == "logistic_regression"
    assert "mlp with" in told(found).explanation and "the simplest family within" in told(found).explanation


def test_families_are_compared_by_their_best_tried_again_so_that_luck_is_not_taken_for_skill() -> None:
    def lucky(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        again = plan.parameters.seed != Parameters().seed
        return study.Judged({"mlp": 0.9 if again else 0.1}.get(plan.family, 0.5), 0.01, 5)

    saved: list[bytes] = []
    found = find(planned("auto", trials=5), lambda: lucky, notes(saved=saved))
    assert (found.family, found.parameters.seed) == ("logistic_regression", Parameters().seed)
    assert "logistic_regression 0.5 ± 0.01, mlp 0.9 ± 0.01" in told(found).explanation
    for kept in saved[-3:]:
        assert find(planned("auto", trials=5), lambda: lucky, notes(kept=kept)) == found


def test_of_linear_models_within_an_error_the_one_with_the_heaviest_penalty_is_taken() -> None:
    def flat(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        return study.Judged(1.0 if plan.family == "mlp" else 0.5 + plan.parameters.l2, 0.011, 5)

    found = find(planned("auto", trials=8), lambda: flat, notes())
    assert (found.parameters.l2, found.parameters.learning_rate, found.parameters.patience) == (0.01, 0.05, 0)
    assert "less penalised" in told(found).explanation


def test_how_linear_models_do_on_other_folds_makes_no_heavier_penalty_as_good_as_the_best() -> None:
    def flat(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        again = plan.parameters.seed != Parameters().seed
        return study.Judged(1.0 if plan.family == "mlp" else (0.6 if again else 0.5) + plan.parameters.l2, 0.011, 5)

    assert find(planned("auto", trials=8), lambda: flat, notes()).parameters.l2 == 0.01


@pytest.mark.parametrize(("drawn", "taken"), [(0.49, "known"), (0.3, "drawn")])
def test_a_network_found_by_chance_is_taken_only_if_better_by_more_than_an_error(drawn: float, taken: str) -> None:
    known = {"learning_rate": 0.005, "l2": 0.01, "dropout": 0.3, "hidden": (64,)}

    def judged(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        if plan.family != "mlp":
            for epoch in range(1, plan.parameters.epochs + 1):
                after_epoch(0, epoch, 3.0)
            return study.Judged(2.0, 0.05, 5)
        same = all(getattr(plan.parameters, name) == value for name, value in known.items())
        for epoch in range(1, plan.parameters.epochs + 1):
            # It begins slowly.
            after_epoch(0, epoch, 9.0 if same else 3.0)
        return study.Judged(0.5 if same else drawn, 0.05, 5)

    found = find(planned("auto", trials=20), lambda: judged, notes())
    assert found.family == "mlp" and found.parameters.members == 8
    assert (found.parameters.dropout == 0.3) == (taken == "known")
    assert ("not known to do well" in told(found).explanation) == (taken == "known")


def test_few_rows_are_learnt_by_several_networks_unless_somebody_said_how_many() -> None:
    def members(rows: int, **parameters: Any) -> set[int]:
        plan = planned("auto", trials=12, epochs=2).model_copy(update={
            "rows": rows, "parameters": Parameters(**parameters)})
        tried = told(find(plan, lambda: plain, notes())).trials
        return {json.loads(one.parameters_json).get("members", 1) for one in tried if one.family == "mlp"}

    assert members(1999) == {8}
    assert members(2000) == {1}
    assert members(1999, members=3) == {1}


def test_what_follows_has_its_time_within_the_searchs_seconds() -> None:
    now = itertools.count()
    clock = [0.0]

    def slow(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        for fold, epoch in itertools.product(range(5), range(1, plan.parameters.epochs + 1)):
            clock[0] += 0.1
            after_epoch(fold, epoch, 1 / (1 + next(now)))
        return study.Judged(1 / (1 + next(now)), 0.0, 5)

    found = find(planned("auto", trials=50, seconds=300, epochs=40),
                 lambda: slow, Notes(None, lambda _: None, lambda *_: None, lambda: clock[0]))
    assert len(told(found).trials) > 5
    # A fold took 4 s; all the rows take a quarter more.
    assert 200 < clock[0] <= 300 - 5


@pytest.mark.parametrize("ended", [2, 7])
def test_the_time_of_the_whole_run_ends_a_search_within_a_trial(ended: int) -> None:
    """Also within the first, which no other bound of a search ends, and whatever came of others before."""
    asked: list[str] = []

    def check(where: str) -> None:
        asked.append(where)
        if len(asked) > ended:
            raise out_of_time(60.0, where)

    with pytest.raises(RunFailed, match="not done after 60 s, at epoch") as failure:
        find(planned(trials=5, epochs=4), lambda: plain, replace(notes(), check=check))
    assert failure.value.name == "time_limit"
    assert asked[-1] == ("at epoch 2 of trial 1" if ended == 2 else "at epoch 3 of trial 2")


def test_what_passes_between_trials_is_time_of_the_search_too() -> None:
    clock = [0.0]

    def saved(_: bytes) -> None:
        clock[0] += 1.0

    def quick(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        after_epoch(0, 1, 0.5)
        return study.Judged(0.5)

    found = find(planned(trials=50, seconds=20), lambda: quick, Notes(None, saved, lambda *_: None, lambda: clock[0]))
    assert 10 < len(told(found).trials) <= 20 and clock[0] <= 21


@pytest.mark.parametrize(("again", "taken"), [(0.46, "known"), (0.3, "drawn")])
def test_a_network_is_found_by_chance_also_where_it_does_worse_when_tried_again(again: float, taken: str) -> None:
    known = {"learning_rate": 0.005, "l2": 0.01, "dropout": 0.3, "hidden": (64,)}

    def judged(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        if plan.family != "mlp":
            return study.Judged(2.0, 0.05, 5)
        if plan.parameters.seed != Parameters().seed:
            return study.Judged(again, 0.05, 5)
        same = all(getattr(plan.parameters, name) == value for name, value in known.items())
        return study.Judged(0.5 if same else 0.3, 0.05, 5)

    found = find(planned("auto", trials=20), lambda: judged, notes())
    assert found.family == "mlp" and (found.parameters.dropout == 0.3) == (taken == "known")


def test_trials_that_cannot_be_trained_are_told_and_do_not_end_the_search() -> None:
    def diverging(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        if plan.family == "mlp":
            raise bad_parameter("training diverged", "lower learning_rate", "nan_loss")
        return study.Judged(0.5, 0.1)

    found = find(planned("auto", trials=4), lambda: diverging, notes())
    assert found.family == "logistic_regression"
    assert "No trial of mlp came to its end." in told(found).explanation
    assert models_pb2.TRIAL_STATE_FAILED in [one.state for one in told(found).trials]


@pytest.mark.parametrize(("failure", "name"), [
    (bad_parameter("training diverged", "lower learning_rate"), "search_without_result"),
    (no_resource("more memory than there is", "use fewer rows", "out_of_memory"), "out_of_memory")])
def test_a_search_none_of_whose_trials_can_be_trained_fails_with_the_last_reason(failure: RunFailed, name: str) -> None:
    def failing(plan: Plan, after_epoch: study.AfterEpoch) -> study.Judged:
        raise failure

    with pytest.raises(RunFailed, match="none of 3 trials could be trained") as ended:
        find(planned(trials=3), lambda: failing, notes())
    assert (ended.value.name, ended.value.remedy) == (name, failure.remedy)


@pytest.mark.parametrize(("data", "trials", "epochs", "rivals"), [
    ("breast_cancer", 2, 16, (LogisticRegression(max_iter=1000), KNeighborsClassifier())),
    ("wine", 4, 30, (LogisticRegression(max_iter=1000), KNeighborsClassifier())),
    ("diabetes", 3, 12, (Ridge(), KNeighborsRegressor()))])
def test_auto_is_within_a_standard_error_of_the_best_of_some_models_of_scikit_learn(
        data: str, trials: int, epochs: int, rivals: tuple[Any, ...]) -> None:
    mine: list[float] = []
    theirs: list[list[float]] = [[] for _ in rivals]
    for split in range(2):
        plan, rows = getattr(samples, data)(family="auto", search=Search(trials=trials, epochs=epochs))
        rows = rows.set_column(0, EVENT_ID, pa.array([f"{split}-{number}" for number in range(rows.num_rows)]))
        learned = learn(find(plan, partial(attempts, plan, rows), notes()), Given(rows), [])
        held = roles(rows.column(EVENT_ID).to_pylist(), plan.gate.held_out) == HELD_OUT
        inputs = np.column_stack([rows.column(field.name).to_numpy() for field in plan.fields])
        labels = np.array(rows.column(LABEL).to_pylist())
        found = learned.metrics
        mine += [found["mse"] if plan.task == "regression" else 1 - found["accuracy"]] * int(held.sum())
        for losses, rival in zip(theirs, rivals, strict=True):
            answers = make_pipeline(StandardScaler(), rival).fit(inputs[~held], labels[~held]).predict(inputs[held])
            losses += list((answers - labels[held]) ** 2 if plan.task == "regression" else answers != labels[held])
    best = min(theirs, key=lambda losses: float(np.mean(losses)))
    assert np.mean(mine) <= np.mean(best) + np.std(best) / np.sqrt(len(best))


def test_a_run_killed_while_it_searches_goes_on_and_learns_the_very_same(tmp_path: Path) -> None:
    # With the penalty given it begins with a trial a family; the third and fourth are of the menu.
    plan, rows = samples.wine(family="auto", search=Search(trials=4, epochs=4),
                              parameters=Parameters(epochs=4, l2=1e-3))
    for name in ("whole", "killed"):
        furnish(tmp_path / name, plan, rows)
    assert worker.train(tmp_path / "whole") == 0
    process = subprocess.Popen([sys.executable, "-m", "services.trainer.worker", "train", str(tmp_path / "killed"),
                                str(os.getpid())], cwd=ROOT, stderr=subprocess.DEVNULL)
    kept = tmp_path / "killed" / worker.SEARCH
    poll_until(lambda: kept.exists() or process.poll() is not None, "a first trial", 120, every_s=0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert study.Kept.from_json(kept.read_bytes()).trials
    assert worker.train(tmp_path / "killed") == 0
    assert [(tmp_path / "killed" / name).read_bytes() for name in (worker.MODEL, worker.WEIGHTS)] == [
        (tmp_path / "whole" / name).read_bytes() for name in (worker.MODEL, worker.WEIGHTS)]
    manifests = [json.loads((tmp_path / name / worker.RESULT).read_bytes())["manifest"] for name in ("whole", "killed")]
    assert manifests[0]["search"] == manifests[1]["search"]
    assert [one.columns for one in study.Kept.from_json(kept.read_bytes()).trials] == [
        (), (), ("quantile_bins",), ("scale+quantile_bins",)]
    trials = {one["number"]: one.get("transforms_json", "") for one in manifests[0]["search"]["trials"]}
    # Of the others it is not told which columns they had: it would be all names of fields for each.
    assert {number for number, told in trials.items() if told} <= {manifests[0]["search"]["chosen"]}
    assert manifests[0]["family"] in ("logistic_regression", "mlp")
    lines = [json.loads(line) for line in (tmp_path / "whole" / worker.PROGRESS).read_text().splitlines()]
    assert lines[0]["stage"] == "trial 1 of 4: logistic_regression" and "least_loss" in lines[1]
    assert lines[-1]["epoch"] == 4
