"""Runs from command to registry: published once, resumed, cancelled, refused by the gate, failed with a reason."""

import asyncio
from typing import Any

import pytest

from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import VERSION_STATUS_READY, VERSION_STATUS_REJECTED
from lepton.contracts.pb.training_pb2 import FailureClass
from lepton.contracts.signing import verify_manifest, verify_message
from lepton.errors import Missing, Refused
from lepton.store.artifacts import sha256_hex
from lepton.store.runs import run_id_of
from services.trainer.core.export.session import Session
from services.trainer.core.weights import unpack
from services.trainer.flow.following import MAX_DEATHS
from services.trainer.flow.planning import PLAN
from services.trainer.flow.publishing import RESULT
from tests.unit.trainer.world import SPEC, World, command, nothing, state_of

SUCCEEDED, REJECTED = training_pb2.RUN_STATE_SUCCEEDED, training_pb2.RUN_STATE_REJECTED
FAILED, CANCELLED = training_pb2.RUN_STATE_FAILED, training_pb2.RUN_STATE_CANCELLED
FINE_TUNE, PROMOTE = training_pb2.TRAINING_KIND_FINE_TUNE, training_pb2.TRAINING_KIND_PROMOTE


async def test_a_command_becomes_a_signed_measured_champion(world: World) -> None:
    await world.rows(0, 200)
    await world.rows(200, 100, partition=1)
    run = await world.train()
    assert run.progress.state == SUCCEEDED
    assert run.progress.version == 1
    state = await world.stores.models.state("tumours")
    assert (state.champion, state.reason) == (1, "published")
    (version,) = state.versions
    trust = world.trust()
    verify_message(trust, "trainer", state, world.clock.now())
    verify_manifest(trust, version, world.clock.now())
    manifest = version.manifest
    assert version.status == VERSION_STATUS_READY
    assert manifest.metrics["accuracy"] > manifest.metrics["baseline_accuracy"] + 0.2
    assert manifest.lineage.train_rows + manifest.lineage.held_out_rows == 300
    assert {(one.stream, one.partition, one.first_offset, one.next_offset) for one in manifest.lineage.ranges} == {
        ("features", 0, 0, 200), ("features", 1, 0, 100), ("outcomes", 0, 0, 200), ("outcomes", 1, 0, 100)}
    model = await world.stores.artifacts.get(manifest.sha256)
    assert sha256_hex(model) == manifest.sha256
    assert Session(model)
    assert unpack(await world.stores.artifacts.get(manifest.lineage.weights_sha256))
    assert [one.state for one in world.progress][-1] == SUCCEEDED
    assert world.ended == [("tumours", "succeeded")]
    assert await world.folders.names() == []


async def test_the_same_command_twice_is_one_run_and_one_version(world: World) -> None:
    await world.rows(0, 200)
    await world.train("c1")
    assert not await world.requests.receive((await world.stores.runs.get(run_id_of("c1"))).command)
    await world.train("c2", promote=False)
    assert [one.version for one in (await world.stores.models.state("tumours")).versions] == [1, 2]


async def test_a_candidate_nobody_wants_promoted_waits(world: World) -> None:
    await world.rows(0, 200)
    run = await world.train(promote=False)
    assert run.progress.state == SUCCEEDED
    assert await world.champion() == 0
    promoted = await world.train("c2", kind=PROMOTE, parent_version=1)
    assert promoted.progress.state == SUCCEEDED
    assert await world.champion() == 1


async def test_promoting_what_is_not_kept_fails_with_the_reason(world: World) -> None:
    await world.rows(0, 200)
    await world.train()
    run = await world.train("c2", kind=PROMOTE, parent_version=9)
    assert run.progress.state == FAILED
    assert "version 9" in run.progress.failure.message


async def test_a_candidate_that_fails_its_gate_is_recorded_and_not_served(world: World) -> None:
    world.pipelines["tumours"] = state_of(SPEC.replace("at_least: 0.7", "at_least: 0.999"))
    await world.rows(0, 150)
    await world.rows(150, 150, flipped=True)
    run = await world.train()
    assert run.progress.state == REJECTED
    assert "accuracy" in run.progress.failure.message
    state = await world.stores.models.state("tumours")
    assert state.champion == 0
    assert state.versions[0].status == VERSION_STATUS_REJECTED


async def test_a_candidate_is_measured_against_the_champion_on_the_same_rows(world: World) -> None:
    await world.rows(0, 300)
    await world.train("c1")
    await world.train("c2")
    state = await world.stores.models.state("tumours")
    assert state.champion == 2
    first, second = state.versions
    assert second.manifest.champion_metrics["accuracy"] == pytest.approx(first.manifest.metrics["accuracy"])


