"""Shares and numbers of rows that are not as usual, and everyday life that must not alarm."""

import math
import random

import pytest

from lepton.contracts.pb.quality_pb2 import FieldQuality, Histogram, QualitySummary, SourceQuality, ValueCount
from lepton.contracts.pipeline import parse
from services.watchdog.core.summaries.counts import FieldRows, RowsSeen, SourceRows
from services.watchdog.flow import translate
from tests.unit.watchdog.world import RULES, World, model

EVERY_S = 2.0


@pytest.fixture
def world() -> World:
    world = World().healthy()
    world.tick(RULES, model(1))
    return world


def show(world: World, times: int, rows: int = 100, *, missing: int = 0, invalid: int = 0, rejected: int = 0,
         duplicates: int = 0, late: int = 0) -> None:
    for _ in range(times):
        world.tick(RowsSeen("phishing", (SourceRows("a", rows - rejected, rejected, 0, 0), SourceRows("b", 1, 0, 0, 0)),
                            0.0, (FieldRows("x", missing, invalid),), duplicates, late))
        world.run(EVERY_S - 0.25)


@pytest.mark.parametrize(("what", "count"), [("missing", 40), ("invalid", 40), ("duplicates", 60), ("late", 50),
                                             ("rejected", 28)])
def test_a_share_that_grows_is_told_with_what_is_usual_and_well_when_it_goes(world: World, what: str,
                                                                            count: int) -> None:
    show(world, 20, **{what: 4})
    show(world, 8, **{what: count})
    assert (world.last().symptom, world.last().cause) == ("unusual_rows", "data:phishing")
    assert what in world.last().timeline[0].detail
    assert "are usual" in world.last().timeline[0].detail
    show(world, 12, **{what: 4})
    assert world.last().state == "verified"


def test_what_was_always_so_is_usual(world: World) -> None:
    show(world, 60, missing=60, late=30)
    assert world.decisions == []


def test_a_share_that_grows_a_little_or_for_a_moment_is_no_symptom(world: World) -> None:
    show(world, 20, missing=4)
    show(world, 20, missing=15)
    show(world, 2, missing=80)
    show(world, 20, missing=15)
    assert world.decisions == []


def test_five_times_the_rows_is_a_surge_and_ends(world: World) -> None:
    show(world, 310, 100)
    assert world.decisions == []
    show(world, 60, 800)
    assert (world.last().symptom, world.last().cause) == ("surge", "surge:phishing")
    show(world, 60, 100)
    assert world.last().state == "verified"


def test_a_pipeline_that_dries_up_is_told(world: World) -> None:
    show(world, 310, 100)
    world.run(80)
    assert (world.last().symptom, world.last().cause) == ("no_rows", "data:phishing")
    show(world, 40, 100)
    assert world.last().state == "verified"


def test_rows_that_stop_with_a_process_are_its_effect(world: World) -> None:
    show(world, 310, 100)
    del world.beating["ingest"]
    world.run(61)
    assert {decision.incident.symptom for decision in world.decisions} == {"silence"}


def test_what_ingest_tells_reaches_the_core_with_its_fields() -> None:
    summary = QualitySummary(
        pipeline="shop", duplicates=2, content_duplicates=1, late=3,
        sources=[SourceQuality(source="a", accepted=10, rejected=1)],
        fields=[FieldQuality(field="x", present=9, missing=1, mean=1 / 3, std=0.5, sketched=9,
                             histogram=Histogram(edges=[0, 1, 2], counts=[4, 5])),
                FieldQuality(field="c", present=10, sketched=10, outliers=2, quarantined=True, incident_id="inc-1",
                             top=[ValueCount(value="red", count=7)])])
    assert translate.rows(summary, 0.0) == RowsSeen(
        "shop", (SourceRows("a", 10, 1, 0, 0),), 0.0,
        (FieldRows("x", 1, 0, 0.333333, 0.5, ((0.0, 1.0, 2.0), (4.0, 5.0)), (), 9, 9),
         FieldRows("c", top=(("red", 7),), histogram=((), ()), counted=10, present=10, outliers=2,
                   quarantined=True, incident_id="inc-1")), 3, 3)


def test_thresholds_of_a_pipeline_reach_the_core() -> None:
    spec = parse("""
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events: {partitions: 1, fields: {x: {type: float}}}
watch:
  shares: {missing: 0.4}
  volume: {high: 9, over_s: 30}
  drift: {psi: 0.5, then: retrain}
""")
    rules = translate.rules(spec)
    assert (rules.shares.missing, rules.volume.high, rules.volume.over_s) == (0.4, 9, 30)
    assert (rules.drift.psi, rules.drift.then, rules.drift.rows) == (0.5, "retrain", 200)


def test_a_pipeline_that_is_used_now_and_then_is_not_missed(world: World) -> None:
    show(world, 100, 100)
    world.run(300)
    assert world.decisions == []


def test_two_days_pass_in_waves_without_an_alarm(world: World) -> None:
    chance = random.Random(5)
    day_s = 7_200.0
    for number in range(int(2 * day_s / 10)):
        wave = 1 + 0.6 * math.sin(2 * math.pi * number * 10 / day_s)
        rows = round(100 * wave * chance.uniform(0.8, 1.2))
        world.tick(RowsSeen("phishing", (SourceRows("a", rows, 0, 0, 0),), 0.0, (FieldRows("x", rows // 20),)))
        world.tick(gap_s=0.9)
        for _ in range(9):
            world.tick(gap_s=0.95)
    assert world.decisions == []
