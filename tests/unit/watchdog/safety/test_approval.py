"""An action that needs a person's word waits for it, takes a yes once, leaves a no and silence to the person."""

from msgspec.structs import replace

from services.watchdog.core.inputs import Approval, Leads, Thresholds
from services.watchdog.core.journal import replay
from services.watchdog.flow.translate import from_message, to_message
from tests.unit.watchdog.world import RULES, World, labels, model


def asking() -> World:
    """A world in which a person was asked whether version 2 may be left."""
    world = World().healthy()
    world.tick(replace(RULES, approval=("roll_back",), approval_s=60.0), model(1))
    world.tick(model(2, previous=1))
    world.tick(*labels(2, 0, 80))
    assert (world.last().state, world.last().awaiting) == ("escalated", "roll_back")
    assert f"lepton incidents approve {world.last().id}" in world.decisions[-1].alert
    return world


def word(world: World, approved: bool, rung: int = 0) -> Approval:
    return Approval(world.last().id, approved, rung, "operator:lk_1")


def test_a_yes_is_carried_out_once_and_the_day_replays_to_the_byte() -> None:
    world = asking()
    world.run(10)
    assert world.commands() == []
    world.tick(word(world, True), word(world, True))
    assert world.orders() == [("roll_back", "model:phishing")]
    assert [note.what for note in world.last().timeline][-3:] == ["asked", "approved", "commanded roll_back"]
    assert world.last().awaiting == ""
    world.tick(model(1, revision=3))
    assert list(replay(world.written())) == world.made


def test_a_no_leaves_it_to_the_person() -> None:
    world = asking()
    world.tick(word(world, False))
    world.run(200)
    assert world.commands() == []
    assert (world.last().state, world.last().verdict) == ("escalated", "roll_back was denied by operator:lk_1")
    world.tick(word(world, True))
    assert world.commands() == []


def test_without_a_word_in_time_it_is_left_to_the_person() -> None:
    world = asking()
    world.run(61)
    assert world.last().verdict == "nobody approved roll_back in time"
    world.tick(word(world, True))
    assert world.commands() == []


def test_a_word_about_another_step_or_incident_says_nothing() -> None:
    world = asking()
    world.tick(word(world, True, rung=1), replace(word(world, True), incident_id="inc-other"))
    assert world.commands() == []


def test_who_takes_over_goes_on_waiting_and_what_became_well_asks_no_more() -> None:
    world = asking()
    taken = from_message(to_message(world.last()))
    world.tick(Leads(0))
    world.tick(Leads(2, (taken,)))
    world.run(5)
    world.tick(Approval(taken.id, True, 0, "operator:lk_1"))
    assert world.orders() == [("roll_back", "model:phishing")]
    other = asking()
    other.tick(model(3, previous=2))
    other.tick(*labels(3, 80, 0))
    other.run(3)
    assert (other.last().state, other.last().awaiting) == ("verified", "")


def test_a_restart_too_may_wait_for_a_person_and_is_not_retried_without_one() -> None:
    world = World(Thresholds(own="watchdog", approval=("restart",), approval_s=30)).healthy()
    del world.beating["ingest"]
    world.run(200)
    assert world.commands() == []
    assert world.last().verdict == "nobody approved restart in time"
    world.beating["ingest"] = "ingest-2"
    world.run(3)
    assert world.last().state == "verified"
