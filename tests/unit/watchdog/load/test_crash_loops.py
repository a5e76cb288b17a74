"""Processes that die again and again: counted also where nobody heard of a life, named once, and brought back."""

import pytest
from msgspec.structs import replace

from services.watchdog.core.inputs import Announced, Answered, Incident, Leads, Thresholds
from services.watchdog.core.journal import replay
from services.watchdog.core.remedy import FREE_RESTARTS
from tests.unit.watchdog.world import SERVICES, World

INGEST = "process:ingest"


@pytest.fixture
def world() -> World:
    return World().healthy()


def loops(world: World) -> list[Incident]:
    return [one.incident for one in world.decisions if one.incident.symptom == "crash_loop"]


def answer(world: World, *found_ended: str) -> None:
    """The restart commanded last was carried out."""
    world.tick(Answered(world.commands()[-1].command_id, "done", "started", found_ended))


def until_commanded(world: World, count: int) -> None:
    for _ in range(400):
        if len(world.commands()) >= count:
            return
        world.tick()
    raise AssertionError(f"{len(world.commands())} commands, not {count}")


def unheard_lives(world: World, restarts: int, died: bool = True) -> None:
    """It dies; so does whoever a restart begins, before its first heartbeat, or is still there at the next."""
    del world.beating["ingest"]
    for number in range(1, restarts + 1):
        until_commanded(world, number)
        answer(world, *(["ingest"] if died or number == 1 else []))


def test_lives_that_ended_before_their_first_heartbeat_are_a_crash_loop(world: World) -> None:
    unheard_lives(world, 4)
    assert loops(world) == []
    until_commanded(world, 5)
    answer(world, "ingest")
    loop = loops(world)[-1]
    assert (loop.cause, loop.target, loop.state) == (INGEST, "instance:ingest", "escalated")
    assert "5 lives ended within" in loop.timeline[0].detail
    assert [key for key in world.engine.open if key.endswith(INGEST)] == [f"crash_loop:{INGEST}"]
    silence = [one for one in world.decisions if one.incident.symptom == "silence"][-1]
    assert (silence.incident.verdict, silence.alert) == (f"it is part of a crash loop: {loop.id}", "")
    assert any(one.alert.startswith("a person is needed: 5 lives ended") for one in world.decisions)


def test_a_run_of_chaos_as_the_actuator_answered_it_is_a_crash_loop(world: World) -> None:
    """Who the first restart began was slow and ended by the second; all others were killed unheard."""
    del world.beating["ingest"]
    for number, found in enumerate(("ended", "running", "ended", "ended", "ended"), 1):
        until_commanded(world, number)
        answer(world, *(["ingest"] if found == "ended" else []))
    assert loops(world) == []
    until_commanded(world, 6)
    answer(world, "ingest")
    assert (loops(world)[-1].cause, loops(world)[-1].state) == (INGEST, "escalated")


def test_who_is_ended_by_our_own_restart_before_it_was_heard_did_not_die(world: World) -> None:
    unheard_lives(world, 6, died=False)
    assert loops(world) == []
    assert world.engine.open[f"silence:{INGEST}"].symptom == "silence"


def test_a_loop_brings_its_process_back_slowly_and_ends_when_it_lives(world: World) -> None:
    unheard_lives(world, 5)
    before = len(world.commands())
    world.run(50)
    assert len(world.commands()) == before
    until_commanded(world, before + 1)
    command = world.commands()[-1]
    assert (command.action, command.target, command.arguments) == ("restart", "instance:ingest", {"grace_s": "0"})
    assert command.incident_id == loops(world)[-1].id
    answer(world, "ingest")
    world.beating["ingest"] = "ingest-9"
    told = len(world.decisions)
    world.run(120)
    assert [one.incident.timeline[-1].what for one in world.decisions[told:]] == ["helped"]
    world.run(600)
    assert (world.last().symptom, world.last().state) == ("crash_loop", "verified")
    assert [key for key in world.engine.open if key.endswith(INGEST)] == []


def test_a_process_that_stays_away_is_not_well_when_its_deaths_are_long_ago(world: World) -> None:
    unheard_lives(world, 5)
    world.run(900)
    assert world.engine.open[f"crash_loop:{INGEST}"].state != "verified"
    world.beating["ingest"] = "ingest-9"
    world.run(30)
    assert (world.last().symptom, world.last().state) == ("crash_loop", "verified")


