"""A database that answers late is blamed itself; one that is late for one process alone, the way between them."""

import pytest

from services.watchdog.core.inputs import Failures, Figures
from services.watchdog.core.journal import replay
from tests.unit.watchdog.world import World

WITH_DATABASE = ("gateway", "ingest", "trainer", "predictor-0", "watchdog")


@pytest.fixture
def world() -> World:
    return World().healthy()


def wait(world: World, seconds: float, waits_s: float, *names: str) -> None:
    """Let time pass in which these processes wait so long for their answers, and the others for none."""
    for _ in range(round(seconds)):
        world.tick(*(Figures(name, name.partition("-")[0], f"{name}-1",
                             (("lepton_database_seconds", "", waits_s if name in names else 0.0),))
                     for name in WITH_DATABASE))
        world.run(0.75)


def test_a_database_that_is_late_for_all_is_one_incident_and_well_when_it_answers(world: World) -> None:
    wait(world, 20, 3.0, *WITH_DATABASE)
    assert {one.incident.cause for one in world.decisions} == {"dependency:database"}
    assert world.last().symptom == "slow_dependency"
    assert world.last().timeline[1].detail.startswith("dependency")
    assert world.commands() == []
    wait(world, 20, 0.0)
    assert world.last().state == "verified"
    assert len({one.incident.id for one in world.decisions}) == 1


def test_a_person_is_told_only_when_it_stays_away(world: World) -> None:
    wait(world, 25, 5.0, *WITH_DATABASE)
    assert world.last().state == "suspected"
    wait(world, 15, 5.0, *WITH_DATABASE)
    assert world.last().state == "escalated"


def test_late_for_one_process_alone_is_the_way_between_them(world: World) -> None:
    wait(world, 20, 5.0, "ingest")
    assert {one.incident.cause for one in world.decisions} == {"dependency:database/ingest"}
    wait(world, 20, 0.0)
    assert world.last().state == "verified"


def test_that_the_last_of_all_recovers_late_is_no_incident_of_its_own(world: World) -> None:
    wait(world, 10, 3.0, *WITH_DATABASE)
    wait(world, 30, 3.0, "ingest")
    wait(world, 20, 0.0)
    assert {one.incident.cause for one in world.decisions} == {"dependency:database"}
    assert world.last().state == "verified"


def test_a_short_wait_is_no_symptom_and_effects_of_a_long_one_are_not_blamed(world: World) -> None:
    for _ in range(10):
        wait(world, 1, 3.0, *WITH_DATABASE)
        wait(world, 2, 0.0)
    assert world.decisions == []
    wait(world, 10, 3.0, *WITH_DATABASE)
    world.tick(Failures("ingest", "ingest", (("database", 500, "it did not answer"),)))
    world.run(5)
    assert {one.incident.cause for one in world.decisions} == {"dependency:database"}


def test_a_recorded_outage_replays_to_the_same_decisions(world: World) -> None:
    wait(world, 20, 3.0, *WITH_DATABASE)
    assert list(replay(world.written())) == world.made


def calls(world: World, seconds: float, unreached_s: float) -> None:
    """Let time pass in which the gateway says for how long its calls to the predictor had no answer."""
    for _ in range(round(seconds)):
        world.tick(Figures("gateway", "gateway", "gateway-1",
                           (("lepton_gateway_unreached_seconds", "predictor-0", unreached_s),)))
        world.run(0.75)


def test_a_predictor_that_lives_and_does_not_answer_the_gateway_is_cut_off_from_it(world: World) -> None:
    calls(world, 5, 2.0)
    assert world.decisions == []
    calls(world, 10, 8.0)
    assert {one.incident.cause for one in world.decisions} == {"dependency:predictor-0/gateway"}
    calls(world, 2, 0.0)
    assert world.last().state == "verified"
    assert world.commands() == []


def test_calls_to_a_predictor_that_is_dead_are_no_incident_of_their_own(world: World) -> None:
    world.beating.pop("predictor-0")
    calls(world, 12, 8.0)
    assert {one.incident.cause for one in world.decisions} == {"process:predictor-0"}
