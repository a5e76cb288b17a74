"""Who hangs on whom is what processes told; a root is blamed and not who hangs on it, in circles too."""

import pytest

from services.watchdog.core.calling.graph import FORGET_S, LOOK_EVERY_S
from services.watchdog.core.diagnosis.ranking import bears, root
from services.watchdog.core.inputs import Announced, Called, Decision, Failures
from services.watchdog.core.journal import replay
from services.watchdog.core.symptom import Symptom
from tests.unit.watchdog.world import SERVICES, World

ROWS = "lepton-features-shop"


def called(caller: str, *calls: tuple[str, str], failed: int = 0, service: str = "") -> Called:
    return Called(caller, service or caller.partition("-")[0],
                  tuple((way, callee, 10, failed, 0.5) for way, callee in calls))


def failing(about: str) -> Symptom:
    return Symptom("failures", about, f"{about} fails")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """With a second predictor and a second ingest."""
    for name in ("predictor-1", "ingest-1"):
        monkeypatch.setitem(SERVICES, name, name.partition("-")[0])
    world = World().healthy()
    world.tick(Announced("predictor-0", "predictor", "ready", address="here:80"),
               Announced("predictor-1", "predictor", "ready", address="here:81"))
    return world


def test_before_anything_is_told_each_service_hangs_on_what_is_shipped(world: World) -> None:
    graph = world.engine.state.graph
    assert not graph.observed
    assert {"predictor-0", "predictor-1", "predictor", "broker", "database"} == set(graph.below("gateway"))
    assert bears(failing("predictor-0"), failing("gateway"), world.engine.state)
    assert not bears(failing("trainer"), failing("gateway"), world.engine.state)
    assert root(failing("gateway"), [failing("predictor-0")], world.engine.state) == ""


def test_a_root_that_the_shipped_table_does_not_know_is_named_with_what_hangs_on_it(world: World) -> None:
    world.tick(called("gateway", ("request", "here:81"), ("write", "broker")),
               called("predictor-1", ("request", "there:9"), ("database", "database")),
               called("predictor-0", ("database", "database")),
               Announced("store-0", "store", "ready", address="there:9"))
    state = world.engine.state
    assert state.graph.below("gateway") == {"broker": 1, "predictor-1": 1, "database": 2, "store-0": 2}
    seen = [failing("gateway"), failing("predictor-0"), failing("predictor-1"), failing("store-0")]
    assert root(failing("gateway"), seen, state) == "root store-0, on which hang gateway, predictor-1"
    assert root(failing("store-0"), seen, state) == "root store-0, on which hang gateway, predictor-1"
    assert root(failing("predictor-0"), seen, state) == ""
    assert bears(failing("store-0"), failing("gateway"), state)
    assert not bears(failing("predictor-0"), failing("gateway"), state), "it is not called"
    assert not bears(failing("gateway"), failing("store-0"), state)


def test_who_reads_a_topic_hangs_on_who_writes_it_a_second_ingest_too(world: World) -> None:
    world.tick(called("predictor-1", ("read", ROWS)), called("ingest", ("write", ROWS), ("database", "database")),
               called("ingest-1", ("write", ROWS)))
    below = world.engine.state.graph.below("predictor-1")
    assert below == {"broker": 1, ROWS: 1, "ingest": 2, "ingest-1": 2, "database": 3}
    assert root(failing("predictor-1"), [failing("ingest-1")], world.engine.state) == (
        "root ingest-1, on which hang predictor-1")


def test_a_process_that_has_told_nothing_yet_does_as_its_siblings(world: World) -> None:
    world.tick(called("predictor-0", ("request", "there:9")))
    graph = world.engine.state.graph
    assert graph.below("predictor-1") == graph.below("predictor-0") == {"there:9": 1}
    world.tick(Announced("store-0", "store", "ready", address="there:9"))
    assert "store-0" in graph.below("predictor-1"), "whoever is announced at an address is meant by it"