def test_a_life_is_counted_once_whether_its_heartbeat_or_the_answer_comes_first(world: World) -> None:
    for life in range(2, 2 + FREE_RESTARTS + 1):
        del world.beating["ingest"]
        until_commanded(world, life - 1)
        if life % 2:
            answer(world, "ingest")
            world.run(1)
        world.beating["ingest"], world.states["ingest"] = f"ingest-{life}", "starting"
        world.run(1)
        if not life % 2:
            answer(world, "ingest")
        world.states["ingest"] = "ready"
        world.run(20)
    assert world.engine.state.usage._bursts[("crash_loop", "ingest")].count == FREE_RESTARTS + 1
    assert loops(world) == []


def test_lives_that_were_heard_are_one_incident_too_once_they_are_a_loop(world: World) -> None:
    for life in range(2, 8):
        world.beating.pop("ingest", None)
        world.run(4)
        world.beating["ingest"] = f"ingest-{life}"
        world.run(30)
    opened = [one.incident for one in world.decisions if one.incident.timeline[-1].what == "diagnosed"]
    assert [one.symptom for one in opened] == ["silence"] * 5 + ["crash_loop"]
    assert len({one.id for one in loops(world)}) == 1


def test_a_loop_replays_to_the_same_decisions(world: World) -> None:
    unheard_lives(world, 5)
    world.beating["ingest"] = "ingest-9"
    world.run(5)
    assert list(replay(world.written())) == world.made


def taken_up(loop: Incident) -> World:
    """By a watchdog that just began, while everybody but ingest is heard; as the store has it."""
    other = World()
    for name, service in SERVICES.items():
        if name != "ingest":
            other.beating[name] = f"{name}-1"
        other.tick(Announced(name, service, "ready"))
    other.tick(Leads(2, (replace(loop, rung=0, action="", commanded_at=0.0, deadline=0.0, boot_id="", since=0.0),)))
    return other


def test_a_watchdog_that_just_began_calls_no_loop_well_whose_process_it_has_not_heard(world: World) -> None:
    unheard_lives(world, 5)
    world.run(3)
    other = taken_up(world.engine.open[f"crash_loop:{INGEST}"])
    other.run(60)
    assert other.engine.open.keys() == {f"crash_loop:{INGEST}"}
    assert not [one.alert for one in other.decisions if "well again" in one.alert]
    until_commanded(other, 1)
    other.tick(Answered(other.commands()[-1].command_id, "done", "started", ("ingest",)))
    other.beating["ingest"] = "ingest-9"
    other.run(700)
    assert loops(other)[-1].state == "verified"


def test_a_restart_of_a_loop_that_is_under_way_is_waited_for_by_whoever_takes_it_up(world: World) -> None:
    unheard_lives(world, 5)
    until_commanded(world, 6)
    loop = world.engine.open[f"crash_loop:{INGEST}"]
    assert loop.state == "commanded"
    other = taken_up(loop)
    other.beating["ingest"] = "ingest-9"
    other.run(5)
    assert not [one.alert for one in other.decisions if "a person is needed" in one.alert]


@pytest.mark.parametrize("thresholds", [
    Thresholds(own="watchdog", dry_run=True), Thresholds(own="watchdog", dry_run=("restart",)),
    Thresholds(own="watchdog", approval=("restart",))])
def test_where_restarts_are_not_ours_to_order_a_person_is_asked_about_each_silence(thresholds: Thresholds) -> None:
    world = World(thresholds=thresholds).healthy()
    for number in range(2, 8):
        world.beating.pop("ingest", None)
        world.run(4)
        world.beating["ingest"] = f"ingest-{number}"
        world.run(20)
    assert loops(world)
    before = len(world.decisions)
    world.beating.pop("ingest")
    world.run(60)
    assert "silence" in [one.incident.symptom for one in world.decisions[before:]]


def test_who_dies_as_soon_as_it_is_started_is_in_a_loop_though_no_restart_comes_about(world: World) -> None:
    del world.beating["ingest"]
    for number in range(1, 6):
        assert loops(world) == []
        until_commanded(world, number)
        world.tick(Answered(world.commands()[-1].command_id, "failed", "ingest is FATAL", ("ingest",)))
    assert (loops(world)[-1].cause, loops(world)[-1].state) == (INGEST, "escalated")


def test_a_restart_that_failed_and_of_which_nothing_else_is_known_is_no_death(world: World) -> None:
    del world.beating["ingest"]
    for number in range(1, 7):
        until_commanded(world, number)
        world.tick(Answered(world.commands()[-1].command_id, "failed", "ingest did not end"))
    assert loops(world) == []
