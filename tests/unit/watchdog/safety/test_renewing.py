"""Processes that still work are begun anew one after the other, and are well only once another one is ready."""

from collections.abc import Iterator

import pytest

from services.watchdog.core.inputs import Announced, Answered, Failures, Figures, Leads, Reached
from services.watchdog.core.journal import replay
from services.watchdog.core.safety.renewing import AWAY, BACK, LEFT_S
from services.watchdog.core.signals import FORGET_S, MOST_GONE, Lives
from services.watchdog.flow.translate import from_message, to_message
from tests.unit.watchdog.world import SERVICES, World

FIRST, SECOND = ("restart", "instance:ingest"), ("restart", "instance:ingest-1")


@pytest.fixture(autouse=True)
def two_of_each() -> Iterator[None]:
    more = {"ingest-1": "ingest", "predictor-1": "predictor"}
    SERVICES.update(more)
    yield
    for name in more:
        del SERVICES[name]


@pytest.fixture
def world() -> World:
    return World().healthy()


def say(world: World, seconds: float, measure: str = "process_files_share", **shares: float) -> None:
    """Every two seconds each process that beats says what part it has of something; names with _ for -."""
    for _ in range(round(seconds / 2)):
        told = ((name.replace("_", "-"), share) for name, share in shares.items())
        world.tick(*(Figures(name, SERVICES[name], world.beating[name], ((measure, "", share),))
                     for name, share in told if name in world.beating))
        world.run(1.75)


def stop(world: World, name: str) -> None:
    """It ends in order: says so, and withdraws."""
    world.drained.discard(name)
    world.states[name] = "stopped"
    world.run(1)
    del world.beating[name], world.states[name]
    world.tick(Announced(name, gone=True))


def start(world: World, name: str, boot: str = "another") -> None:
    world.beating[name], world.states[name] = boot, "starting"
    world.tick(Announced(name, SERVICES[name], "starting"))
    world.run(1)
    del world.states[name]


def drain(world: World, name: str) -> None:
    world.states[name], world.drained = "draining", {name}
    world.tick(Answered(world.commands()[-1].command_id, "done", f"{name} has no more requests"))


def of(world: World, name: str) -> list[tuple[str, str]]:
    """State and verdict of the incident of a process, each once, in the order reached."""
    seen = [(one.incident.state, one.incident.verdict) for one in world.decisions
            if one.incident.target == f"instance:{name}"]
    return list(dict.fromkeys(seen))


def states(world: World, name: str) -> list[str]:
    return [state for state, _ in of(world, name)]


# One at a time.


def test_two_that_are_ill_alike_are_begun_anew_one_after_the_other(world: World) -> None:
    say(world, 24, ingest=0.9, ingest_1=0.9)
    assert world.orders() == [FIRST]
    stop(world, "ingest")
    say(world, 20, ingest_1=0.9)
    assert world.orders() == [FIRST]
    start(world, "ingest")
    say(world, 8, ingest=0.1, ingest_1=0.9)
    assert world.orders() == [FIRST]
    say(world, 24, ingest=0.1, ingest_1=0.9)
    assert states(world, "ingest")[-1] == "verified"
    assert world.orders() == [FIRST, SECOND]
    stop(world, "ingest-1")
    start(world, "ingest-1")
    say(world, 24, ingest=0.1, ingest_1=0.1)
    assert states(world, "ingest-1")[-1] == "verified"
    assert list(replay(world.written())) == world.made


def test_two_predictors_that_are_ill_alike_are_not_both_drained_and_the_second_waits_for_the_new_first(
        world: World) -> None:
    say(world, 24, predictor_0=0.9, predictor_1=0.9)
    assert world.orders() == [("drain", "instance:predictor-0")]
    drain(world, "predictor-0")
    first = [("drain", "instance:predictor-0"), ("restart", "instance:predictor-0")]
    assert world.orders() == first
    stop(world, "predictor-0")
    say(world, 60, predictor_1=0.9)
    assert world.orders() == first
    start(world, "predictor-0")
    say(world, 8, predictor_0=0.1, predictor_1=0.9)
    assert world.orders() == [*first, ("drain", "instance:predictor-1")]


def test_the_other_is_not_begun_anew_while_the_first_does_not_come_back_and_is_once_it_did(world: World) -> None:
    say(world, 24, ingest=0.9, ingest_1=0.9)
    stop(world, "ingest")
    say(world, 200, ingest_1=0.9)
    assert states(world, "ingest")[-1] == "escalated"
    assert world.orders() == [FIRST]
    start(world, "ingest")
    say(world, 24, ingest=0.1, ingest_1=0.9)
    assert states(world, "ingest")[-1] == "verified"
    assert world.orders() == [FIRST, SECOND]


def test_one_whose_restart_came_to_nothing_holds_up_the_other_no_longer_than_it_is_given(world: World) -> None:
    say(world, 24, ingest=0.9, ingest_1=0.9)
    say(world, 60, ingest=0.9, ingest_1=0.9)
    assert world.orders() == [FIRST]
    say(world, 30, ingest=0.9, ingest_1=0.9)
    assert states(world, "ingest")[-1] == "escalated"
    assert world.orders() == [FIRST, SECOND]


