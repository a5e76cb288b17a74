"""The wall clock is set an hour forward or back: nobody falls silent for it, and what is wrong is still healed."""

import pytest

from services.watchdog.core.inputs import Answered
from tests.unit.watchdog.world import RULES, World, labels, model

HOUR_S = 3600.0


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
def test_a_jump_alone_is_no_symptom(ahead_s: float) -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    world.wall_ahead_s = ahead_s
    world.run(30)
    world.wall_ahead_s = 0.0
    world.run(30)
    assert world.decisions == []


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
def test_a_process_that_falls_silent_as_the_clock_jumps_is_restarted_and_verified(ahead_s: float) -> None:
    world = World().healthy()
    del world.beating["ingest"]
    world.run(2)
    world.wall_ahead_s = ahead_s
    world.run(2)
    assert world.orders() == [("restart", "instance:ingest")]
    world.tick(Answered(world.commands()[0].command_id, "done"))
    world.beating["ingest"] = "ingest-2"
    world.run(2)
    assert world.last().state == "verified"


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
def test_deadlines_of_an_action_under_way_do_not_move(ahead_s: float) -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    world.tick(model(2, previous=1))
    for row in range(0, 60, 10):
        world.tick(*labels(2, 0, 60)[row:row + 10])
    world.wall_ahead_s = ahead_s
    world.run(world.thresholds.rollback_verify_s - 2)
    assert [action for action, _ in world.orders()] == ["roll_back"]
    world.run(4)
    assert [action for action, _ in world.orders()] == ["roll_back", "retrain"]
