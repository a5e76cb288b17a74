"""When a run looks for family and parameters, and when it goes on with those that were found."""

import json
from pathlib import Path

import numpy as np
import pytest

from lepton.contracts import features, pipeline
from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pb import models_pb2
from lepton.contracts.pb.training_pb2 import TRAINING_KIND_FINE_TUNE, RunState
from lepton.contracts.pipeline_blocks import Search, Tried
from lepton.store.artifacts import sha256_hex
from services.trainer.core.failure import RunFailed
from services.trainer.core.searching.asking import as_parent, asked
from services.trainer.core.searching.usual import BUDGET, tuning
from tests.unit.trainer.world import SPEC, World, command, rows_of, state_of

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


BAND = SPEC.replace("""family: logistic_regression
  parameters: {epochs: 8, learning_rate: 0.05}""", """family: auto
  parameters: {epochs: 8, learning_rate: 0.1, l2: 0.00001, batch_size: 256, members: 1}
  search: {trials: 6}""")


async def test_a_run_by_rows_learns_on_with_the_transforms_that_were_found(tmp_path: Path) -> None:
    world = World(tmp_path, pipelines={"tumours": state_of(BAND)})
    spec = pipeline.parse(BAND)
    for partition, count in ((0, 2600), (1, 200)):
        table, outcomes = rows_of(spec, partition * 10_000, count)
        # Every other tenth: no line divides them, and its bins do.
        tenth = np.argsort(np.argsort(table.column("f0").to_numpy(), kind="stable")) * 10 // count
        for outcome, place in zip(outcomes, tenth.tolist(), strict=True):
            outcome.flag = place % 2 == 0
        for stream, data in (("features", features.encode_table(table)),
                             ("outcomes", features.encode_table(features.outcome_table(spec, outcomes)))):
            await world.stores.segments.append(stream, "tumours", 1, partition, 0, count, count, data,
                                               sha256_hex(data))
    await world.train("first")
    await world.train("by-rows", reason="rows")
    first, by_rows = (await world.stores.models.state("tumours")).versions
    chosen = next(one for one in first.manifest.search.trials if one.number == first.manifest.search.chosen)
    assert json.loads(chosen.transforms_json)[-1]["kind"] == "quantile_bins"
    # Weights of other columns could not be carried over.
    assert by_rows.manifest.lineage.parent_version == 1 and by_rows.manifest.lineage.carried
    assert by_rows.manifest.search == first.manifest.search

    pipeline_of = pipeline.parse(BAND.replace("model:", "features:\n  transforms: [{kind: scale, of: [f0]}]\nmodel:"))
    known = as_parent(pipeline_of, Parameters(), command(), by_rows)
    (declared,), bins = pipeline_of.features.transforms, json.loads(chosen.transforms_json)[-1]
    assert known.transforms[0] == declared and {*known.transforms[-1].of} == {*bins["of"]} - {"f0"}
    other = pipeline.parse(BAND.replace("f9: {type: float}", "f9: {type: int}"))
    assert as_parent(other, Parameters(), command(), by_rows).transforms == ()
    assert as_parent(spec, Parameters(), command(), by_rows).transforms[-1].kind == "quantile_bins"