def test_two_things_that_are_wrong_of_one_process_take_it_away_once(world: World) -> None:
    for _ in range(9):
        world.tick(Failures("predictor-0", "predictor", (("bug", 16, "KeyError: 'x'"),)))
        say(world, 2, predictor_0=0.9)
    assert {one.incident.symptom for one in world.decisions} == {"failures", "files"}
    assert world.orders() == [("drain", "instance:predictor-0")]
    drain(world, "predictor-0")
    say(world, 40, predictor_0=0.9)
    assert world.orders() == [("drain", "instance:predictor-0"), ("restart", "instance:predictor-0")]


def test_a_process_of_another_service_waits_for_nobody(world: World) -> None:
    say(world, 24, ingest=0.9, trainer=0.9)
    assert world.orders() == [FIRST, ("restart", "instance:trainer")]


def test_one_that_serves_again_after_its_drain_does_not_keep_the_other_from_being_reached_by_its_restart(
        world: World) -> None:
    say(world, 20, predictor_0=0.9)
    assert world.orders() == [("drain", "instance:predictor-0")]
    world.states["predictor-0"], world.drained = "draining", {"predictor-0"}
    del world.beating["predictor-1"]
    for _ in range(80):
        world.tick(Reached("predictor-1"))
        world.run(0.75)
    assert world.orders() == [("drain", "instance:predictor-0")]
    del world.states["predictor-0"]
    world.drained.clear()
    for _ in range(8):
        world.tick(Reached("predictor-1"))
        world.run(0.75)
    assert world.orders()[1:] == [("restart", "instance:predictor-1")]


def test_a_watchdog_that_begins_while_the_first_is_away_has_the_other_wait_too(world: World) -> None:
    say(world, 24, ingest=0.9, ingest_1=0.9)
    stored = from_message(to_message(world.engine.open["files:process:ingest"]))
    stop(world, "ingest")
    again = World()
    del SERVICES["ingest"]
    again.healthy()
    SERVICES["ingest"] = "ingest"
    again.tick(Leads(2, (stored,)))
    say(again, 60, ingest_1=0.9)
    assert again.orders() == []
    say(again, 60, ingest_1=0.9)
    assert states(again, "ingest")[-1] == "escalated"
    assert again.orders() == []
    start(again, "ingest")
    say(again, 24, ingest=0.1, ingest_1=0.9)
    assert states(again, "ingest")[-1] == "verified"
    assert again.orders() == [SECOND]


def test_of_those_that_withdrew_only_the_last_are_remembered() -> None:
    lives = Lives(World().thresholds)
    for number in range(MOST_GONE + 5):
        lives.announce(Announced(f"trainer-{number}", "trainer", "ready"), 1.0)
        lives.announce(Announced(f"trainer-{number}", gone=True), 1.0)
    lives.announce(Announced("nobody", gone=True), 1.0)
    known = [lives.service_of(f"trainer-{number}") for number in range(MOST_GONE + 5)]
    assert known == [""] * 5 + ["trainer"] * MOST_GONE
    assert lives.service_of("nobody") == ""


# Well only with a process that is ready.


def test_one_that_does_not_come_back_is_not_called_well_because_it_says_nothing_any_more(world: World) -> None:
    say(world, 24, ingest=0.9)
    assert world.orders() == [FIRST]
    stop(world, "ingest")
    world.run(120)
    assert of(world, "ingest")[-1] == ("escalated", "no process is ready since it was told to begin anew")
    assert "verified" not in states(world, "ingest")
    assert "no process is ready" in world.decisions[-1].alert
    world.run(600)
    assert states(world, "ingest")[-1] == "escalated"
    start(world, "ingest")
    world.run(2)
    assert of(world, "ingest")[-1] == ("verified", "the signal is quiet, and a new process is ready (boot another)")
    assert list(replay(world.written())) == world.made


def test_a_restart_that_failed_half_way_is_a_persons_at_once_and_not_well_later(world: World) -> None:
    say(world, 24, ingest=0.9)
    stop(world, "ingest")
    world.tick(Answered(world.commands()[0].command_id, "failed", "it does not start"))
    assert states(world, "ingest")[-1] == "escalated"
    world.run(300)
    assert states(world, "ingest")[-1] == "escalated"


def test_one_whose_failure_is_told_after_its_figure_was_forgotten_is_a_persons_then(world: World) -> None:
    say(world, 24, ingest=0.9)
    stop(world, "ingest")
    world.run(50)
    assert states(world, "ingest")[-1] == "commanded"
    world.tick(Answered(world.commands()[0].command_id, "failed", "it does not start"))
    assert states(world, "ingest")[-1] == "escalated"


def test_a_signal_that_falls_quiet_before_the_process_ends_proves_nothing(world: World) -> None:
    say(world, 24, ingest=0.9)
    say(world, 24, ingest=0.1)
    assert states(world, "ingest")[-1] == "commanded"
    stop(world, "ingest")
    world.run(10)
    start(world, "ingest")
    assert states(world, "ingest")[-1] == "commanded"
    world.run(2)
    assert states(world, "ingest")[-1] == "verified"


