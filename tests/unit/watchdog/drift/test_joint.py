"""Drift that no field shows by itself, rows that come in waves, and what of both is no drift."""

import math
import random
from itertools import combinations

import pytest

from lepton.contracts.pb.quality_pb2 import JointQuality, QualitySummary
from services.watchdog.core.drift.distances import psi
from services.watchdog.core.drift.joint import Joint
from services.watchdog.core.drift.usual import MAX_WINDOWS, Usual
from services.watchdog.core.journal import replay
from services.watchdog.core.summaries.counts import FieldRows, JointRows, RowsSeen, SourceRows
from services.watchdog.flow import translate
from tests.unit.watchdog.drift.test_drift import numbers
from tests.unit.watchdog.world import RULES, World, model

FIELDS = ("a", "b", "c")
ROWS = 60


@pytest.fixture
def chance() -> random.Random:
    return random.Random(7)


@pytest.fixture
def world() -> World:
    world = World().healthy()
    world.tick(RULES, model(1))
    return world


def joint(chance: random.Random, usual: float = 0.0, first: float | None = None, fields: tuple[str, ...] = FIELDS,
          rows: int = ROWS) -> JointRows:
    """Correlations as they are drawn where all pairs have `usual`, and the first pair `first`."""
    real = [usual] * math.comb(len(fields), 2)
    real[0] = usual if first is None else first
    drawn = (math.tanh(chance.gauss(math.atanh(one), math.sqrt(1.06 / (rows - 3)))) for one in real)
    return JointRows(fields, rows, tuple(drawn))


def look(found: Joint, seen: JointRows) -> None:
    found.see(seen.fields, seen.rows, seen.correlations)


def show(world: World, times: int, chance: random.Random, usual: float = 0.0, first: float | None = None) -> None:
    for _ in range(times):
        world.tick(RowsSeen("phishing", (SourceRows("s", ROWS, 0, 0, 0),), joint=joint(chance, usual, first)))
        world.run(0.5)


def test_fields_that_go_together_as_they_did_never_drift(world: World, chance: random.Random) -> None:
    show(world, 400, chance, usual=0.5)
    assert world.decisions == []


def test_a_pair_that_goes_together_otherwise_is_named_with_what_was_usual(world: World, chance: random.Random) -> None:
    show(world, 60, chance)
    show(world, 20, chance, first=0.7)
    assert (world.last().symptom, world.last().cause) == ("drift", "data:phishing")
    told = world.last().timeline[0].detail
    assert "a with b (rank correlation +0." in told
    assert "is usual)" in told
    assert "b with c" not in told
    show(world, 40, chance)
    assert world.last().state == "verified"


def test_a_pair_that_turns_a_little_or_for_a_moment_is_no_drift(world: World, chance: random.Random) -> None:
    show(world, 60, chance)
    show(world, 60, chance, first=0.15)
    show(world, 4, chance, first=0.9)
    show(world, 20, chance)
    assert world.decisions == []


def test_many_pairs_that_turn_a_little_are_one_drift(chance: random.Random) -> None:
    many = tuple(f"x{place}" for place in range(9))
    found = Joint()
    for _ in range(60):
        look(found, joint(chance, fields=many))
    found.settle(200)
    for _ in range(60):
        look(found, joint(chance, fields=many))
    assert found.moved == 0.0
    found.turn(learn=True)
    for _ in range(60):
        look(found, joint(chance, usual=0.18, fields=many))
    assert found.moved > 0.25
    assert found.changed() == {}


def test_many_pairs_that_turn_a_little_are_one_incident_that_names_no_pair_and_ends(
        world: World, chance: random.Random) -> None:
    many = tuple(f"x{place}" for place in range(9))

    def show_all(times: int, usual: float) -> None:
        for _ in range(times):
            world.tick(RowsSeen("phishing", (SourceRows("s", ROWS, 0, 0, 0),), joint=joint(chance, usual, fields=many)))
            world.run(0.5)

    show_all(100, 0.0)
    assert world.decisions == []
    show_all(40, 0.18)
    assert (world.last().symptom, world.last().cause) == ("drift", "data:phishing")
    told = world.last().timeline[0].detail
    assert "fields together (joint score " in told
    assert " with " not in told
    show_all(80, 0.0)
    assert world.last().state == "verified"


