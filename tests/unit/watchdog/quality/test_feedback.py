"""A version that people reject more often than the one before is undone, or told; what is usual or one voice is not."""

import math
import random

import pytest
from msgspec.structs import replace

from lepton.contracts.pipeline import InvalidPipeline, parse
from services.watchdog.core.inputs import Answered, RunEnded
from services.watchdog.core.journal import replay
from services.watchdog.core.quality.feedback import Share, Tally, by_chance, quiet
from services.watchdog.core.summaries.counts import Opined
from services.watchdog.core.thresholds.limits import FeedbackRule, Ladders
from tests.unit.watchdog.world import RULES, World, labels, model, rows

AUTHORS = ("ann", "bob", "eve", "kim")
GROWN_S = 400.0


@pytest.fixture
def world() -> World:
    """Version 1 has answered for a while; four authors reject one answer in ten."""
    world = World().healthy()
    world.tick(RULES, model(1))
    say(world, 1, 200, 0.1)
    world.run(1)
    assert world.decisions == []
    return world


def say(world: World, version: int, opinions: int, rejected: float, authors: tuple[str, ...] = AUTHORS) -> None:
    """So many opinions of the authors in turn, five a tick, that share of them rejections, evenly spread."""
    for start in range(0, opinions, 5):
        world.tick(*(Opined("phishing", version, authors[number % len(authors)], 1 - no, no)
                     for number in range(start, min(start + 5, opinions))
                     for no in [int(math.floor((number + 1) * rejected) - math.floor(number * rejected))]))


def test_a_new_champion_that_people_reject_is_rolled_back_and_proven_by_what_they_say_then(world: World) -> None:
    world.tick(model(2, previous=1))
    say(world, 2, 100, 0.6)
    assert world.orders() == [("roll_back", "model:phishing")]
    opened = world.decisions[0].incident
    assert (opened.symptom, opened.cause) == ("poor_feedback", "model:phishing")
    assert "opinions reject answers of version 2, " in opened.timeline[0].detail
    assert "of version 1" in opened.timeline[0].detail
    assert opened.timeline[1].detail.startswith("parameters ")
    assert world.commands()[0].arguments == {"from_version": "2"}
    world.tick(Answered(world.commands()[0].command_id, "done"), model(1, revision=3))
    say(world, 1, 45, 0.1)
    assert world.last().state == "commanded"
    say(world, 1, 5, 0.0)
    assert world.last().state == "verified"
    assert "answers of version 1" in world.last().verdict
    assert list(replay(world.written())) == world.made


def test_one_bad_window_is_not_yet_poor_feedback(world: World) -> None:
    world.tick(model(2, previous=1))
    say(world, 2, 50, 0.6)
    say(world, 2, 100, 0.1)
    assert world.decisions == []


def test_a_champion_that_was_accepted_for_long_is_told_to_a_person_and_well_when_people_accept_it(world: World) -> None:
    world.tick(model(2, previous=1))
    world.run(GROWN_S)
    say(world, 2, 300, 0.1)
    say(world, 2, 100, 0.6)
    assert (world.last().state, world.commands()) == ("escalated", [])
    say(world, 2, 100, 0.1)
    assert world.last().state == "verified"


def test_a_champion_that_was_rejected_from_the_first_is_young_however_slowly_that_is_said(world: World) -> None:
    world.tick(model(2, previous=1))
    world.run(GROWN_S)
    say(world, 2, 100, 0.6)
    assert world.orders() == [("roll_back", "model:phishing")]


def test_a_retraining_is_asked_for_where_the_pipeline_says_so_and_its_failure_told() -> None:
    world = World().healthy()
    world.tick(replace(RULES, ladders=Ladders(poor_feedback=("roll_back", "retrain"))), model(1))
    say(world, 1, 200, 0.1)
    # It is the first version: there is none to go back to.
    say(world, 1, 100, 0.6)
    assert world.orders() == [("retrain", "model:phishing")]
    # Opinions are no labels: nothing says how far back what is learnt may reach.
    assert world.commands()[0].arguments == {}
    world.tick(RunEnded("phishing", "run", "failed", "why", f"recovery-{world.commands()[0].command_id}"))
    world.run(1)
    assert world.orders() == [("retrain", "model:phishing")]
    assert "escalated" in world.states_seen()


def test_a_retrained_version_is_measured_by_what_the_last_good_one_was() -> None:
    world = World().healthy()
    world.tick(replace(RULES, ladders=Ladders(poor_feedback=("retrain",))), model(1))
    say(world, 1, 200, 0.1)
    world.tick(model(2, previous=1))
    say(world, 2, 100, 0.6)
    assert world.orders() == [("retrain", "model:phishing")]
    world.tick(model(3, previous=2))
    say(world, 3, 100, 0.6)
    assert world.last().state == "escalated"


