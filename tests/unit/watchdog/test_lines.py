"""A line that a dead-letter limit stopped is an incident of its pipeline, open until the line moves again."""

import pytest

from lepton.contracts.pb import telemetry_pb2
from services.watchdog.core.inputs import Announced, Leads, Rules
from services.watchdog.core.journal import replay
from services.watchdog.flow import translate
from tests.unit.watchdog.world import World

WHY = "more than 5 records of lepton-events-shop were refused within 60 s"


@pytest.fixture
def world() -> World:
    world = World().healthy()
    world.tick(Rules("shop", notify=("log",)), Rules("other"))
    return world


def stop(world: World, *names: str) -> None:
    for name in names:
        world.stopped[name] = {"accept shop": WHY}
        world.states[name] = "not_ready"


def test_it_is_about_the_data_of_its_pipeline_and_told_to_who_looks_after_that(world: World) -> None:
    stop(world, "ingest")
    world.run(1)
    assert [decision.incident.state for decision in world.decisions] == ["suspected", "escalated"]
    seen = world.last()
    assert (seen.symptom, seen.cause, seen.target, seen.pipeline) == (
        "line_stopped", "data:shop", "pipeline:shop", "shop")
    assert all(WHY in decision.alert and decision.notify == ("log",) for decision in world.decisions)
    assert world.commands() == []


def test_two_processes_that_stop_for_one_pipeline_are_one_incident_and_two_pipelines_are_two(world: World) -> None:
    stop(world, "ingest", "predictor-0")
    world.run(2)
    assert len({decision.incident.id for decision in world.decisions}) == 1
    world.stopped["ingest"] = {**world.stopped["ingest"], "keep features other": "more than 5 records"}
    world.run(2)
    assert {decision.incident.cause for decision in world.decisions} == {"data:shop", "data:other"}


def test_it_stays_open_while_another_line_of_the_process_moves_again(world: World) -> None:
    stop(world, "ingest")
    world.stopped["ingest"] = {"accept shop": WHY, "accept other": WHY}
    world.run(1)
    world.stopped["ingest"] = {"accept shop": WHY}
    world.run(1)
    assert [(decision.incident.pipeline, decision.incident.verdict) for decision in world.decisions
            if decision.incident.state == "verified"] == [("other", "the line moves again")]
    world.stopped.clear()
    world.run(1)
    assert (world.last().pipeline, world.last().state) == ("shop", "verified")


def test_a_restart_of_the_process_shows_by_what_its_next_life_says(world: World) -> None:
    stop(world, "ingest")
    world.run(1)
    world.beating["ingest"] = "ingest-2"
    world.states["ingest"] = "starting"
    world.stopped.clear()
    world.run(1)
    assert world.last().state == "escalated"
    world.states["ingest"] = "ready"
    world.run(1)
    assert world.last().state == "verified"


def test_a_watchdog_that_takes_over_does_not_call_it_well_before_it_has_heard(world: World) -> None:
    stop(world, "ingest")
    world.run(1)
    later = World()
    later.tick(Rules("shop"), Announced("ingest", "ingest", "not_ready"), Announced("gateway", "gateway", "ready"))
    later.beating = {"watchdog": "watchdog-2", "gateway": "gateway-1"}
    later.tick(Leads(2, (world.last(),)))
    later.run(1)
    assert later.decisions == []
    later.beating["ingest"] = "ingest-1"
    stop(later, "ingest")
    later.run(2)
    assert later.decisions == []
    later.stopped.clear()
    later.run(1)
    assert later.last().state == "verified"


def test_what_it_decided_replays_from_the_journal(world: World) -> None:
    stop(world, "ingest")
    world.run(3)
    world.stopped.clear()
    world.run(3)
    assert list(replay(world.written())) == world.made
    assert len(world.made) == 2


def test_a_heartbeat_says_which_of_its_failing_checks_are_stopped_lines() -> None:
    message = telemetry_pb2.Telemetry(instance="ingest", failing_checks={
        "accept shop": f"line_stopped: {WHY}", "keep features shop": "no progress for 61 s"})
    assert translate.beat(message, None).stopped == {"accept shop": WHY}
