"""What a process or machine uses up becomes an incident with the right cause, is acted on, and ends."""

import pytest

from services.watchdog.core.inputs import Failures, Figures
from services.watchdog.core.journal import replay
from tests.unit.watchdog.world import SERVICES, World


@pytest.fixture
def world() -> World:
    return World().healthy()


def say(world: World, name: str, values: list[float], every_s: float = 2.0, about: str = "",
        instance: str = "ingest") -> None:
    for value in values:
        world.tick(Figures(instance, instance, world.beating.get(instance, ""), ((name, about, value),)))
        world.run(every_s - 0.25)


def test_a_busy_machine_is_told_to_a_person_once_and_is_well_when_the_load_goes(world: World) -> None:
    say(world, "host_cpu_share", [0.97] * 149, about="box")
    assert world.decisions == []
    say(world, "host_cpu_share", [0.97] * 5, about="box")
    assert (world.last().symptom, world.last().cause, world.last().state) == ("cpu", "resources:cpu/box", "escalated")
    assert world.commands() == []
    say(world, "host_cpu_share", [0.3] * 12, about="box")
    assert world.last().state == "verified"
    assert len({decision.incident.id for decision in world.decisions}) == 1


def test_short_peaks_of_load_are_no_symptom(world: World) -> None:
    say(world, "host_cpu_share", [0.99, 0.99, 0.99, 0.4] * 60, about="box")
    say(world, "host_memory_share", [0.85, 0.85, 0.7] * 40, about="box")
    assert world.decisions == []


def test_a_disk_that_fills_is_foreseen(world: World) -> None:
    say(world, "host_disk_share", [0.5 + 0.002 * point for point in range(120)], 20.0, about="box")
    assert (world.last().symptom, world.last().cause) == ("disk", "resources:disk/box")
    assert "minutes" in world.last().timeline[0].detail


def test_a_disk_that_is_full_and_fills_no_further_is_told_after_a_minute_and_well_when_there_is_room(
        world: World) -> None:
    say(world, "host_disk_share", [0.89] * 60, about="box")
    say(world, "host_disk_share", [0.92] * 30, about="box")
    assert world.decisions == []
    say(world, "host_disk_share", [0.92] * 2, about="box")
    assert (world.last().symptom, world.last().cause, world.last().state) == ("disk", "resources:disk/box", "escalated")
    assert world.last().timeline[0].detail == "92% of it in use for 60 s"
    say(world, "host_disk_share", [0.86] * 20, about="box")
    assert world.last().state == "escalated"
    say(world, "host_disk_share", [0.5] * 10, about="box")
    assert world.last().state == "verified"
    assert world.commands() == []


def test_a_process_that_leaks_is_begun_anew_in_order_and_well_after(world: World) -> None:
    say(world, "process_memory_share", [0.45 + 0.004 * point for point in range(40)], 10.0)
    (command,) = world.commands()
    assert (command.action, command.target, command.arguments) == ("restart", "instance:ingest", {"grace_s": "10"})
    world.beating["ingest"] = "ingest-2"
    say(world, "process_memory_share", [0.1] * 12)
    assert (world.last().symptom, world.last().state) == ("leak", "verified")


def test_a_process_that_grew_once_and_stays_so_is_no_leak(world: World) -> None:
    say(world, "process_memory_share", [0.2] * 10 + [0.6] * 60, 10.0)
    assert world.decisions == []


def test_used_up_file_handles_are_cured_by_a_restart_and_told_when_that_does_not_help(world: World) -> None:
    say(world, "process_files_share", [0.9] * 10)
    assert world.orders() == [("restart", "instance:ingest")]
    say(world, "process_files_share", [0.9] * 60)
    assert world.last().state == "escalated"
    assert len(world.commands()) == 1


