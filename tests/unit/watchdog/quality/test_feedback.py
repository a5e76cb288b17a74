"""Feedback that contradicts a version more than usual is told, or undone; what is usual, or seldom, is not."""

import math
import random

import pytest
from msgspec.structs import replace

from lepton.clock import FakeClock
from lepton.contracts.arrow.predictions import Served
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pipeline import InvalidPipeline, parse
from services.watchdog.core.inputs import Answered, Judged, Predicted, RunEnded
from services.watchdog.core.journal import replay
from services.watchdog.core.thresholds.limits import Ladders
from services.watchdog.flow.observing import Observing
from tests.unit.watchdog.house import pipeline
from tests.unit.watchdog.world import RULES, World, labels, model, rows

UNWATCHED = replace(RULES, quality=None)
LONG_S = 400.0


@pytest.fixture
def world() -> World:
    """Version 1 has answered for a while; people contradict one answer in ten."""
    world = World().healthy()
    world.tick(UNWATCHED, model(1))
    say(world, 1, 270, 30)
    assert world.decisions == []
    return world


def say(world: World, version: int, right: int, wrong: int, told: bool = True) -> None:
    mixed = [replace(row, told=told) for row in labels(version, right, wrong)]
    random.Random(7).shuffle(mixed)
    for start in range(0, len(mixed), 10):
        world.tick(*mixed[start:start + 10])


def test_a_new_champion_that_people_contradict_is_rolled_back_and_proven_by_what_they_say_then(world: World) -> None:
    world.tick(model(2, previous=1))
    say(world, 2, 60, 50)
    assert world.orders() == [("roll_back", "model:phishing")]
    first = world.decisions[0].incident
    assert (first.symptom, first.cause) == ("bad_feedback", "model:phishing")
    assert "answers of version 2 where 9% are usual" in first.timeline[0].detail
    assert first.timeline[1].detail.startswith("parameters ")
    assert world.commands()[0].arguments == {"from_version": "2"}
    world.tick(Answered(world.commands()[0].command_id, "done"), model(1, revision=3))
    say(world, 1, 40, 4)
    assert world.last().state == "commanded"
    say(world, 1, 10, 1)
    assert world.last().state == "verified"
    assert "version 1" in world.last().verdict
    assert list(replay(world.written())) == world.made


def test_an_old_champion_that_people_contradict_is_told_to_a_person_and_well_when_they_stop(world: World) -> None:
    world.run(LONG_S)
    say(world, 1, 60, 50)
    assert (world.last().state, world.commands()) == ("escalated", [])
    say(world, 1, 100, 10)
    assert world.last().state == "verified"


def test_a_roll_back_after_which_people_go_on_contradicting_is_told_to_a_person(world: World) -> None:
    world.tick(model(2, previous=1))
    say(world, 2, 60, 50)
    world.tick(model(1, revision=3))
    say(world, 1, 60, 50)
    assert world.last().state == "escalated"
    assert len(world.commands()) == 1


def test_the_ladder_is_the_pipelines_and_a_run_that_fails_ends_it() -> None:
    world = World().healthy()
    world.tick(replace(UNWATCHED, ladders=Ladders(bad_feedback=("retrain",))), model(1))
    say(world, 1, 270, 30)
    world.tick(model(2, previous=1))
    say(world, 2, 60, 50)
    assert world.orders() == [("retrain", "model:phishing")]
    world.tick(RunEnded("phishing", "run", "failed", "why", world.commands()[0].command_id))
    assert {decision.incident.state for decision in world.decisions if decision.incident.symptom == "bad_feedback"} == {
        "suspected", "commanded", "escalated"}
    with pytest.raises(InvalidPipeline, match="bad_feedback"):
        parse("apiVersion: lepton/v1\nkind: Pipeline\nmetadata: {name: shop}\nevents: {fields: {x: {type: float}}}\n"
              "heal: {ladders: {bad_feedback: [fall_back]}}\n")


def test_a_pipeline_that_watches_its_quality_judges_the_same_outcomes_there(world: World) -> None:
    world.tick(model(2, previous=1))
    say(world, 2, 60, 50)
    world.tick(RULES)
    assert world.last().state == "verified"
    assert "watched by labels" in world.last().verdict
    world.tick(model(3, previous=2))
    say(world, 3, 80, 40)
    assert "bad_feedback" not in {decision.incident.symptom for decision in world.decisions[3:]}


def test_broken_data_that_is_dealt_with_explains_it(world: World) -> None:
    for _ in range(2):
        world.tick(rows(good=2, broken=95))
        world.run(1.0)
    say(world, 1, 60, 50)
    assert {decision.incident.symptom for decision in world.decisions} == {"broken_data"}


# What must not alarm.

def test_a_version_that_was_always_contradicted_that_often_is_as_usual() -> None:
    world = World().healthy()
    world.tick(UNWATCHED, model(1))
    say(world, 1, 200, 300)
    world.tick(model(2, previous=1))
    say(world, 2, 200, 300)
    assert world.decisions == []


def test_waves_of_feedback_are_followed(world: World) -> None:
    for number in range(60):
        wrong = round(10 + 6 * math.sin(number / 20 * 2 * math.pi))
        say(world, 1, 50 - wrong, wrong)
    assert world.decisions == []


def test_classes_that_shift_while_people_agree_are_no_symptom(world: World) -> None:
    for _ in range(20):
        world.tick(Predicted("phishing", 1, (("true", 95), ("false", 5))),
                   *(Judged("phishing", 1, "true", "true", told=True) for _ in range(10)))
    assert world.decisions == []


def test_a_few_angry_words_or_one_bad_hour_say_nothing(world: World) -> None:
    world.tick(model(2, previous=1))
    say(world, 2, 0, 49)
    assert world.decisions == []
    say(world, 2, 1, 0)
    say(world, 2, 90, 10)
    assert world.decisions == []


def test_what_was_said_of_another_version_or_came_with_the_event_or_is_a_number_does_not_count(world: World) -> None:
    world.tick(model(2, previous=1))
    say(world, 1, 0, 200)
    say(world, 2, 0, 200, told=False)
    world.tick(*(Judged("phishing", 2, 1.0, 1.1, told=True) for _ in range(200)))
    assert world.decisions == []


@pytest.mark.parametrize("first", ["prediction", "outcome"])
def test_an_outcome_says_whether_it_came_with_its_event(first: str) -> None:
    observing = Observing("watchdog", FakeClock())
    observing.pipeline("shop", pipeline("shop"))
    observing.take()
    for event, with_event in (("a", True), ("b", False)):
        if first == "outcome":
            observing.turned_out("shop", Outcome(event_id=event, flag=True, with_event=with_event))
        observing.predicted("shop", [Served(event, 3, "true")])
        observing.turned_out("shop", Outcome(event_id=event, flag=True, with_event=with_event))
    assert [one.told for one in observing.take() if isinstance(one, Judged)] == [False, True]
