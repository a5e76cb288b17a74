"""Fields and answers that drift, against what only looks like it; what is told, done, and when it is well again."""

import random
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise

import pytest
from msgspec.structs import replace

from services.watchdog.core.inputs import Predicted
from services.watchdog.core.journal import replay
from services.watchdog.core.summaries.counts import FieldRows, RowsSeen, SourceRows
from services.watchdog.core.thresholds.limits import DriftRule
from tests.unit.watchdog.world import RULES, World, model

ROWS = 250
Draw = Callable[[], float]


@pytest.fixture
def chance() -> random.Random:
    return random.Random(7)


@pytest.fixture
def world() -> World:
    world = World().healthy()
    world.tick(RULES, model(1))
    return world


def numbers(name: str, draw: Draw) -> FieldRows:
    """What ingest tells of so many numbers: bins between the outermost percentiles, one for each tail."""
    values = sorted(draw() for _ in range(ROWS))
    mean = sum(values) / ROWS
    spread = (sum((value - mean) ** 2 for value in values) / ROWS) ** 0.5
    first, last = values[ROWS // 100], values[-ROWS // 100]
    inner = [first + (last - first) * part / 18 for part in range(19)]
    edges = [values[0], *(edge for edge in sorted(set(inner)) if values[0] < edge < values[-1]), values[-1]]
    heights = [0, *(bisect_right(values, edge) for edge in edges[1:])]
    counts = [float(high - low) for low, high in pairwise(heights)]
    return FieldRows(name, 0, 0, mean, spread, (tuple(edges), tuple(counts)), (), ROWS)


def names(name: str, counts: dict[str, int]) -> FieldRows:
    return FieldRows(name, top=tuple(counts.items()), counted=sum(counts.values()))


def show(world: World, times: int, make: Callable[[], tuple[FieldRows, ...]]) -> None:
    """Summaries of two seconds each."""
    for _ in range(times):
        world.tick(RowsSeen("phishing", (SourceRows("s", ROWS, 0, 0, 0),), 0.0, make()))
        world.run(1.75)


def five(chance: random.Random, moved: float = 0.0, wider: float = 1.0) -> Callable[[], tuple[FieldRows, ...]]:
    """Five fields, the first of which is moved or wider."""
    def make() -> tuple[FieldRows, ...]:
        return (numbers("x0", lambda: chance.gauss(moved, wider)),
                *(numbers(f"x{place}", lambda: chance.gauss(0, 1)) for place in range(1, 5)))
    return make


def test_rows_that_stay_as_they_are_never_drift(world: World, chance: random.Random) -> None:
    show(world, 200, five(chance))
    assert world.decisions == []


def test_where_any_distance_counts_only_what_is_not_chance_does(world: World, chance: random.Random) -> None:
    world.tick(replace(RULES, drift=DriftRule(psi=0.001, windows=1)))
    show(world, 100, five(chance))
    assert world.decisions == []
    show(world, 6, five(chance, moved=0.4))
    assert "x0" in world.last().timeline[0].detail


def test_a_field_that_moves_is_named_and_only_that_one(world: World, chance: random.Random) -> None:
    show(world, 16, five(chance))
    show(world, 12, five(chance, moved=1.2))
    assert (world.last().symptom, world.last().cause, world.last().state) == ("drift", "data:phishing", "escalated")
    told = world.last().timeline[0].detail
    assert "x0 (PSI" in told
    assert "x1" not in told
    assert world.commands() == []


def test_a_field_that_only_becomes_wider_is_found_too(world: World, chance: random.Random) -> None:
    show(world, 16, five(chance))
    show(world, 12, five(chance, wider=2.5))
    assert "x0" in world.last().timeline[0].detail


def test_a_single_odd_window_is_no_drift(world: World, chance: random.Random) -> None:
    show(world, 16, five(chance))
    show(world, 2, five(chance, moved=2.0))
    show(world, 20, five(chance))
    assert world.decisions == []


def test_a_slow_drift_of_the_mean_is_found(world: World, chance: random.Random) -> None:
    show(world, 16, five(chance))
    for step in range(100):
        show(world, 1, five(chance, moved=step / 70))
    assert world.last().symptom == "drift"


def test_a_small_move_of_the_mean_after_long_calm_is_found_by_what_the_mean_is_since_then(
        world: World, chance: random.Random) -> None:
    """No index is as large as this one asks for, and over all rows seen the mean hardly moved."""
    def only(moved: float) -> Callable[[], tuple[FieldRows, ...]]:
        return lambda: (numbers("x0", lambda: chance.gauss(moved, 1)),)

    world.tick(replace(RULES, drift=DriftRule(psi=1.0)))
    show(world, 70, only(0.0))
    assert world.decisions == []
    show(world, 28, only(0.6))
    assert (world.last().symptom, world.last().cause) == ("drift", "data:phishing")
    told = world.last().timeline[0].detail
    assert "x0 (its mean moved by +0." in told
    assert "PSI" not in told
    show(world, 24, only(0.0))
    assert world.last().state == "verified"


def test_drift_that_goes_is_well(world: World, chance: random.Random) -> None:
    show(world, 16, five(chance))
    show(world, 12, five(chance, moved=1.5))
    show(world, 60, five(chance))
    assert world.last().state == "verified"


def test_a_category_whose_shares_change_or_that_is_new_is_drift(world: World) -> None:
    show(world, 16, lambda: (names("colour", {"red": 100, "blue": 100, "green": 50}),))
    show(world, 30, lambda: (names("colour", {"red": 105, "blue": 95, "green": 50}),))
    assert world.decisions == []
    show(world, 8, lambda: (names("colour", {"red": 60, "pink": 190}),))
    assert "colour" in world.last().timeline[0].detail


def test_a_pipeline_that_says_so_is_retrained_and_the_rows_as_they_are_now_are_the_reference(
        world: World, chance: random.Random) -> None:
    world.tick(replace(RULES, drift=DriftRule(then="retrain")))
    show(world, 16, five(chance))
    show(world, 12, five(chance, moved=1.5))
    (command,) = world.commands()
    assert (command.action, command.target) == ("retrain", "model:phishing")
    assert command.arguments["max_rows"] == "600"
    world.tick(model(2, previous=1))
    world.run(2)
    assert world.last().state == "verified"
    show(world, 60, five(chance, moved=1.5))
    assert world.last().state == "verified"
    assert len(world.commands()) == 1


def test_a_retraining_that_the_gate_rejects_is_told(world: World, chance: random.Random) -> None:
    world.tick(replace(RULES, drift=DriftRule(then="retrain")))
    show(world, 16, five(chance))
    show(world, 12, five(chance, moved=1.5))
    world.reject(0, "run-1")
    assert "rejected" in world.last().verdict


def test_answers_that_drift_are_told_and_a_new_version_begins_anew(world: World) -> None:
    def answer(version: int, yes: int, times: int) -> None:
        for _ in range(times):
            world.tick(Predicted("phishing", version, (("false", 100 - yes), ("true", yes))))
            world.run(0.75)

    answer(1, 50, 40)
    answer(2, 80, 40)
    assert world.decisions == []
    answer(2, 20, 20)
    assert (world.last().symptom, world.last().cause) == ("answer_drift", "model:phishing")
    assert "version 2" in world.last().timeline[0].detail


def test_numbers_that_a_model_answers_with_drift_too(world: World, chance: random.Random) -> None:
    for middle, times in ((0.0, 150), (1.5, 80)):
        for _ in range(times):
            world.tick(Predicted("phishing", 1, (), tuple(chance.gauss(middle, 1) for _ in range(40))))
        if not middle:
            assert world.decisions == []
    assert world.last().symptom == "answer_drift"


def test_answers_that_drift_because_their_fields_did_are_not_blamed(world: World, chance: random.Random) -> None:
    show(world, 16, five(chance))
    for _ in range(30):
        world.tick(Predicted("phishing", 1, (("false", 50), ("true", 50))))
    show(world, 12, five(chance, moved=1.5))
    for _ in range(30):
        world.tick(Predicted("phishing", 1, (("false", 90), ("true", 10))))
    world.run(2)
    assert {decision.incident.symptom for decision in world.decisions} == {"drift"}


def test_drift_replays_to_the_same_decisions(world: World, chance: random.Random) -> None:
    show(world, 16, five(chance))
    show(world, 12, five(chance, moved=1.5))
    assert list(replay(world.written())) == world.made