def test_a_process_that_still_works_is_not_restarted_while_its_only_sibling_is_down(world: World) -> None:
    world.beating["predictor-1"] = "predictor-1-1"
    world.states["predictor-1"] = "starting"
    SERVICES["predictor-1"] = "predictor"
    try:
        say(world, "process_files_share", [0.9] * 12, instance="predictor-0")
        assert world.commands() == []
        world.states["predictor-1"] = "ready"
        say(world, "process_files_share", [0.9] * 2, instance="predictor-0")
        assert world.orders() == [("drain", "instance:predictor-0")]
    finally:
        del SERVICES["predictor-1"]


def test_lag_that_grows_is_a_surge_and_lag_that_shrinks_is_none(world: World) -> None:
    say(world, "lepton_consumer_lag", [200_000.0 - 1000 * point for point in range(90)], about="lepton-events-shop")
    assert world.decisions == []
    say(world, "lepton_consumer_lag", [20_000.0 + 500 * point for point in range(60)], about="lepton-events-shop")
    assert (world.last().symptom, world.last().cause) == ("lag", "surge:ingest/lepton-events-shop")


def test_rows_that_wait_in_a_predictor_are_a_symptom(world: World) -> None:
    say(world, "lepton_predictor_waiting_rows", [3000.0] * 20, instance="predictor-0")
    assert (world.last().symptom, world.last().cause) == ("queue", "surge:predictor-0")


def test_many_failures_are_told_with_the_last_of_them_and_a_few_are_not(world: World) -> None:
    for _ in range(30):
        world.tick(Failures("trainer", "trainer", (("bug", 1, "KeyError: 'x'"),)))
        world.run(2)
    assert world.decisions == []
    for _ in range(10):
        world.tick(Failures("trainer", "trainer", (("bug", 8, "KeyError: 'x'"), ("refused_record", 3, "no JSON"))))
        world.run(1)
    assert (world.last().symptom, world.last().cause) == ("failures", "process:trainer")
    assert "KeyError" in world.last().timeline[0].detail


def test_dead_letters_by_the_hundred_are_a_symptom_of_their_own(world: World) -> None:
    for _ in range(10):
        world.tick(Failures("predictor-0", "predictor", (("refused_record", 80, "no JSON"),)))
        world.run(1)
    assert (world.last().symptom, world.last().cause) == ("dead_letters", "data:predictor-0")


def test_a_process_that_dies_again_and_again_is_a_crash_loop_and_restarted_ever_more_slowly(world: World) -> None:
    for round_ in range(2, 8):
        del world.beating["trainer"]
        world.run(30)
        world.beating["trainer"] = f"trainer-{round_}"
        world.run(3)
    loops = [one.incident for one in world.decisions if one.incident.symptom == "crash_loop"]
    assert loops[-1].state == "escalated"
    assert loops[-1].cause == "process:trainer"


def test_a_process_that_said_goodbye_did_not_crash(world: World) -> None:
    for round_ in range(2, 10):
        world.states["trainer"] = "stopped"
        world.run(1)
        world.states["trainer"] = "ready"
        world.beating["trainer"] = f"trainer-{round_}"
        world.run(1)
    assert world.decisions == []


def test_while_the_bus_does_not_carry_nothing_is_called_well(world: World) -> None:
    say(world, "host_memory_share", [0.95] * 40, about="box")
    assert world.last().state == "escalated"
    beating, world.beating = world.beating, {}
    world.run(60)
    assert [one for one in world.decisions if one.incident.symptom == "memory"][-1].incident.state == "escalated"
    world.beating = beating
    say(world, "host_memory_share", [0.4] * 20, about="box")
    assert [one for one in world.decisions if one.incident.symptom == "memory"][-1].incident.state == "verified"


def test_what_is_never_said_again_is_forgotten(world: World) -> None:
    say(world, "process_files_share", [0.79] * 4)
    world.run(60)
    assert not world.engine.state.usage._gauges
    assert world.decisions == []


def test_load_replays_to_the_same_decisions(world: World) -> None:
    say(world, "process_files_share", [0.9] * 12)
    assert list(replay(world.written())) == world.made
