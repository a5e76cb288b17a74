"""Once a line moves again, what was refused meanwhile goes back once, by one command, and must not stop it again."""

import pytest
from msgspec.structs import replace

from lepton.contracts.pipeline import parse
from services.watchdog.core.inputs import Answered, Approval, Leads, Rules, Thresholds
from services.watchdog.core.journal import replay
from services.watchdog.flow.translate import from_message, rules, to_message
from tests.unit.ingest.samples import TEXT
from tests.unit.watchdog.world import WALL_S, World

SHOP = Rules("shop", replay_after=("line_stopped",))


def stop(world: World) -> None:
    world.stopped["ingest"] = {"accept shop": "more than 5 records of lepton-events-shop were refused within 60 s"}
    world.run(3)


def mended(wanted: Rules = SHOP, thresholds: Thresholds | None = None) -> World:
    """A world in which the line of `shop` stood still and moves again."""
    world = World(thresholds or Thresholds(own="watchdog")).healthy()
    world.tick(wanted)
    stop(world)
    world.stopped.clear()
    world.run(1)
    return world


def answered(world: World, outcome: str = "done", evidence: str = "7 dead letters of pipeline shop went back") -> None:
    world.tick(Answered(world.commands()[-1].command_id, outcome, evidence))


def test_letters_that_came_meanwhile_go_back_and_it_is_closed_once_they_did_and_nothing_stopped() -> None:
    world = mended()
    (command,) = world.commands()
    assert (command.action, command.target) == ("replay_dead_letters", "pipeline:shop")
    opened_s = world.last().opened_s
    assert float(command.arguments["since"]) == pytest.approx(opened_s - 60, abs=0.01)
    assert opened_s < float(command.arguments["until"]) <= WALL_S + world.now
    world.run(20)
    assert world.last().state == "commanded"
    answered(world)
    world.run(1)
    assert (world.last().state, world.last().verdict) == (
        "verified", "the line moves again; 7 dead letters of pipeline shop went back")
    world.run(60)
    assert len(world.commands()) == 1
    assert list(replay(world.written())) == world.made


def test_nothing_goes_back_where_a_pipeline_does_not_say_so() -> None:
    world = mended(Rules("shop"))
    assert world.commands() == []
    assert world.last().state == "verified"


def test_who_takes_over_knows_that_it_was_commanded() -> None:
    world = mended()
    taken = from_message(to_message(world.last()))
    world.tick(Leads(0))
    world.tick(Leads(2, (taken,)))
    world.run(20)
    answered(world)
    world.run(1)
    assert (len(world.commands()), world.last().state) == (1, "verified")


def test_what_went_back_and_stopped_the_line_again_is_left_to_a_person() -> None:
    world = mended()
    answered(world)
    stop(world)
    world.run(130)
    assert (world.last().state, world.last().verdict) == (
        "escalated", "dead letters that went back brought it on again")
    world.stopped.clear()
    world.run(2)
    assert (world.last().state, len(world.commands())) == ("verified", 1)


def test_a_refusal_and_no_answer_are_told_to_a_person_and_end_it() -> None:
    world = mended()
    answered(world, "refused", "there is no pipeline shop")
    world.run(1)
    told = [decision.alert for decision in world.decisions]
    assert any("dead letters were not sent back: there is no pipeline shop" in alert for alert in told)
    assert world.last().state == "verified"
    silent = mended()
    silent.run(125)
    assert any("nobody sent the dead letters back in time" in decision.alert for decision in silent.decisions)
    assert silent.last().state == "verified"


def test_a_person_may_be_asked_and_a_no_or_no_word_closes_it() -> None:
    asking = replace(SHOP, approval=("replay_dead_letters",), approval_s=60.0)
    yes, no, silent = mended(asking), mended(asking), mended(asking)
    assert yes.commands() == [] and yes.last().awaiting == "replay_dead_letters"
    yes.tick(Approval(yes.last().id, True, 0, "operator:lk_1"))
    assert yes.orders() == [("replay_dead_letters", "pipeline:shop")]
    no.tick(Approval(no.last().id, False, 0, "operator:lk_1"))
    silent.run(61)
    for world, why in ((no, "was denied by operator:lk_1"), (silent, "nobody approved")):
        world.run(2)
        assert (world.commands(), world.last().state) == ([], "verified")
        assert why in world.last().verdict


def test_a_dry_run_and_a_spent_budget_are_told() -> None:
    for wanted, why in ((replace(SHOP, dry_run=("replay_dead_letters",)), "dry run"),
                        (replace(SHOP, budget_actions=0), "the budget of actions is spent")):
        world = mended(wanted)
        assert (world.commands(), world.last().state) == ([], "verified")
        assert why in world.last().verdict and why in world.decisions[-1].alert


def test_a_second_time_within_the_cool_down_waits_for_it() -> None:
    world = mended(replace(SHOP, cool_down_s=100.0))
    answered(world)
    world.run(12)
    assert world.last().state == "verified"
    stop(world)
    world.stopped.clear()
    world.run(10)
    assert len(world.commands()) == 1
    world.run(100)
    assert len(world.commands()) == 2


def test_it_waits_for_the_end_of_maintenance() -> None:
    minute = int((WALL_S + 1000) // 60) % 1440
    world = mended(replace(SHOP, maintenance=((minute, (minute + 2) % 1440),)))
    assert world.commands() == []
    world.run(130)
    assert len(world.commands()) == 1


def test_a_pipeline_says_after_what() -> None:
    heal = "heal: {replay_after: [line_stopped, broken_data], approval: [replay_dead_letters]}\n"
    assert rules(parse(TEXT + heal)).replay_after == ("line_stopped", "broken_data")
    assert rules(parse(TEXT)).replay_after == ()
