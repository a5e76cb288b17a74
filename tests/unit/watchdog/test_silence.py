"""Silent processes are restarted and proven back; silence that means something else restarts nobody."""

import pytest

from services.watchdog.core.inputs import Announced, Answered, Beat, Leads, Thresholds
from services.watchdog.core.journal import replay
from tests.unit.watchdog.world import World


@pytest.fixture
def world() -> World:
    return World().healthy()


def die(world: World, name: str) -> None:
    del world.beating[name]


@pytest.mark.parametrize("name", ["gateway", "ingest", "trainer", "predictor-0"])
def test_a_silent_process_is_restarted_within_three_seconds_and_verified_when_a_new_one_is_ready(
        world: World, name: str) -> None:
    die(world, name)
    world.run(3.0)
    (command,) = world.commands()
    assert (command.action, command.target, command.arguments) == ("restart", f"instance:{name}", {"grace_s": "0"})
    assert command.cause == f"process:{name}"
    world.tick(Answered(command.command_id, "done", "started"))
    world.beating[name], world.states[name] = f"{name}-2", "starting"
    world.run(2)
    assert world.last().state == "commanded"
    world.states[name] = "ready"
    world.run(1)
    incident = world.last()
    assert (incident.state, incident.command_ids) == ("verified", (command.command_id,))
    assert f"boot {name}-2" in incident.verdict
    world.run(60)
    assert world.orders() == [("restart", f"instance:{name}")]


@pytest.mark.parametrize(("outcome", "found_ended", "told"), [
    ("done", ("ingest",), "started; it had ended"), ("done", (), "started; it hung"),
    ("failed", ("ingest",), "started; it had ended"), ("failed", (), "started")])
def test_the_answer_to_a_restart_tells_who_had_ended_from_who_hung(
        world: World, outcome: str, found_ended: tuple[str, ...], told: str) -> None:
    die(world, "ingest")
    world.run(3)
    world.tick(Answered(world.commands()[0].command_id, outcome, "started", found_ended))
    assert (world.last().timeline[-1].what, world.last().timeline[-1].detail) == (f"answered {outcome}", told)


def test_whom_a_restart_began_and_nobody_heard_did_not_hang(world: World) -> None:
    die(world, "ingest")
    world.run(3)
    world.tick(Answered(world.commands()[0].command_id, "done", "started", ("ingest",)))
    world.run(16)
    world.tick(Answered(world.commands()[1].command_id, "done", "started again"))
    assert [note.detail for note in world.last().timeline if note.what == "answered done"] == [
        "started; it had ended", "started again"]


def test_of_one_that_was_announced_and_never_heard_nobody_says_that_it_hung(world: World) -> None:
    world.tick(Announced("predictor-1", "predictor", "starting"))
    world.run(25)
    world.tick(Answered(world.commands()[0].command_id, "done", "pid 7 -> 9"))
    assert world.last().timeline[-1].detail == "pid 7 -> 9"


def test_nobody_is_restarted_before_the_deadline(world: World) -> None:
    die(world, "ingest")
    world.run(world.thresholds.silence_s - 0.5)
    assert world.decisions == []


def test_a_restart_without_effect_is_repeated_then_a_person_is_told_and_it_is_tried_again_slowly(world: World) -> None:
    die(world, "ingest")
    world.run(3 + 15 + 1)
    assert len(world.commands()) == 2
    world.run(15)
    assert world.last().state == "escalated"
    assert "a person is needed" in world.decisions[-1].alert
    world.run(50)
    assert len(world.commands()) == 3
    world.beating["ingest"] = "ingest-9"
    world.run(1)
    assert world.last().state == "verified"
    assert len({decision.incident.id for decision in world.decisions}) == 1


def test_a_refused_restart_is_not_waited_for(world: World) -> None:
    die(world, "ingest")
    world.run(3)
    world.tick(Answered(world.commands()[0].command_id, "refused", "unknown unit"))
    world.run(6)
    assert len(world.commands()) == 2
    world.tick(Answered(world.commands()[1].command_id, "refused", "unknown unit"))
    world.run(1)
    assert world.last().state == "escalated"


