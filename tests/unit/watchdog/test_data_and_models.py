"""Loss of quality climbs from roll back to retraining; broken data is quarantined by source; failures are told."""

import random

import pytest

from services.watchdog.core.inputs import Answered, Rules, RunEnded
from services.watchdog.core.summaries.counts import RowsSeen, SourceRows
from tests.unit.watchdog.world import RULES, World, labels, model, rows


@pytest.fixture
def world() -> World:
    world = World().healthy()
    world.tick(RULES, model(1))
    world.tick(model(2, previous=1))
    return world


def feed(world: World, version: int, right: int, wrong: int) -> None:
    mixed = labels(version, right, wrong)
    random.Random(7).shuffle(mixed)
    for start in range(0, len(mixed), 10):
        world.tick(*mixed[start:start + 10])


def test_quality_that_holds_is_no_symptom(world: World) -> None:
    feed(world, 2, 170, 30)
    assert world.decisions == []


def test_a_few_wrong_answers_are_chance(world: World) -> None:
    feed(world, 2, 20, 39)
    assert world.decisions == []


def test_lost_quality_is_rolled_back_and_verified_on_fresh_labels(world: World) -> None:
    feed(world, 2, 50, 50)
    (command,) = world.commands()
    assert (command.action, command.target) == ("roll_back", "model:phishing")
    assert command.arguments == {"from_version": "2"}
    world.tick(Answered(command.command_id, "done"), model(1, revision=3))
    feed(world, 2, 0, 80)
    assert world.last().state == "commanded"
    feed(world, 1, 55, 5)
    assert world.last().state == "verified"
    assert "version 1" in world.last().verdict
    assert len(world.commands()) == 1


def test_a_version_that_was_bad_when_it_was_published_is_held_to_what_the_one_before_did(world: World) -> None:
    feed(world, 2, 92, 8)
    world.tick(model(3, previous=2, accuracy=0.1))
    feed(world, 3, 6, 54)
    (command,) = world.commands()
    assert (command.action, command.arguments) == ("roll_back", {"from_version": "3"})
    assert "of the version before" in world.decisions[0].incident.timeline[0].detail
    world.tick(Answered(command.command_id, "done"), model(2, revision=4))
    feed(world, 2, 56, 4)
    assert world.last().state == "verified"


def test_what_the_version_before_did_counts_only_while_a_version_is_young(world: World) -> None:
    feed(world, 2, 100, 0)
    world.tick(model(3, previous=2, accuracy=0.7))
    world.run(world.thresholds.young_s + 1)
    feed(world, 3, 68, 32)
    assert world.decisions == []


def test_a_loss_against_the_version_before_stays_one_when_nothing_cures_it() -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    feed(world, 1, 95, 5)
    world.tick(model(2, accuracy=0.1))
    feed(world, 2, 6, 54)
    assert [action for action, _ in world.orders()] == ["retrain"]
    world.run(world.thresholds.young_s + 20)
    assert world.last().state != "verified"


def test_a_roll_back_that_does_not_cure_is_followed_by_retraining_on_the_rows_since(world: World) -> None:
    feed(world, 2, 0, 60)
    world.tick(model(1, revision=3))
    feed(world, 1, 5, 65)
    assert [action for action, _ in world.orders()] == ["roll_back", "retrain"]
    assert 80 <= int(world.commands()[1].arguments["max_rows"]) <= 150
    world.tick(model(3, previous=1, revision=4))
    feed(world, 3, 60, 4)
    assert world.last().state == "verified"


def test_without_a_version_to_go_back_to_the_model_is_retrained() -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    feed(world, 1, 0, 80)
    assert [action for action, _ in world.orders()] == ["retrain"]


def test_a_refused_roll_back_is_followed_by_retraining_at_once(world: World) -> None:
    feed(world, 2, 0, 60)
    world.tick(Answered(world.commands()[0].command_id, "refused", "no version before"))
    assert [action for action, _ in world.orders()] == ["roll_back", "retrain"]


def test_a_roll_back_without_any_effect_is_followed_by_retraining_in_time(world: World) -> None:
    feed(world, 2, 0, 60)
    world.run(world.thresholds.rollback_verify_s + 1)
    assert [action for action, _ in world.orders()] == ["roll_back", "retrain"]


def test_a_failed_retraining_is_repeated_after_the_cool_down_then_tuned_then_told_to_a_person(world: World) -> None:
    feed(world, 2, 0, 60)
    world.tick(Answered(world.commands()[0].command_id, "refused"))
    ids = [command.command_id for command in world.commands()]
    world.tick(RunEnded("phishing", "run-0", "cancelled", command_id="rows-phishing-1-3"))
    world.run(1)
    assert world.last().state == "commanded"
    world.tick(RunEnded("phishing", "run-1", "rejected", "accuracy 0.5 is below 0.7", f"recovery-{ids[1]}"))
    world.run(RULES.cool_down_s - 2)
    assert len(world.commands()) == 2
    world.run(3)
    assert [action for action, _ in world.orders()] == ["roll_back", "retrain", "retrain"]
    world.tick(RunEnded("phishing", "run-2", "rejected", "accuracy 0.6 is below 0.7", f"recovery-{ids[0][:-1]}3"))
    world.run(1)
    assert world.orders()[3:] == [("tune", "model:phishing")]
    world.reject(3, "run-3")
    assert "run-3" in world.last().verdict