async def test_the_champion_is_kept_when_the_candidate_learnt_from_flipped_labels(world: World) -> None:
    await world.rows(0, 300)
    await world.train("c1")
    await world.rows(300, 150, flipped=True)
    run = await world.train("c2")
    assert run.progress.state == REJECTED
    assert await world.champion() == 1


async def test_a_fine_tune_continues_its_parent(world: World) -> None:
    await world.rows(0, 300)
    await world.train("c1")
    run = await world.train("c2", kind=FINE_TUNE, parameters_json='{"epochs": 1, "learning_rate": 1e-9}')
    assert run.progress.state == SUCCEEDED
    first, second = (await world.stores.models.state("tumours")).versions
    assert second.manifest.lineage.parent_version == 1
    assert second.manifest.metrics["log_loss"] == pytest.approx(first.manifest.metrics["log_loss"], rel=1e-3)
    assert list(second.manifest.statistics) == list(first.manifest.statistics)


async def test_a_run_by_row_count_begins_warm_where_that_is_worth_it(world: World) -> None:
    await world.rows(0, 120)
    await world.train("rows-1", reason="rows")
    await world.rows(120, 40)
    await world.train("rows-2", reason="rows")
    await world.rows(160, 300)
    await world.train("rows-3", reason="rows")
    parents = [one.manifest.lineage.parent_version for one in (await world.stores.models.state("tumours")).versions]
    assert parents == [0, 1, 0]


@pytest.mark.parametrize(("changes", "failure_class", "why"), [
    ({"model": "nobody"}, "PARAMETER", "there is no pipeline nobody"),
    ({"family": "forest"}, "PARAMETER", "no model family"),
    ({"family": "linear_regression"}, "PARAMETER", "does not fit classification"),
    ({"kind": FINE_TUNE}, "PARAMETER", "no champion to fine-tune"),
    ({"data_pipeline": "other"}, "PARAMETER", "another form"),
    ({"parameters_json": '{"learning_rate": -1}'}, "PARAMETER", "learning_rate"),
    ({"max_rows": 9}, "DATA", "too little data")])
async def test_a_run_that_cannot_be_says_why(world: World, changes: dict[str, Any], failure_class: str,
                                            why: str) -> None:
    world.pipelines["other"] = state_of(SPEC.replace("name: tumours", "name: other").replace("f9:", "g9:"))
    await world.rows(0, 200)
    run = await world.train(**changes)
    assert run.progress.state == FAILED
    assert FailureClass.Name(run.progress.failure.failure_class) == f"FAILURE_CLASS_{failure_class}"
    assert why in run.progress.failure.message
    assert run.progress.failure.remedy
    assert world.launched == 0
    assert await world.folders.names() == []


async def test_a_run_without_rows_fails_as_data(world: World) -> None:
    run = await world.train()
    assert run.progress.failure.failure_class == training_pb2.FAILURE_CLASS_DATA


async def test_a_failure_in_the_worker_is_the_runs_failure(world: World) -> None:
    await world.rows(0, 200)
    await world.train("c1", family="mlp", parameters_json='{"hidden": [4]}')
    run = await world.train("c2", kind=FINE_TUNE, family="mlp", parameters_json='{"hidden": [5]}')
    assert run.progress.state == FAILED
    assert run.progress.failure.failure_class == training_pb2.FAILURE_CLASS_PARAMETER
    assert "another shape" in run.progress.failure.message
    assert world.launched == 2


async def test_a_process_that_dies_is_started_again(world: World) -> None:
    await world.rows(0, 200)
    world.deaths = MAX_DEATHS - 1
    run = await world.train()
    assert run.progress.state == SUCCEEDED
    assert world.launched == MAX_DEATHS


async def test_a_process_that_dies_again_and_again_fails_as_resource(world: World) -> None:
    await world.rows(0, 200)
    world.deaths = MAX_DEATHS
    run = await world.train()
    assert run.progress.state == FAILED
    assert run.progress.failure.failure_class == training_pb2.FAILURE_CLASS_RESOURCE


async def test_a_cancelled_run_ends_and_frees_its_model(world: World) -> None:
    await world.rows(0, 200)

    async def cancel() -> None:
        await world.requests.receive(training_pb2.TrainingCommand(
            command_id="stop", kind=training_pb2.TRAINING_KIND_CANCEL, model="tumours",
            cancel_run_id=run_id_of("c1")))
        world.deaths = MAX_DEATHS

    world.before_learning = cancel
    run = await world.train("c1")
    assert run.progress.state == CANCELLED
    assert world.launched == 1
    with pytest.raises(Missing):
        await world.stores.models.state("tumours")