def test_a_process_that_speaks_again_before_its_restart_took_place_is_well(world: World) -> None:
    boot = world.beating.pop("ingest")
    world.run(3)
    assert world.last().state == "commanded"
    world.beating["ingest"] = boot
    world.run(10)
    assert world.last().state == "commanded"
    world.run(6)
    assert (world.last().state, world.last().verdict) == ("verified", "it came back by itself")


@pytest.mark.parametrize("state", ["draining", "stopped"])
def test_a_process_that_said_goodbye_is_not_silent(world: World, state: str) -> None:
    world.states["ingest"] = state
    world.run(1)
    die(world, "ingest")
    world.run(30)
    assert world.decisions == []


def test_a_process_that_took_itself_off_the_instances_is_not_silent(world: World) -> None:
    die(world, "ingest")
    world.tick(Announced("ingest", gone=True))
    world.run(30)
    assert world.decisions == []


def test_a_starting_process_has_longer(world: World) -> None:
    world.states["ingest"] = "starting"
    world.run(1)
    die(world, "ingest")
    world.run(14)
    assert world.decisions == []
    world.run(3)
    assert world.orders() == [("restart", "instance:ingest")]


def test_a_process_that_takes_long_to_start_is_not_set_back_by_another_restart(world: World) -> None:
    die(world, "ingest")
    world.run(3)
    world.beating["ingest"], world.states["ingest"] = "ingest-2", "starting"
    world.run(20)
    assert len(world.commands()) == 1
    world.states["ingest"] = "ready"
    world.run(1)
    assert world.last().state == "verified"


def test_a_process_that_died_while_nobody_watched_is_found_from_the_instances() -> None:
    world = World()
    for name in ("gateway", "watchdog", "actuator"):
        world.beating[name] = f"{name}-1"
    world.tick(Announced("ingest", "ingest", "ready"), Announced("gateway", "gateway", "ready"), Leads(1))
    world.run(world.thresholds.unheard_s + 1)
    assert world.orders() == [("restart", "instance:ingest")]


@pytest.mark.parametrize("name", ["watchdog-2", "actuator"])
def test_watchdog_and_actuator_are_never_commanded(world: World, name: str) -> None:
    world.tick(Beat(name, name.partition("-")[0], "b", "ready"))
    world.beating.pop(name, None)
    world.run(10)
    assert world.last().state == "suspected"
    world.run(40)
    assert world.last().state == "escalated"
    assert world.commands() == []
    world.beating[name] = "back"
    world.engine.state.lives.by_name[name].service = name.partition("-")[0]
    world.run(1)
    assert world.last().state == "verified"


def test_when_nothing_comes_back_to_ourselves_nobody_is_restarted_and_one_incident_tells_of_the_bus(
        world: World) -> None:
    boots = dict(world.beating)
    world.beating.clear()
    world.run(20)
    assert world.orders() == []
    assert {decision.incident.cause for decision in world.decisions} == {"dependency:broker"}
    world.beating.update(boots)
    world.run(2)
    assert world.last().state == "verified"
    world.run(20)
    assert len({decision.incident.id for decision in world.decisions}) == 1


def test_after_a_bus_fault_clients_that_reconnect_late_are_not_restarted_but_dead_ones_are(world: World) -> None:
    boots = dict(world.beating)
    world.beating.clear()
    world.run(6)
    for name in ("watchdog", "actuator", "gateway", "trainer"):
        world.beating[name] = boots[name]
    world.run(5)
    world.beating["ingest"] = boots["ingest"]
    world.run(12)
    assert world.orders() == [("restart", "instance:predictor-0")]


def test_a_short_stall_of_the_bus_restarts_nobody(world: World) -> None:
    boots = dict(world.beating)
    world.beating.clear()
    world.run(1.75)
    world.beating["watchdog"] = boots["watchdog"]
    world.run(2)
    world.beating.update(boots)
    world.run(20)
    assert world.decisions == []