def test_when_labels_stop_the_held_out_rows_of_the_retrained_version_verify(world: World) -> None:
    feed(world, 2, 0, 60)
    world.tick(Answered(world.commands()[0].command_id, "refused"))
    world.tick(model(3, previous=2, revision=4, accuracy=0.85))
    world.run(world.thresholds.no_labels_s - 2)
    assert world.last().state == "commanded"
    world.run(3)
    assert world.last().state == "verified"
    assert "held-out" in world.last().verdict


def test_actions_on_a_pipeline_are_bounded_by_its_budget() -> None:
    world = World().healthy()
    world.tick(Rules("phishing", quality=RULES.quality, budget_actions=1), model(1), model(2, previous=1))
    feed(world, 2, 0, 60)
    world.tick(Answered(world.commands()[0].command_id, "refused"))
    world.run(400)
    assert [action for action, _ in world.orders()] == ["roll_back"]
    assert "budget" in world.last().verdict


def test_a_source_whose_rows_are_bad_is_quarantined_and_verified_when_they_stop(world: World) -> None:
    for _ in range(3):
        world.tick(rows(good=2, broken=95))
        world.run(1.75)
    (command,) = world.commands()
    assert (command.action, command.target) == ("quarantine", "pipeline:phishing")
    assert command.arguments == {"source": "broken"}
    assert "broken" in next(decision.alert for decision in world.decisions if decision.command)
    for _ in range(6):
        world.tick(rows(good=2))
        world.run(1.75)
    assert world.last().state == "verified"
    assert len(world.commands()) == 1


def test_a_quarantine_without_effect_is_told_to_a_person(world: World) -> None:
    for _ in range(20):
        world.tick(rows(good=2, broken=95))
        world.run(1.75)
    assert world.last().state == "escalated"
    assert len(world.commands()) == 1


def test_when_no_other_source_delivers_nothing_is_quarantined_and_a_person_is_told(world: World) -> None:
    for _ in range(8):
        world.tick(rows(only=45))
        world.run(1.75)
    assert world.commands() == []
    assert world.last().state == "escalated"
    for _ in range(8):
        world.tick(rows(only=0))
        world.run(1.75)
    assert world.last().state == "verified"
    assert len({decision.incident.id for decision in world.decisions}) == 1


def test_two_bad_sources_leave_the_good_one_alone(world: World) -> None:
    for _ in range(2):
        world.tick(rows(good=0, one=90, two=90))
        world.run(1.75)
    assert sorted(command.arguments["source"] for command in world.commands()) == ["one", "two"]


def test_usual_gaps_and_outliers_are_not_bad_and_unusual_ones_are(world: World) -> None:
    def gaps(missing: int) -> RowsSeen:
        return RowsSeen("phishing", (SourceRows("a", 100, 0, 5, 35), SourceRows("b", 100, 0, 5, missing)))

    for _ in range(5):
        world.tick(gaps(35))
        world.run(1.75)
    assert world.decisions == []
    for _ in range(3):
        world.tick(gaps(90))
        world.run(1.75)
    assert [command.arguments["source"] for command in world.commands()] == ["b"]


def test_few_bad_rows_are_no_symptom(world: World) -> None:
    world.tick(RowsSeen("phishing", (SourceRows("a", 0, 49, 0, 0),)))
    world.run(10)
    assert world.decisions == []


def test_bad_rows_of_the_past_are_not_held_against_a_source_now(world: World) -> None:
    old = [RowsSeen("phishing", rows(good=0, broken=95).sources, age_s=600.0 - place) for place in range(50)]
    world.tick(*old)
    world.run(5)
    assert world.decisions == []


def test_broken_data_that_is_being_dealt_with_explains_a_loss_of_quality(world: World) -> None:
    for _ in range(2):
        world.tick(rows(good=2, broken=95))
        world.run(1.0)
    feed(world, 2, 0, 60)
    assert [action for action, _ in world.orders()] == ["quarantine"]


def test_a_failed_training_run_is_told_and_well_after_the_next(world: World) -> None:
    decided = world.tick(RunEnded("phishing", "run-1", "failed", "no rows"))
    assert [decision.incident.state for decision in decided] == ["suspected", "escalated"]
    assert "no rows" in decided[0].alert
    world.tick(RunEnded("phishing", "run-2", "failed", "no rows"))
    assert len(world.decisions) == 2
    world.tick(RunEnded("phishing", "run-3", "succeeded"))
    assert world.last().state == "verified"
    assert world.commands() == []


def test_a_deleted_pipeline_ends_its_incidents(world: World) -> None:
    feed(world, 2, 0, 60)
    world.tick(Rules("phishing", deleted=True))
    world.run(1)
    assert world.last().state == "verified"
