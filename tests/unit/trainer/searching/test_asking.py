"""When a run looks for family and parameters, and when it goes on with those that were found."""

import json
from pathlib import Path

import pytest

from lepton.contracts import pipeline
from lepton.contracts.pb import models_pb2
from lepton.contracts.pb.training_pb2 import TRAINING_KIND_FINE_TUNE, RunState
from lepton.contracts.pipeline_blocks import Search, Tried
from services.trainer.core.failure import RunFailed
from services.trainer.core.searching.asking import asked
from services.trainer.core.searching.usual import BUDGET, tuning
from tests.unit.trainer.world import SPEC, World, command, state_of

AUTO = SPEC.replace("""family: logistic_regression
  parameters: {epochs: 8, learning_rate: 0.05}""", """family: auto
  parameters: {epochs: 6}
  search: {trials: 3, epochs: 4}""")


def test_the_commands_search_goes_before_the_pipelines() -> None:
    spec = pipeline.parse(AUTO)
    by_pipeline, by_command = (asked(spec, one, "auto") for one in (
        command(), command(search_json='{"trials": 9, "ranges": {"l2": {"low": 0.1, "high": 0.2}}}')))
    assert by_pipeline is not None and by_pipeline.trials == 3
    assert by_command is not None and (by_command.trials, list(by_command.ranges)) == (9, ["l2"])
    assert asked(spec, command(), "mlp") is None
    assert asked(pipeline.parse(SPEC), command(), "logistic_regression") is None
    assert asked(pipeline.parse(SPEC), command(), "auto") == BUDGET


@pytest.mark.parametrize(("text", "why"), [
    ("{", "not JSON"), ("[1]", "search."), ('{"trials": 0}', "search.trials"), ('{"speed": 1}', "search.speed"),
    ('{"ranges": {"dropout": {"low": 0, "high": 0.5}}}', "nothing a search for logistic_regression tries")])
def test_a_search_that_cannot_be_is_a_parameter_failure(text: str, why: str) -> None:
    with pytest.raises(RunFailed, match=why) as failure:
        asked(pipeline.parse(SPEC), command(search_json=text), "logistic_regression")
    assert (failure.value.failure_class, failure.value.name) == ("parameter", "unfit_search")
    assert failure.value.remedy


async def test_a_run_says_in_its_record_and_in_the_manifest_how_it_chose(tmp_path: Path) -> None:
    world = World(tmp_path, pipelines={"tumours": state_of(AUTO)})
    await world.rows(0, 200)
    run = await world.train()
    assert run.progress.state == RunState.RUN_STATE_SUCCEEDED, run.progress
    (version,) = (await world.stores.models.state("tumours")).versions
    account = version.manifest.search
    assert len(account.trials) == 3
    assert run.progress.explanation == account.explanation
    chosen = next(one for one in account.trials if one.number == account.chosen)
    assert (version.manifest.family, chosen.state) == (chosen.family, models_pb2.TRIAL_STATE_COMPLETE)
    assert f"Taken is trial {account.chosen}, {chosen.family}" in account.explanation


async def test_a_run_by_rows_learns_on_with_what_was_found_and_a_command_looks_again(tmp_path: Path) -> None:
    world = World(tmp_path, pipelines={"tumours": state_of(AUTO)})
    await world.rows(0, 200)
    await world.train("first", search_json='{"trials": 4, "epochs": 4}')
    await world.train("by-rows", reason="rows")
    await world.train("tuned", kind=TRAINING_KIND_FINE_TUNE, parameters_json='{"learning_rate": 0.001}')
    await world.train("anew")
    first, by_rows, tuned, anew = (await world.stores.models.state("tumours")).versions
    assert [one.manifest.lineage.parent_version for one in (by_rows, tuned)] == [1, 2]
    assert first.manifest.search == by_rows.manifest.search == tuned.manifest.search
    assert first.manifest.family == by_rows.manifest.family == tuned.manifest.family
    assert anew.manifest.lineage.parent_version == 0 and len(anew.manifest.search.trials) == 3


async def test_a_champion_nobody_searched_for_is_no_parent_of_a_search(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.rows(0, 200)
    await world.train("plain")
    world.pipelines["tumours"] = state_of(SPEC.replace("  train:", "  search: {trials: 2, epochs: 2}\n  train:"), 2)
    run = await world.train("by-rows", reason="rows")
    assert run.progress.explanation
    found = (await world.stores.models.state("tumours")).versions[-1].manifest
    assert (found.lineage.parent_version, len(found.search.trials)) == (0, 2)
    assert all("learning_rate" not in json.loads(one.parameters_json) for one in found.search.trials)


async def test_a_fine_tune_looks_for_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.rows(0, 200)
    await world.train("plain")
    run = await world.train("tuned", kind=TRAINING_KIND_FINE_TUNE, search_json='{"trials": 2}')
    assert (run.progress.state, run.progress.failure.name) == (RunState.RUN_STATE_FAILED, "unfit_search")


def test_a_search_that_heals_is_bounded_and_tries_what_somebody_set_but_for_sizes() -> None:
    model = pipeline.parse(SPEC.replace("family: logistic_regression\n  parameters: {epochs: 8, ",
                                        "family: mlp\n  parameters: {hidden: [7], ")).model
    assert model is not None
    found = tuning(model)
    assert (found.trials, found.seconds, set(found.ranges)) == (20, 240, {"learning_rate", "l2", "dropout"})
    own = Search(trials=3, ranges={"l2": Tried(low=0.1, high=0.2)})
    assert tuning(model.model_copy(update={"search": own}), 60) == own.model_copy(update={"seconds": 60.0})
    quick = model.model_copy(update={"search": Search(seconds=5.0)})
    assert (tuning(quick, 60).seconds, tuning(model, 60).seconds) == (5, 60)
    assert tuning(model.model_copy(update={"family": "auto"})) == BUDGET
