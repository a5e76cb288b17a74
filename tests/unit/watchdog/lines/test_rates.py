"""A pattern of errors that is new, or far more frequent than usual is a symptom; what is usual or explained is none."""

import random

import pytest

from lepton.clock import FakeClock
from lepton.contracts.pb.telemetry_pb2 import LogPattern, Telemetry
from services.watchdog.core.inputs import Failures, Figures, Incident, Lines
from services.watchdog.core.journal import replay
from services.watchdog.core.lines import rates
from services.watchdog.core.lines.rates import MAX_PATTERNS, Usual
from services.watchdog.flow.observing import Observing
from tests.unit.watchdog.world import World

TRACE = "0af7651916cd43dd8448eb211c80319c"
LEARN_S = 620


@pytest.fixture
def world() -> World:
    return World().healthy()


def log(world: World, count: int, pattern: str = "lepton.bus: % is late", instance: str = "ingest") -> None:
    world.tick(Lines(instance, instance, ((pattern, "error", count, TRACE),)))


def minutes(world: World, counts: list[int], pattern: str = "lepton.bus: % is late", instance: str = "ingest") -> None:
    """A count a minute, told by heartbeats all over it."""
    for count in counts:
        for place in range(12):
            told = count * (place + 1) // 12 - count * place // 12
            if told:
                log(world, told, pattern, instance)
            world.run(5 - 0.25 * bool(told))


def last(world: World) -> Incident:
    return [one.incident for one in world.decisions if one.incident.symptom == "errors"][-1]


def test_a_new_pattern_is_told_with_process_pattern_and_a_trace_and_is_well_when_it_ends(world: World) -> None:
    world.run(LEARN_S)
    minutes(world, [20])
    told = last(world)
    assert (told.cause, told.target, told.state) == ("process:ingest", "instance:ingest", "escalated")
    assert f"error lines 'lepton.bus: % is late' in 60 s, usually none, as in trace {TRACE}" in told.timeline[0].detail
    assert world.commands() == []
    world.run(90)
    assert last(world).state == "verified"
    assert len({one.incident.id for one in world.decisions}) == 1


def test_a_pattern_that_becomes_far_more_frequent_is_told_with_what_is_usual(world: World) -> None:
    minutes(world, [6, 5, 7, 6] * 6)
    assert world.decisions == []
    minutes(world, [60, 60])
    assert "60 error lines" in last(world).timeline[0].detail
    assert "usually 6." in last(world).timeline[0].detail


def test_what_always_was_and_what_is_rare_is_no_symptom(world: World) -> None:
    minutes(world, [120, 118, 125, 119, 122] * 6)
    for _ in range(8):
        log(world, 1, "lepton.store: one came late")
        world.run(20)
    assert world.decisions == []


def test_a_load_that_comes_in_waves_and_bursts_that_are_usual_are_no_symptom(world: World) -> None:
    rng = random.Random(7)
    minutes(world, [rng.choice((0, 0, 0, 40)) + rng.randint(0, 3) for _ in range(40)])
    assert world.decisions == []
    minutes(world, [20 + 10 * abs(10 - minute % 20) // 10 for minute in range(30)], "lepton.bus: slow", "gateway")
    assert world.decisions == []


def test_while_a_process_is_away_others_may_complain(world: World) -> None:
    world.run(LEARN_S)
    del world.beating["predictor-0"]
    for _ in range(12):
        log(world, 5, "gateway: no predictor", "gateway")
        world.run(1)
    world.beating["predictor-0"] = "predictor-0-2"
    world.states["predictor-0"] = "starting"
    for _ in range(12):
        log(world, 5, "gateway: no predictor", "gateway")
        log(world, 9, "predictor: no model yet", "predictor-0")
        world.run(1)
    world.states["predictor-0"] = "ready"
    for _ in range(12):
        log(world, 5, "gateway: no predictor", "gateway")
        world.run(1)
    world.run(120)
    assert {one.incident.symptom for one in world.decisions} == {"silence"}


def test_while_the_bus_is_away_nobody_is_blamed_for_saying_so(world: World) -> None:
    world.run(LEARN_S)
    beating, world.beating = world.beating, {}
    for _ in range(20):
        log(world, 50, "aiokafka: no node")
        world.run(1)
    world.beating = beating
    for _ in range(10):
        log(world, 5, "aiokafka: no node")
        world.run(1)
    world.run(120)
    assert "errors" not in {one.incident.symptom for one in world.decisions}


def test_nothing_is_new_to_who_has_just_begun_to_listen(world: World) -> None:
    minutes(world, [30] * 9)
    assert world.decisions == []


def test_what_is_reported_as_a_failure_is_not_told_twice_and_refused_records_are_dead_letters(world: World) -> None:
    world.run(LEARN_S)
    for _ in range(20):
        world.tick(Failures("trainer", "trainer", (("bug", 8, "KeyError"),)),
                   Lines("trainer", "trainer", (("bug", "error", 8, ""), ("refused_record", "error", 30, ""))))
        world.run(2)
    assert len({one.incident.id for one in world.decisions}) == 1


def test_what_stays_so_for_long_is_usual(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "ADOPT_S", 600.0)
    world.run(LEARN_S)
    minutes(world, [50] * 30)
    assert last(world).state == "verified"
    assert len({one.incident.id for one in world.decisions}) == 1


def test_patterns_without_end_are_forgotten_and_one_that_went_leaves_nothing(world: World) -> None:
    for place in range(3 * MAX_PATTERNS):
        log(world, 1, f"library: line {place}")
    lines = world.engine.state.lines
    assert len(lines._patterns["ingest"]) == MAX_PATTERNS
    world.run(120)
    assert not lines._hot
    lines.gone("ingest")
    assert not lines._patterns


def test_errors_replay_to_the_same_decisions(world: World) -> None:
    world.run(LEARN_S)
    minutes(world, [20])
    assert list(replay(world.written())) == world.made


def test_chance_alone_is_no_surprise() -> None:
    """Counts about a mean of 4, a million windows of them, raise no alarm; ten times the mean does."""
    rng, usual = random.Random(3), Usual()
    for _ in range(200):
        usual.learn(sum(rng.random() < 0.04 for _ in range(100)), 1)
    assert 3 < usual.mean < 5
    # Poisson with mean 4 reaches 21 once in a billion windows.
    assert not usual.surprising(21)
    assert usual.surprising(40)


def test_patterns_of_a_heartbeat_reach_the_core() -> None:
    observing = Observing("watchdog", FakeClock())
    observing.heartbeat(Telemetry(instance="ingest", service="ingest", boot_id="b", patterns=[
        LogPattern(pattern="x" * 500, level="error", count=3, trace_id=TRACE)]))
    assert Lines("ingest", "ingest", (("x" * 200, "error", 3, TRACE),)) in observing.take()


def test_who_waits_for_the_database_may_say_so(world: World) -> None:
    world.run(LEARN_S)
    for _ in range(20):
        for instance in ("ingest", "trainer"):
            world.tick(Figures(instance, instance, world.beating[instance], (("lepton_database_seconds", "", 6.0),)))
            log(world, 3, "pymongo: timed out", instance)
        world.run(1)
    assert {one.incident.symptom for one in world.decisions} == {"slow_dependency"}
