"""What is tried, and in which order, is the Pipeline's to say; what cannot be done is stepped over."""

import pytest
from msgspec.structs import replace

from lepton.contracts.pipeline import InvalidPipeline, from_json, parse
from services.watchdog.core.inputs import RunEnded
from services.watchdog.core.thresholds.limits import Ladders
from services.watchdog.flow import translate
from tests.unit.watchdog.house import pipeline
from tests.unit.watchdog.world import RULES, World, labels, model, rows

TEXT = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events: {fields: {x: {type: float}}}
heal:
  ladders:
    quality_loss: [retrain, roll_back]
    broken_data: []
"""


def lost(ladders: Ladders, previous: int = 1) -> World:
    """Version 2 answers worse than at its publication."""
    world = World().healthy()
    world.tick(replace(RULES, ladders=ladders), model(1))
    world.tick(model(2, previous=previous))
    world.tick(*labels(2, 0, 80))
    return world


def fail(world: World) -> None:
    """The run that was commanded ends without a version."""
    world.tick(RunEnded("phishing", "run", "failed", "why", world.commands()[-1].command_id))
    world.run(30)


def test_actions_are_tried_in_the_order_of_the_pipeline_then_a_person_is_told() -> None:
    world = lost(Ladders(quality_loss=("retrain", "roll_back")))
    assert [action for action, _ in world.orders()] == ["retrain"]
    fail(world)
    assert [action for action, _ in world.orders()] == ["retrain", "roll_back"]
    world.run(100)
    assert world.last().state == "escalated"
    assert len(world.commands()) == 2


def test_without_a_version_to_go_back_to_the_next_action_takes_the_place() -> None:
    assert [action for action, _ in lost(Ladders(), previous=0).orders()] == ["retrain"]
    alone = lost(Ladders(quality_loss=("roll_back",)), previous=0)
    assert (alone.commands(), alone.last().state) == ([], "escalated")


def test_an_empty_ladder_is_a_person_at_once() -> None:
    world = World().healthy()
    world.tick(replace(RULES, ladders=Ladders(broken_data=())))
    world.tick(rows(good=2, broken=95))
    assert (world.commands(), world.last().symptom, world.last().state) == ([], "broken_data", "escalated")


def test_a_pipeline_s_ladders_reach_the_watchdog_and_the_defaults_are_the_same_on_both_sides() -> None:
    spec = parse(TEXT)
    wanted = Ladders(("retrain", "roll_back"), ("retrain",), ())
    assert translate.rules(from_json(spec.canonical_json())).ladders == wanted
    assert translate.rules(pipeline("shop")).ladders == Ladders()


def test_an_action_that_cannot_cure_is_refused_with_its_place_and_line() -> None:
    with pytest.raises(InvalidPipeline) as refused:
        parse(TEXT.replace("[retrain, roll_back]", "[retrain, quarantine]"))
    (problem,) = refused.value.problems
    assert (problem.path, problem.line) == ("heal.ladders.quality_loss[1]", 8)
    assert "roll_back" in problem.message