def test_what_hangs_on_the_rows_before_is_no_more_certain_than_that(chance: random.Random) -> None:
    """Correlations that wander by themselves are seldom surprising, however many rows an interval has."""
    found, level, least = Joint(), 0.0, 1.0
    for place in range(240):
        level = 0.9 * level + chance.gauss(0, 0.1)
        found.see(("a", "b"), 500, (math.tanh(level),))
        if place == 119:
            found.settle(200)
        if place >= 120:
            least = min(least, *found.chances().values())
            found.turn(learn=False)
    assert found.effects[0] > 5
    assert least > 1e-4


def test_fields_of_another_version_are_not_compared(chance: random.Random) -> None:
    found = Joint()
    for _ in range(20):
        look(found, joint(chance))
    found.settle(200)
    look(found, joint(chance, fields=("a", "b", "d"), first=0.9))
    found.see(FIELDS, 5, (0.9, 0.9, 0.9))
    found.see(FIELDS, 50, (0.9,))
    assert found.chances() == {}


def test_what_ingest_tells_of_pairs_reaches_the_core() -> None:
    summary = QualitySummary(pipeline="shop", joint=JointQuality(fields=FIELDS, rows=50, correlations=[1 / 3, 0, -1]))
    assert translate.rows(summary, 0.0).joint == JointRows(FIELDS, 50, (0.333, 0.0, -1.0))


def test_joint_drift_replays_to_the_same_decisions(world: World, chance: random.Random) -> None:
    show(world, 60, chance)
    show(world, 20, chance, first=0.7)
    assert list(replay(world.written())) == world.made != []


def test_rows_that_come_in_waves_are_no_drift_and_are_when_they_leave_them(world: World, chance: random.Random) -> None:
    def waves(first: int, times: int, moved: float) -> None:
        for place in range(first, first + times):
            middle = math.sin(2 * math.pi * place / 4) + moved
            fields: tuple[FieldRows, ...] = (numbers("x", lambda at=middle: chance.gauss(at, 1)),)  # type: ignore[misc]
            world.tick(RowsSeen("phishing", (SourceRows("s", 250, 0, 0, 0),), 0.0, fields))
            world.run(1)

    waves(0, 100, 0.0)
    assert world.decisions == []
    waves(100, 16, 4.0)
    assert "x (PSI" in world.last().timeline[0].detail


def test_independent_rows_count_in_full_and_those_in_waves_do_not(chance: random.Random) -> None:
    waved, independent = Usual(), Usual()
    for place in range(100):
        waved.learn([150.0, 50.0] if place % 2 else [50.0, 150.0])
    assert len(waved.windows) == MAX_WINDOWS
    assert waved.effect(ordered=False) > 20
    assert waved.apart(psi) > 0.25
    for _ in range(40):
        ones = float(sum(chance.random() < 0.5 for _ in range(200)))
        independent.learn([ones, 200 - ones])
    assert independent.effect(ordered=False) < 2
    assert independent.apart(psi) == 0.0


def test_parts_are_put_together_to_windows_and_the_rest_joins_the_last() -> None:
    usual = Usual()
    usual.learn_all([[30.0, 20.0]] * 9, 200)
    assert [sum(one) for one in usual.windows] == [200.0, 250.0]
    assert usual.total() == [270.0, 180.0]


def test_pairs_are_named_in_the_order_of_their_figures(chance: random.Random) -> None:
    found = Joint()
    for _ in range(20):
        look(found, joint(chance))
    found.settle(200)
    found.see(FIELDS, 400, (0.0, 0.8, 0.0))
    assert list(found.chances()) == [f"{one} with {other}" for one, other in combinations(FIELDS, 2)]
    assert list(found.changed()) == ["a with c"]
