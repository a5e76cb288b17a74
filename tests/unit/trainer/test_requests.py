"""What others may ask: training commands, roll backs, retraining, and runs that rows alone call for."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from lepton.contracts.pb import recovery_pb2, training_pb2
from lepton.errors import Busy, Invalid, Missing, Refused, Unavailable
from lepton.store.runs import run_id_of
from services.trainer.edge.commands import Commands
from services.trainer.edge.errors import ANSWERS, FATES
from services.trainer.flow.snapshots import labelled_rows, take
from services.trainer.flow.triggers import RowTrigger
from tests.unit.trainer.door import PARENT, Action, Door, message
from tests.unit.trainer.world import SPEC, World, command, state_of

ROLL_BACK, RETRAIN = recovery_pb2.RECOVERY_ACTION_ROLL_BACK, recovery_pb2.RECOVERY_ACTION_RETRAIN
TUNE, FINE_TUNE = recovery_pb2.RECOVERY_ACTION_TUNE, recovery_pb2.RECOVERY_ACTION_FINE_TUNE
DONE, REFUSED = recovery_pb2.RECOVERY_OUTCOME_DONE, recovery_pb2.RECOVERY_OUTCOME_REFUSED
FAILED = recovery_pb2.RECOVERY_OUTCOME_FAILED


@pytest.fixture
def door(world: World, tmp_path: Path) -> Door:
    return Door(world, tmp_path / "issuers")


async def two_champions(world: World) -> None:
    await world.rows(0, 300)
    await world.train("c1")
    await world.train("c2")


async def test_a_training_command_is_queued_with_the_trace_it_came_in(world: World) -> None:
    await Commands(world.requests).handle(message(command("c1")))
    await Commands(world.requests).handle(message(command("c1")))
    (run,) = await world.stores.runs.list()
    assert run.command.traceparent == PARENT


@pytest.mark.parametrize(("changes", "field"), [({"kind": 0}, "kind"), (
    {"kind": training_pb2.TRAINING_KIND_PROMOTE}, "parent_version")])
async def test_a_command_that_means_nothing_is_invalid(world: World, changes: dict[str, int], field: str) -> None:
    with pytest.raises(Invalid) as failure:
        await world.requests.receive(command("c1", **changes))
    assert failure.value.field == field


async def test_cancelling_a_run_nobody_knows_is_missing(world: World) -> None:
    with pytest.raises(Missing):
        await world.requests.receive(command("c1", kind=training_pb2.TRAINING_KIND_CANCEL, cancel_run_id="run-0"))


async def test_a_roll_back_leaves_the_champion_for_the_one_before(world: World, door: Door) -> None:
    await two_champions(world)
    await door.receive(door.signed(ROLL_BACK, from_version="2"))
    assert (door.last.outcome, door.last.command_id, door.last.incident_id) == (DONE, "r1", "incident-1")
    assert "version 2 left, version 1 answers" in door.last.evidence
    assert await world.champion() == 1


async def test_a_roll_back_heard_twice_rolls_back_once(world: World, door: Door) -> None:
    await two_champions(world)
    wanted = door.signed(ROLL_BACK, from_version="2")
    await door.receive(wanted)
    await door.receive(wanted)
    assert [one.outcome for one in world.results] == [DONE, DONE]
    assert await world.champion() == 1
    # Another process, which has forgotten the id, does no harm either.
    again = Door(world, door.world.path / "others")
    await again.receive(again.signed(ROLL_BACK, from_version="2"))
    assert (await world.champion(), again.last.outcome) == (1, DONE)


async def test_a_version_that_is_not_the_champion_is_not_left(world: World, door: Door) -> None:
    await two_champions(world)
    await door.receive(door.signed(ROLL_BACK, from_version="1"))
    assert door.last.outcome == REFUSED
    assert "not the champion" in door.last.evidence
    assert await world.champion() == 2


async def test_without_a_version_before_a_roll_back_is_refused(world: World, door: Door) -> None:
    await world.rows(0, 300)
    await world.train("c1")
    await door.receive(door.signed(ROLL_BACK, by="operator"))
    assert door.last.outcome == REFUSED
    assert "no version before 1" in door.last.evidence
    await door.receive(door.signed(ROLL_BACK, command_id="r2", target="model:nobody"))
    assert door.last.outcome == REFUSED
    await door.receive(door.signed(ROLL_BACK, command_id="r3", from_version="two"))
    assert "'two' is no version" in door.last.evidence


async def test_a_roll_back_ends_runs_that_began_from_what_is_left(world: World, door: Door) -> None:
    await two_champions(world)
    await world.requests.receive(command("rows-9", reason="rows"))
    await world.requests.receive(command("by-hand"))
    await door.receive(door.signed(ROLL_BACK, from_version="2"))
    states = {run.command.command_id: run.progress.state for run in await world.stores.runs.list()}
    assert states["rows-9"] == training_pb2.RUN_STATE_CANCELLED
    assert states["by-hand"] == training_pb2.RUN_STATE_QUEUED


async def test_a_retraining_learns_what_is_newest_and_answers_when_it_has(world: World, door: Door) -> None:
    await world.rows(0, 300)
    await world.train("c1")
    await world.rows(300, 150, flipped=True)
    await door.receive(door.signed(RETRAIN))
    assert world.results == []
    run = await world.see_through("recovery-r1")
    assert run.progress.state == training_pb2.RUN_STATE_SUCCEEDED
    assert (run.command.max_rows, run.command.reason, run.command.traceparent) == (100, "recovery", PARENT)
    assert (door.last.command_id, door.last.outcome, door.last.incident_id) == ("r1", DONE, "incident-1")
    assert "version 2" in door.last.evidence
    manifest = (await world.stores.models.state("tumours")).versions[-1].manifest
    assert manifest.lineage.parent_version == 0
    assert manifest.metrics["accuracy"] > 0.8 > 0.3 > manifest.champion_metrics["accuracy"]


async def test_a_retraining_that_comes_to_nothing_says_so(world: World, door: Door) -> None:
    await world.rows(0, 300)
    await world.train("c1")
    world.pipelines["tumours"] = state_of(SPEC.replace("at_least: 0.7", "at_least: 0.9999"))
    await world.rows(300, 60, flipped=True)
    await door.receive(door.signed(RETRAIN, max_rows="120"))
    await world.see_through("recovery-r1")
    assert door.last.outcome == FAILED
    assert "rejected" in door.last.evidence


async def test_a_tune_finds_what_a_pipeline_says_wrongly_and_runs_by_rows_go_on_with_it(
        world: World, door: Door) -> None:
    world.pipelines["tumours"] = state_of(SPEC.replace("learning_rate: 0.05", "learning_rate: 1.0e-9"))
    await world.rows(0, 200)
    await door.receive(door.signed(TUNE, max_rows="200", seconds="240"))
    run = await world.see_through("recovery-r1")
    assert (run.command.kind, run.command.max_rows) == (training_pb2.TRAINING_KIND_TRAIN, 200)
    assert run.progress.reason == "recovery"
    search = json.loads(run.command.search_json)
    assert (search["seconds"], set(search["ranges"])) == (240, {"learning_rate", "l2"})
    assert (door.last.command_id, door.last.outcome) == ("r1", DONE)
    assert "version 1" in door.last.evidence and "Taken is trial" in door.last.evidence
    await world.train("by-rows", reason="rows")
    tuned, by_rows = (await world.stores.models.state("tumours")).versions
    assert (by_rows.manifest.lineage.parent_version, await world.champion()) == (1, 2)
    assert by_rows.manifest.search == tuned.manifest.search


async def test_a_fine_tune_goes_on_from_the_champion_and_is_refused_without_a_run_where_it_cannot(
        world: World, door: Door) -> None:
    await door.receive(door.signed(FINE_TUNE, command_id="r0"))
    assert (door.last.outcome, "no champion to fine-tune" in door.last.evidence) == (REFUSED, True)
    await world.rows(0, 300)
    await world.train("c1")
    await door.receive(door.signed(FINE_TUNE, max_rows="150"))
    run = await world.see_through("recovery-r1")
    assert (run.command.kind, run.command.reason) == (training_pb2.TRAINING_KIND_FINE_TUNE, "recovery")
    assert door.last.outcome == DONE, door.last.evidence
    manifest = (await world.stores.models.state("tumours")).versions[-1].manifest
    assert (manifest.version, manifest.lineage.parent_version) == (2, 1)
    world.pipelines["tumours"] = state_of(SPEC.replace("family: logistic_regression", "family: mlp"))
    await door.receive(door.signed(FINE_TUNE, command_id="r2"))
    assert (door.last.outcome, "not a mlp" in door.last.evidence) == (REFUSED, True)
    assert len(await world.stores.runs.list()) == 2


async def test_a_tune_that_could_not_search_is_refused_without_a_run(world: World, door: Door) -> None:
    world.pipelines["tumours"] = state_of(SPEC.replace("train: {", "train: {processes: 2, "))
    await door.receive(door.signed(TUNE))
    assert (door.last.outcome, "search" in door.last.evidence) == (REFUSED, True)
    await door.receive(door.signed(TUNE, command_id="r2", seconds="long"))
    assert (door.last.outcome, "'long' is no number of seconds" in door.last.evidence) == (REFUSED, True)
    assert await world.stores.runs.list() == []


@pytest.mark.parametrize("action", [RETRAIN, TUNE, FINE_TUNE])
async def test_a_model_that_does_not_exist_is_not_trained(world: World, door: Door, action: Action) -> None:
    await door.receive(door.signed(action, target="model:nobody"))
    assert door.last.outcome == REFUSED
    assert await world.stores.runs.list() == []


async def test_commands_of_others_pass_by(world: World, door: Door) -> None:
    await door.receive(door.signed(recovery_pb2.RECOVERY_ACTION_RESTART, target="instance:trainer"))
    await door.receive(door.signed(recovery_pb2.RECOVERY_ACTION_QUARANTINE, target="pipeline:tumours"))
    await door.receive(door.signed(recovery_pb2.RECOVERY_ACTION_RESTART))
    assert world.results == []


async def test_a_forged_command_is_set_aside_unanswered(world: World, door: Door) -> None:
    await two_champions(world)
    with pytest.raises(Refused):
        await door.receive(door.signed(ROLL_BACK, by="stranger"))
    changed = door.signed(ROLL_BACK, from_version="1")
    changed.arguments["from_version"] = "2"
    with pytest.raises(Refused):
        await door.receive(changed)
    assert (world.results, await world.champion()) == ([], 2)


async def test_an_expired_command_is_answered_as_refused(world: World, door: Door) -> None:
    await two_champions(world)
    late = door.signed(ROLL_BACK, from_version="2")
    await world.clock.advance(120)
    await door.receive(late)
    assert door.last.outcome == REFUSED
    assert "expired" in door.last.evidence
    assert await world.champion() == 2


def test_every_outcome_has_its_row_at_the_doors() -> None:
    assert set(FATES) == set(ANSWERS) == {Invalid, Missing, Refused, Busy, Unavailable}


async def test_rows_call_for_a_first_run_and_then_for_more(world: World) -> None:
    state = world.pipelines["tumours"]
    await world.rows(0, 99)
    assert not await world.trigger.look(state)
    await world.rows(99, 1)
    assert await world.trigger.look(state)
    assert not await world.trigger.look(state)
    run = await world.see_through("rows-tumours-1-1")
    assert run.progress.state == training_pb2.RUN_STATE_SUCCEEDED
    await world.clock.advance(10)
    await world.rows(100, 49)
    assert not await world.trigger.look(state)
    await world.rows(149, 160)
    assert await world.trigger.look(state)
    assert (await world.stores.runs.get(run_id_of("rows-tumours-1-5"))).command.promote


async def test_a_restarted_trainer_queues_no_run_of_rows_twice(world: World) -> None:
    await world.rows(0, 120)
    state = world.pipelines["tumours"]
    assert await world.trigger.look(state)
    await world.see_through("rows-tumours-1-1")
    await world.clock.advance(60)
    restarted = RowTrigger(world.stores, lambda: world.pipelines, world.tell, world.bounds, world.clock)
    assert not await restarted.look(state)
    assert len(await world.stores.runs.list()) == 1


async def test_a_busy_or_resting_model_gets_no_run_by_rows(world: World) -> None:
    state = world.pipelines["tumours"]
    await world.rows(0, 120)
    await world.requests.receive(command("by-hand"))
    assert not await world.trigger.look(state)
    await world.see_through("by-hand")
    await world.rows(120, 60)
    assert await world.trigger.look(state)
    await world.see_through("rows-tumours-1-2")
    await world.rows(180, 60)
    assert not await world.trigger.look(state)
    await world.clock.advance(world.bounds.row_pause_s)
    assert await world.trigger.look(state)


async def test_rows_that_a_run_found_when_it_began_call_for_none(world: World) -> None:
    state = world.pipelines["tumours"]
    await world.rows(0, 100)
    assert await world.trigger.look(state)
    await world.rows(100, 90)
    run = await world.see_through("rows-tumours-1-1")
    assert (run.progress.rows, run.progress.counted_rows) == (190, 190)
    await world.clock.advance(60)
    restarted = RowTrigger(world.stores, lambda: world.pipelines, world.tell, world.bounds, world.clock)
    for trigger in (world.trigger, restarted):
        assert not await trigger.look(state)
    await world.rows(190, 49)
    assert not await restarted.look(state)
    await world.rows(239, 1)
    assert await restarted.look(state)


@pytest.mark.parametrize(("changes", "again"), [
    ({}, False), ({"max_rows": 50}, True), ({"promote": False}, True)])
async def test_rows_that_somebody_had_learnt_call_for_none(world: World, changes: dict[str, Any],
                                                            again: bool) -> None:
    state = world.pipelines["tumours"]
    await world.rows(0, 120)
    await world.train("by-hand", **changes)
    assert await world.trigger.look(state) == again


async def test_pipelines_without_a_label_or_deleted_ask_for_nothing(world: World) -> None:
    await world.rows(0, 300)
    unlabelled = SPEC.partition("  label:")[0]
    assert not await world.trigger.look(state_of(unlabelled))
    gone = state_of()
    gone.deleted = True
    assert not await world.trigger.look(gone)


async def test_only_rows_with_a_label_count(world: World) -> None:
    segments = world.stores.segments
    assert await labelled_rows(segments, "tumours", range(1, 2)) == 0
    await world.rows(0, 30)
    await segments.append("features", "tumours", 1, 1, 0, 10, 10, b"x", _digest(b"x"))
    assert await labelled_rows(segments, "tumours", range(1, 2)) == 30


async def test_a_snapshot_holds_the_newest_rows_and_names_its_segments(world: World) -> None:
    for place in range(8):
        await world.rows(place * 200, 200, partition=place % 2)
    taken = await take(world.stores.segments, world.spec, range(1, 2), 100)
    ids = taken.rows.column("_event_id").to_pylist()
    assert ids == [f"tumours-{number:06d}" for number in range(1500, 1600)]
    assert all(one.first > 0 for one in taken.snapshot.ranges)
    again = await take(world.stores.segments, world.spec, range(1, 2), 100)
    assert again.snapshot.digest() == taken.snapshot.digest()
    assert again.rows.equals(taken.rows)
    everything = await take(world.stores.segments, world.spec, range(1, 2), 0)
    assert everything.rows.num_rows == 1600


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