async def test_a_trainer_that_stops_leaves_its_run_to_the_next_who_resumes_it(world: World) -> None:
    await world.rows(0, 200)
    stop = asyncio.Event()

    async def stop_now() -> None:
        stop.set()
        world.deaths = 1

    world.before_learning = stop_now
    await world.requests.receive(command("c1"))
    working = asyncio.ensure_future(world.training().work("trainer", stop))
    await world.finish(working)
    assert (await world.stores.runs.get(run_id_of("c1"))).progress.state == training_pb2.RUN_STATE_RUNNING
    assert await world.folders.names() == [run_id_of("c1")]
    plan = await world.folders.of(run_id_of("c1")).read(PLAN)

    async def look_at_the_plan() -> None:
        # Rows that came meanwhile change nothing: the run goes on as it was planned.
        assert await world.folders.of(run_id_of("c1")).read(PLAN) == plan

    world.before_learning = look_at_the_plan
    await world.rows(200, 100)
    await world.stores.runs.let_go("trainer")
    assert (await world.see_through("c1")).progress.state == SUCCEEDED
    assert [one.version for one in (await world.stores.models.state("tumours")).versions] == [1]


async def test_a_run_killed_after_publishing_is_finished_not_published_again(world: World) -> None:
    await world.rows(0, 200)
    await world.requests.receive(command("c1"))
    first = await world.stores.runs.claim("killed", 5)
    assert first is not None
    folder = world.folders.of(first.run_id)
    plan = await world.planner().plan(first, folder)
    await folder.launch()
    await world.publisher().publish(first, plan, folder)
    await world.stores.runs.let_go("killed")
    run = await world.see_through("c1")
    assert (run.progress.state, run.progress.version) == (SUCCEEDED, 1)
    assert [one.version for one in (await world.stores.models.state("tumours")).versions] == [1]
    assert world.launched == 1


async def test_an_old_fence_publishes_nothing(world: World) -> None:
    await world.rows(0, 200)
    await world.requests.receive(command("c1"))
    old = await world.stores.runs.claim("frozen", 5)
    assert old is not None
    folder = world.folders.of(old.run_id)
    plan = await world.planner().plan(old, folder)
    await folder.launch()
    await world.stores.runs.let_go("frozen")
    assert await world.stores.runs.claim("another", 5) is not None
    with pytest.raises(Refused, match="no longer held"):
        await world.publisher().publish(old, plan, folder)
    with pytest.raises(Missing):
        await world.stores.models.state("tumours")


async def test_an_owner_that_lost_its_lease_changes_nothing(world: World) -> None:
    await world.rows(0, 200)

    async def lose_the_lease() -> None:
        world.before_learning = nothing
        await world.stores.runs.let_go("trainer")
        stolen = await world.stores.runs.claim("another", 5)
        assert stolen is not None

    world.before_learning = lose_the_lease
    await world.requests.receive(command("c1"))
    await world.work_until(lambda: world.saw("run_lost"))
    run = await world.stores.runs.get(run_id_of("c1"))
    assert (run.owner, run.progress.state) == ("another", training_pb2.RUN_STATE_RUNNING)
    with pytest.raises(Missing):
        await world.stores.models.state("tumours")


async def test_a_champion_that_changed_meanwhile_is_measured_anew(world: World) -> None:
    await world.rows(0, 200)
    await world.train("c1")
    await world.train("c2", promote=False)

    async def promote_another() -> None:
        world.before_learning = nothing
        await world.stores.models.promote("tumours", 2)

    world.before_learning = promote_another
    before = world.launched
    await world.train("c3")
    assert world.launched == before + 2
    state = await world.stores.models.state("tumours")
    assert state.champion == 3
    assert state.versions[2].manifest.champion_metrics


async def test_a_damaged_champion_does_not_keep_its_successor_away(world: World) -> None:
    await world.rows(0, 200)
    await world.train("c1")
    await world.stores.artifacts.delete((await world.stores.models.state("tumours")).versions[0].manifest.sha256)
    assert (await world.train("c2")).progress.state == SUCCEEDED
    assert [kind for kind, _, _ in world.troubles] == ["champion_unreadable"]
    assert await world.champion() == 2


async def test_a_plan_of_another_release_is_made_anew(world: World) -> None:
    await world.rows(0, 200)
    await world.folders.of(run_id_of("c1")).write(PLAN, b'{"from": "the past"}')
    await world.folders.of(run_id_of("c1")).write(RESULT, b"{}")
    assert (await world.train("c1")).progress.state == SUCCEEDED
    assert [kind for kind, _, _ in world.troubles] == ["plan_unreadable"]


async def test_folders_of_runs_that_are_over_are_swept(world: World) -> None:
    await world.rows(0, 200)
    await world.train("c1")
    await world.folders.of(run_id_of("c1")).write(RESULT, b"{}")
    await world.folders.of("run-nobody-knows").write(RESULT, b"{}")
    await world.requests.receive(command("c2"))
    await world.folders.of(run_id_of("c2")).write(PLAN, b"{}")
    await world.training().sweep()
    assert await world.folders.names() == [run_id_of("c2")]
