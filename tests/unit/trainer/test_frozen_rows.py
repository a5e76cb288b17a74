"""A run may learn from a snapshot: those rows and no others, whatever is stored by then."""

import pytest

from lepton.contracts.pb.training_pb2 import RunState
from lepton.store.datasets.snapshots import FEATURES, OUTCOMES, Manifest, pieces_of
from lepton.store.datasets.upkeep import Upkeep
from tests.unit.trainer.world import World


async def freeze(world: World, pipeline: str = "tumours", label_until: str | None = None) -> str:
    segments = [one for stream in (FEATURES, OUTCOMES) for one in await Upkeep(world.database).segments(
        "tumours", stream)]
    manifest = Manifest(pipeline, 1, world.spec.digest(), label_until, pieces_of(segments))
    await world.stores.snapshots.create(manifest, world.spec.canonical_json(), 1.0, "lk_1")
    return manifest.id


async def test_a_run_learns_from_the_rows_of_its_snapshot_alone(world: World) -> None:
    await world.rows(0, 120)
    frozen = await freeze(world)
    await world.rows(120, 80)
    runs = [await world.train("frozen", snapshot_id=frozen), await world.train("again", snapshot_id=frozen),
            await world.train("now")]
    assert {run.progress.state for run in runs} <= {RunState.RUN_STATE_SUCCEEDED, RunState.RUN_STATE_REJECTED}
    versions = {one.version: one.manifest.lineage for one in (await world.stores.models.state("tumours")).versions}
    first, again, now = (versions[run.progress.version] for run in runs)
    assert [one.train_rows + one.held_out_rows for one in (first, again, now)] == [120, 120, 200]
    assert first.snapshot_digest == again.snapshot_digest != now.snapshot_digest


@pytest.mark.parametrize("pipeline", ["tumours", "others"])
async def test_a_snapshot_there_is_not_or_of_another_pipeline_fails_as_parameter(world: World, pipeline: str) -> None:
    await world.rows(0, 120)
    frozen = await freeze(world, pipeline) if pipeline == "others" else "0" * 64
    run = await world.train("c1", snapshot_id=frozen)
    assert run.progress.state == RunState.RUN_STATE_FAILED
    assert "snapshot" in run.progress.failure.message and run.progress.failure.remedy


async def test_labels_after_the_cut_are_not_learnt(world: World) -> None:
    await world.rows(0, 120)
    run = await world.train("c1", snapshot_id=await freeze(world, label_until="2000-01-01T00:00:00+00:00"))
    assert run.progress.state == RunState.RUN_STATE_FAILED and "no labelled rows" in run.progress.failure.message