def test_a_pipeline_says_what_its_ladder_is_and_by_how_much_and_by_how_many_it_must_be_said() -> None:
    text = ("apiVersion: lepton/v1\nkind: Pipeline\nmetadata: {name: shop}\nevents: {fields: {x: {type: float}}}\n"
            "watch: {feedback: {rows: 100, authors: %s}}\nheal: {ladders: {poor_feedback: [%s]}}\n")
    assert parse(text % (1, "retrain")).watch.feedback.authors == 1
    for wrong in ((1, "fall_back"), (0, "retrain")):
        with pytest.raises(InvalidPipeline, match=r"poor_feedback|authors"):
            parse(text % wrong)


# What must not alarm.

def test_one_author_alone_moves_nothing_however_loud(world: World) -> None:
    world.tick(model(2, previous=1))
    for _ in range(40):
        world.tick(Opined("phishing", 2, "spam", 0, 10_000))
        say(world, 2, 25, 0.1)
    assert world.decisions == []
    say(world, 2, 200, 0.6)
    assert world.orders() == [("roll_back", "model:phishing")]


def test_one_author_is_enough_where_the_pipeline_says_that_it_speaks_for_many() -> None:
    world = World().healthy()
    world.tick(replace(RULES, feedback=FeedbackRule(authors=1)), model(1))
    say(world, 1, 200, 0.1, ("app",))
    world.tick(model(2, previous=1))
    say(world, 2, 100, 0.6, ("app",))
    assert world.orders() == [("roll_back", "model:phishing")]


def test_people_who_always_rejected_that_much_are_as_usual() -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    say(world, 1, 300, 0.6)
    world.tick(model(2, previous=1))
    say(world, 2, 300, 0.6)
    assert world.decisions == []


def test_versions_that_are_as_before_alarm_no_oftener_than_the_chance_that_is_stated() -> None:
    rng, rule, found = random.Random(1), FeedbackRule(windows=1, rise=0.0, chance=0.05, authors=1), 0
    for _ in range(200):
        tally = Tally(1)
        for _ in range(40):
            rejected = sum(rng.random() < 0.3 for _ in range(rule.rows))
            tally.add(Opined("phishing", 1, "app", rule.rows - rejected, rejected), rule, None, 0.0)
            if tally.bad:
                found += 1
                break
    # One in twenty may, over forty looks each. With 0.05 at every look, every third would.
    assert found <= 200 * rule.chance


def test_opinions_of_other_versions_or_before_a_pipeline_is_known_do_not_count(world: World) -> None:
    world.tick(model(2, previous=1))
    say(world, 1, 200, 0.9)
    world.tick(Opined("absent", 1, "ann", 0, 50))
    assert world.decisions == []


def test_another_rule_begins_anew_and_a_pipeline_that_is_gone_is_well(world: World) -> None:
    world.tick(model(2, previous=1))
    world.run(GROWN_S)
    say(world, 2, 300, 0.1)
    say(world, 2, 100, 0.6)
    assert world.last().state == "escalated"
    world.tick(replace(RULES, feedback=FeedbackRule(rows=100)))
    say(world, 2, 100, 0.6)
    assert world.last().state == "escalated"
    world.tick(replace(RULES, deleted=True))
    world.run(1)
    assert (world.last().state, world.last().verdict) == ("verified", "the pipeline is gone")


@pytest.mark.parametrize("wrong", ["data", "labels"])
def test_what_explains_it_is_dealt_with_first(world: World, wrong: str) -> None:
    if wrong == "data":
        for _ in range(2):
            world.tick(rows(good=2, broken=95))
            world.run(1.0)
        say(world, 1, 100, 0.6)
    else:
        world.tick(model(2, previous=1))
        world.tick(*labels(2, 20, 80))
        say(world, 2, 100, 0.6)
    assert {decision.incident.symptom for decision in world.decisions} == {
        "broken_data" if wrong == "data" else "quality_loss"}


# The arithmetic.

def test_the_chance_is_that_of_fishers_exact_test() -> None:
    # The lady tasting tea: of four cups, one was told wrongly; 17 of 70 ways do as well or better.
    assert by_chance(Share(4, 1), Share(4, 3)) == pytest.approx(17 / 70)
    assert by_chance(Share(4, 0), Share(4, 4)) == pytest.approx(1 / 70)
    assert by_chance(Share(200, 20), Share(50, 0)) == pytest.approx(1.0)


def test_the_loudest_are_left_out() -> None:
    said = {"ann": Share(25, 20), "bob": Share(10, 1), "eve": Share(15, 3)}
    assert (quiet(said, 0), quiet(said, 1), quiet(said, 2)) == (Share(50, 24), Share(25, 4), Share(10, 1))
