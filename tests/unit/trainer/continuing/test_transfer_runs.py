"""Commands and Pipelines that begin with another model's version, through queue, plan, worker and registry."""

import pytest

from lepton.contracts import pipeline
from lepton.contracts.pb import training_pb2
from lepton.errors import Invalid
from lepton.store.registry.garbage import Garbage
from lepton.store.runs import Run
from services.trainer.core.weights import unpack
from tests.unit.trainer.world import SPEC, World, state_of, store_rows

SUCCEEDED, FAILED = training_pb2.RUN_STATE_SUCCEEDED, training_pb2.RUN_STATE_FAILED
FINE_TUNE = training_pb2.TRAINING_KIND_FINE_TUNE
MLP = "family: mlp\n  parameters: {hidden: [8], epochs: 4, learning_rate: 0.02}"
TEACHER = SPEC.replace("family: logistic_regression\n  parameters: {epochs: 8, learning_rate: 0.05}", MLP)
# The first eight of the teacher's ten fields.
PUPIL = TEACHER.replace("name: tumours", "name: lumps").replace("    f8: {type: float}\n    f9: {type: float}\n", "")


async def school(world: World, pupil: str = PUPIL) -> None:
    """A teacher that has learnt from 300 rows, and a pupil with 120 of its own."""
    world.pipelines = {"tumours": state_of(TEACHER), "lumps": state_of(pupil)}
    await world.rows(0, 300)
    assert (await world.train("teacher")).progress.state == SUCCEEDED
    await store_rows(world.stores.segments, pipeline.parse(pupil), 300, 120)


async def lump(world: World, **changes: object) -> Run:
    return await world.train("pupil", model="lumps", **{"kind": FINE_TUNE, "parent_model": "tumours", **changes})


async def test_a_run_begins_with_a_version_of_another_model_and_says_so(world: World) -> None:
    await school(world)
    run = await lump(world, transfer_json='{"freeze": ["layers.0.bias"], "head": "keep"}')
    assert run.progress.state == SUCCEEDED
    (version,) = (await world.stores.models.state("lumps")).versions
    lineage = version.manifest.lineage
    assert (lineage.parent_model, lineage.parent_version) == ("tumours", 1)
    assert lineage.carried[0] == "layers.0.weight (8 of 8 columns)"
    (teacher,) = (await world.stores.models.state("tumours")).versions
    now, before = [unpack(await world.stores.artifacts.get(one.manifest.lineage.weights_sha256))[0]
                   for one in (version, teacher)]
    assert (now["layers.0.bias"] == before["layers.0.bias"]).all()
    assert now["layers.0.weight"].shape == (8, 8)
    assert (now["layers.0.weight"] != before["layers.0.weight"][:, :8]).any()


async def test_a_pipeline_says_where_runs_begin_that_would_begin_with_nothing(world: World) -> None:
    await school(world, PUPIL.replace("  train:", "  transfer: {from: {model: tumours, version: 1}}\n  train:"))
    run = await lump(world, kind=training_pb2.TRAINING_KIND_TRAIN, parent_model="")
    assert run.progress.state == SUCCEEDED
    (version,) = (await world.stores.models.state("lumps")).versions
    assert version.manifest.lineage.parent_model == "tumours"


@pytest.mark.parametrize(("changes", "why", "remedy"), [
    ({"parent_version": 9}, "version 9 of tumours is not kept", "one of its versions: 1"),
    ({"parent_model": "nobody"}, "there is no model nobody", "lepton models"),
    ({"family": "logistic_regression"}, "it is a mlp, not a logistic_regression", "model.family: mlp"),
    ({"transfer_json": '{"freeze": ["layer.*"]}'}, "transfer.freeze: `layer.*` matches nothing", "layers.0.weight")])
async def test_what_cannot_be_continued_fails_as_a_parameter_with_its_remedy(
        world: World, changes: dict[str, object], why: str, remedy: str) -> None:
    await school(world)
    run = await lump(world, **changes)
    assert run.progress.state == FAILED
    assert run.progress.failure.failure_class == training_pb2.FAILURE_CLASS_PARAMETER
    assert why in run.progress.failure.message
    assert remedy in run.progress.failure.remedy


async def test_what_another_models_champion_began_with_is_kept(world: World) -> None:
    await school(world)
    await lump(world)
    garbage = Garbage(world.stores.models.list, world.stores.runs, world.stores.artifacts)
    assert await garbage.waited_for("tumours") == {1}
    assert await garbage.waited_for("lumps") == set()


def test_what_is_learnt_from_a_stream_takes_nothing_over() -> None:
    with pytest.raises(Invalid, match="begins with its rows alone"):
        pipeline.parse(TEACHER.replace("  train: {", "  transfer: {head: keep}\n  train: {stream: {}, "))


def test_a_pipeline_cannot_replace_the_head_of_a_family_that_is_nothing_else() -> None:
    with pytest.raises(Invalid, match="logistic_regression has no layer but its head"):
        pipeline.parse(SPEC.replace("  train:", "  transfer: {head: replace}\n  train:"))