@pytest.mark.parametrize("outcome", ["refused", "failed", ""])
def test_the_same_process_is_well_by_itself_where_the_restart_came_to_nothing(world: World, outcome: str) -> None:
    say(world, 24, ingest=0.9)
    if outcome:
        world.tick(Answered(world.commands()[0].command_id, outcome, "unit unknown"))
        assert states(world, "ingest")[-1] == "escalated"
    say(world, 24, ingest=0.1)
    assert (states(world, "ingest")[-1] == "verified") == bool(outcome)
    say(world, 60, ingest=0.1)
    assert of(world, "ingest")[-1] == ("verified", "the signal is quiet")


def test_a_process_that_is_taken_away_after_its_restart_did_not_help_is_nobodys_any_more(world: World) -> None:
    say(world, 24, ingest=0.9)
    stop(world, "ingest")
    start(world, "ingest")
    say(world, 100, ingest=0.9)
    assert of(world, "ingest")[-1] == ("escalated", "no effect in time")
    stop(world, "ingest")
    world.run(40)
    assert of(world, "ingest")[-1] == ("verified", "it said goodbye: nobody expects it any more")


def test_a_predictor_that_failed_and_is_gone_is_not_well_either(world: World) -> None:
    for _ in range(15):
        world.tick(Failures("predictor-0", "predictor", (("bug", 8, "KeyError: 'x'"),)))
        world.run(0.75)
    drain(world, "predictor-0")
    stop(world, "predictor-0")
    world.run(200)
    assert states(world, "predictor-0")[-1] == "escalated"
    assert "verified" not in states(world, "predictor-0")


# What was left to a person.


def away(world: World) -> None:
    """The first is ill, its restart fails, and a person takes it out of service."""
    say(world, 24, ingest=0.9)
    stop(world, "ingest")
    world.tick(Answered(world.commands()[-1].command_id, "failed", "port in use"))
    assert of(world, "ingest")[-1] == ("escalated", AWAY)


def alerts(world: World, name: str) -> list[str]:
    return [one.alert for one in world.decisions if one.alert and one.incident.target == f"instance:{name}"]


def test_one_that_was_taken_out_of_service_holds_up_the_other_for_ten_minutes_and_somebody_is_told_why(
        world: World) -> None:
    away(world)
    say(world, 100, ingest_1=0.9)
    assert not any("cannot stand in" in one for one in alerts(world, "ingest-1"))
    say(world, 20, ingest_1=0.9)
    told = [one for one in alerts(world, "ingest-1") if "while ingest cannot stand in for it" in one]
    assert len(told) == 1
    assert told[0].startswith("a person is needed: 90% of its file handles are open")
    assert world.orders() == [FIRST]
    say(world, FORGET_S, ingest_1=0.9)
    assert world.orders() == [FIRST, SECOND]
    assert len([one for one in alerts(world, "ingest-1") if "cannot stand in" in one]) == 1
    assert list(replay(world.written())) == world.made


def test_the_third_that_waits_its_turn_for_long_is_no_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SERVICES, "ingest-2", "ingest")
    world = World().healthy()
    say(world, 80, ingest=0.9, ingest_1=0.9, ingest_2=0.9)
    stop(world, "ingest")
    start(world, "ingest")
    say(world, 20, ingest=0.1, ingest_1=0.9, ingest_2=0.9)
    assert world.orders() == [FIRST, SECOND]
    say(world, 40, ingest=0.1, ingest_1=0.9, ingest_2=0.9)
    assert world.orders() == [FIRST, SECOND]
    assert states(world, "ingest-1")[-1] == "commanded"
    assert alerts(world, "ingest-2") == []


def test_the_incident_of_one_that_nobody_began_again_ends_in_an_hour_and_not_before(world: World) -> None:
    away(world)
    world.run(LEFT_S - 100)
    assert states(world, "ingest")[-1] == "escalated"
    world.run(110)
    assert of(world, "ingest")[-1] == ("verified", "nobody of its name came for 60 minutes: nobody expects it any more")


def test_one_that_came_late_and_is_no_better_is_told_again_and_may_leave(world: World) -> None:
    say(world, 24, ingest=0.9)
    stop(world, "ingest")
    world.run(100)
    assert of(world, "ingest")[-1] == ("escalated", AWAY)
    world.beating["ingest"], world.states["ingest"] = "another", "starting"
    world.tick(Announced("ingest", "ingest", "starting"))
    say(world, 24, ingest=0.9)
    assert of(world, "ingest")[-1] == ("escalated", AWAY)
    del world.states["ingest"]
    say(world, 30, ingest=0.9)
    assert of(world, "ingest")[-1] == ("escalated", BACK)
    assert [one.rpartition("; ")[2] for one in alerts(world, "ingest")[-2:]] == [AWAY, BACK]
    stop(world, "ingest")
    world.run(40)
    assert of(world, "ingest")[-1] == ("verified", "it said goodbye: nobody expects it any more")
    assert list(replay(world.written())) == world.made
