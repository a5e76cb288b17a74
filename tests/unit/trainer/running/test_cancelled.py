"""A recovery command takes back the training that another asked for."""

from pathlib import Path

import pytest

from lepton.contracts.pb import recovery_pb2, training_pb2
from lepton.errors import Missing
from lepton.store.runs import run_id_of
from tests.unit.trainer.door import Door
from tests.unit.trainer.world import World, command

RETRAIN, CANCEL = recovery_pb2.RECOVERY_ACTION_RETRAIN, recovery_pb2.RECOVERY_ACTION_CANCEL
DONE, REFUSED = recovery_pb2.RECOVERY_OUTCOME_DONE, recovery_pb2.RECOVERY_OUTCOME_REFUSED
FAILED = recovery_pb2.RECOVERY_OUTCOME_FAILED


@pytest.fixture
def door(world: World, tmp_path: Path) -> Door:
    return Door(world, tmp_path / "issuers")


async def test_the_training_of_a_recovery_command_is_cancelled_and_no_other(world: World, door: Door) -> None:
    await world.rows(0, 300)
    await world.requests.receive(command("mine"))
    await door.receive(door.signed(RETRAIN))
    await door.receive(door.signed(CANCEL, command_id="r1-cancel", command_id_="r1"))
    run_id = run_id_of("recovery-r1")
    assert (door.last.outcome, door.last.evidence) == (DONE, f"{run_id} cancelled")
    assert (await world.stores.runs.get(run_id)).progress.state == training_pb2.RUN_STATE_CANCELLED
    mine = (await world.stores.runs.get(run_id_of("mine"))).progress.state
    assert mine == training_pb2.RUN_STATE_QUEUED


async def test_a_training_that_is_cancelled_under_way_publishes_nothing_and_one_that_ended_stays(
        world: World, door: Door) -> None:
    await world.rows(0, 300)

    async def stop() -> None:
        await door.receive(door.signed(CANCEL, command_id="r1-cancel", command_id_="r1"))
        assert (door.last.outcome, "is to end" in door.last.evidence) == (DONE, True)

    # Its process is gone before it could say anything, as one that is killed for this is.
    world.before_learning, world.deaths = stop, 1
    await door.receive(door.signed(RETRAIN))
    assert (await world.see_through("recovery-r1")).progress.state == training_pb2.RUN_STATE_CANCELLED
    assert (door.last.command_id, door.last.outcome) == ("r1", FAILED)
    await door.receive(door.signed(RETRAIN, command_id="r2", max_rows="1"))
    run = await world.see_through("recovery-r2")
    await door.receive(door.signed(CANCEL, command_id="r2-cancel", command_id_="r2"))
    assert door.last.evidence == f"{run.run_id} had failed already"
    with pytest.raises(Missing):
        await world.stores.models.state("tumours")


@pytest.mark.parametrize(("target", "named"), [("model:tumours", ""), ("model:tumours", "r9"), ("model:other", "r1")])
async def test_a_cancel_that_names_no_training_of_the_model_is_refused(world: World, door: Door, target: str,
                                                                     named: str) -> None:
    await world.rows(0, 300)
    await door.receive(door.signed(RETRAIN))
    await door.receive(door.signed(CANCEL, command_id="c", target=target, command_id_=named))
    assert (door.last.command_id, door.last.outcome) == ("c", REFUSED)
    assert (await world.stores.runs.get(run_id_of("recovery-r1"))).progress.state == training_pb2.RUN_STATE_QUEUED