def test_when_all_others_fall_silent_together_it_is_a_bus_fault_though_our_own_heartbeats_come(world: World) -> None:
    boots = dict(world.beating)
    for name in boots:
        if name != "watchdog":
            die(world, name)
    world.run(10)
    assert world.orders() == []
    assert world.last().cause == "dependency:broker"
    world.beating.update(boots)
    world.run(2)
    assert world.last().state == "verified"


def test_when_all_services_die_but_the_actuator_lives_they_are_restarted(world: World) -> None:
    for name in ("gateway", "ingest", "trainer", "predictor-0"):
        die(world, name)
    world.run(4)
    assert sorted(world.orders()) == [("restart", f"instance:{name}") for name in
                                      ("gateway", "ingest", "predictor-0", "trainer")]


def test_a_pause_of_our_own_is_held_against_nobody(world: World) -> None:
    world.tick(gap_s=20.0)
    world.run(20)
    assert world.decisions == []


def test_a_death_during_our_own_pause_is_found_after_it(world: World) -> None:
    die(world, "ingest")
    world.tick(gap_s=20.0)
    world.run(1)
    assert world.decisions == []
    world.run(3)
    assert world.orders() == [("restart", "instance:ingest")]


def test_while_our_own_heartbeats_come_late_nothing_is_judged(world: World) -> None:
    die(world, "ingest")
    own = world.beating.pop("watchdog")
    for _ in range(40):
        world.tick(Beat("watchdog", "watchdog", own, "ready", lag_s=5.0))
    assert world.orders() == []


def test_a_standby_decides_nothing_and_takes_over_what_is_open(world: World) -> None:
    die(world, "ingest")
    world.run(3)
    incident = world.last()
    standby = World(Thresholds(own="watchdog-2"))
    standby.beating = {name: boot for name, boot in world.beating.items() if name != "watchdog"}
    standby.beating["watchdog-2"] = "w2"
    standby.tick(Announced("ingest", "ingest", "ready"))
    standby.run(60)
    assert standby.decisions == []
    standby.tick(Leads(2, (incident,)))
    standby.run(10)
    assert standby.commands() == []
    standby.run(10)
    (command,) = standby.commands()
    assert command.command_id == f"{incident.id}-2"
    assert standby.last().command_ids == (*incident.command_ids, command.command_id)


def test_losing_the_lease_ends_all_decisions(world: World) -> None:
    world.tick(Leads(0))
    die(world, "ingest")
    world.run(30)
    assert world.decisions == []


def test_restarts_are_bounded_by_a_budget_even_when_each_succeeds(world: World) -> None:
    for round_ in range(20):
        die(world, "ingest")
        world.run(8)
        world.beating["ingest"] = f"ingest-{round_ + 2}"
        world.run(8)
    assert len(world.commands()) == world.thresholds.restart_actions
    assert any("budget" in decision.incident.verdict for decision in world.decisions)


def test_the_budget_survives_a_change_of_leader(world: World) -> None:
    seen = []
    for round_ in range(6):
        die(world, "ingest")
        world.run(8)
        world.beating["ingest"] = f"ingest-{round_ + 2}"
        world.run(8)
        seen.append(world.last())
    world.tick(Leads(2, tuple(seen)))
    die(world, "ingest")
    world.run(10)
    assert len(world.commands()) == 6


def test_a_stopped_line_is_told_to_a_person_and_well_once_it_moves(world: World) -> None:
    boot = world.beating["ingest"]
    world.states["ingest"] = "not_ready"
    decided = world.tick(Beat("ingest", "ingest", boot, "not_ready", "more than 1000 records were refused"))
    assert [decision.incident.state for decision in decided] == ["suspected", "escalated"]
    world.run(10)
    assert len(world.decisions) == 2
    world.states["ingest"] = "ready"
    world.run(1)
    assert world.last().state == "verified"
    assert world.commands() == []


def test_a_recorded_day_replays_to_the_same_decisions(world: World) -> None:
    die(world, "ingest")
    world.run(40)
    world.beating["ingest"] = "ingest-2"
    world.run(10)
    world.tick(gap_s=5)
    world.beating.clear()
    world.run(20)
    world.tick(Leads(0))
    assert list(replay(world.written())) == world.made
    assert len(world.made) == 5