def test_an_edge_that_is_not_seen_for_an_hour_is_forgotten(world: World) -> None:
    world.tick(called("gateway", ("request", "here:81"), ("write", "lepton-events-shop")))
    graph = world.engine.state.graph
    world.tick(gap_s=FORGET_S / 2)
    world.tick(called("gateway", ("request", "here:80")))
    world.tick(gap_s=FORGET_S / 2)
    world.tick(gap_s=LOOK_EVERY_S)
    assert set(graph.below("gateway")) >= {"predictor-0"}
    assert "predictor-1" not in graph.below("gateway")
    assert "gateway" not in graph.below("lepton-events-shop")
    world.tick(gap_s=FORGET_S + LOOK_EVERY_S)
    assert not graph.observed
    assert "predictor-1" in graph.below("gateway"), "what is shipped holds again"


def test_in_a_circle_the_nearer_side_is_the_root_and_nothing_hangs_on_itself(world: World) -> None:
    world.tick(called("gateway", ("request", "here:81"), ("write", "lepton-events-shop")),
               called("ingest", ("read", "lepton-events-shop"), ("write", ROWS)),
               called("predictor-1", ("read", ROWS)))
    graph, state = world.engine.state.graph, world.engine.state
    assert "gateway" not in graph.below("gateway")
    assert graph.hangs_on("gateway", "predictor-1")
    assert not graph.hangs_on("predictor-1", "gateway")
    seen = [failing("gateway"), failing("predictor-1")]
    assert root(failing("gateway"), seen, state) == "root predictor-1, on which hang gateway"
    assert root(failing("predictor-1"), seen, state) == "root predictor-1, on which hang gateway"


def test_two_that_call_each_other_bear_on_each_other_and_neither_is_the_root(world: World) -> None:
    world.tick(called("gateway", ("request", "here:81")), called("predictor-1", ("request", "front:1")),
               Announced("gateway", "gateway", "ready", address="front:1"))
    state = world.engine.state
    assert bears(failing("gateway"), failing("predictor-1"), state)
    assert bears(failing("predictor-1"), failing("gateway"), state)
    assert root(failing("gateway"), [failing("predictor-1")], state) == ""


def test_parts_that_nobody_knows_hang_on_nothing(world: World) -> None:
    world.tick(called("gateway", ("request", "nowhere:1")))
    state = world.engine.state
    assert state.graph.below("ghost") == state.graph.below("nowhere:1") == {}
    assert root(failing("ghost"), [failing("gateway")], state) == ""
    assert not bears(failing("ghost"), failing("gateway"), state)


def complaints(decisions: list[Decision]) -> dict[str, str]:
    return {one.incident.target.removeprefix("instance:"): one.incident.timeline[1].detail for one in decisions
            if one.incident.symptom == "failures"}


def test_a_caller_whose_calls_fail_opens_no_incident_of_its_own_and_the_day_replays(world: World) -> None:
    told = [Failures(name, service, (("bug", 80, "it broke"),)) for name, service in (
        ("predictor-1", "predictor"), ("gateway", "gateway"))]
    world.tick(told[0])
    world.run(2)
    world.tick(called("gateway", ("request", "here:81"), failed=3), told[1])
    world.run(2)
    assert set(complaints(world.decisions)) == {"predictor-1"}
    world.tick(called("gateway", ("request", "here:81")))
    world.run(70)
    world.tick(told[1])
    world.run(2)
    assert set(complaints(world.decisions)) == {"predictor-1", "gateway"}, "calls do not fail any more"
    assert list(replay(world.written())) == world.made


def test_of_two_that_complain_at_once_the_caller_says_who_the_root_is_and_waits(world: World) -> None:
    world.tick(called("gateway", ("request", "here:81"), failed=3),
               *(Failures(name, service, (("bug", 80, "it broke"),)) for name, service in (
                   ("predictor-1", "predictor"), ("gateway", "gateway"))))
    world.run(2)
    said = complaints(world.decisions)
    assert said["predictor-1"].endswith("; root predictor-1, on which hang gateway")
    last = {one.incident.target: one.incident.state for one in world.decisions}
    assert last["instance:predictor-1"] == "commanded"
    assert last.get("instance:gateway") in (None, "suspected")
    assert list(replay(world.written())) == world.made
