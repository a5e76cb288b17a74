"""Requests that fail or take too long since a new version answers: the one before answers instead, at once."""

from msgspec.structs import replace

from services.watchdog.core.inputs import Answered, Leads, Requests
from services.watchdog.core.journal import replay
from services.watchdog.core.thresholds.limits import Ladders, SloRule
from services.watchdog.flow.translate import from_message, to_message
from tests.unit.watchdog.world import RULES, World, model

PROMISED = replace(RULES, quality=None, slo=SloRule(latency_ms=100.0))


def serve(world: World, seconds: int, slow: bool) -> None:
    """A hundred requests a second, all of them slow or none."""
    for _ in range(seconds):
        world.tick(Requests("phishing", 100, 0, ((200.0 if slow else 10.0, 100),)))
        world.run(0.75)


def slow_since_promotion(wait_s: int = 10, previous: int = 1, ladders: Ladders | None = None) -> World:
    world = World().healthy()
    world.tick(replace(PROMISED, ladders=ladders or Ladders()), model(1))
    serve(world, 60, slow=False)
    world.tick(model(2, previous=previous))
    serve(world, wait_s, slow=False)
    serve(world, 120, slow=True)
    return world


def test_a_young_version_that_is_slow_is_left_and_it_is_proven_that_this_helped() -> None:
    world = slow_since_promotion()
    (command,) = world.commands()
    assert (command.action, command.target, command.arguments) == (
        "fall_back", "model:phishing", {"from_version": "2"})
    world.tick(Answered(command.command_id, "done", "version 1 of phishing answers instead of version 2"))
    serve(world, 480, slow=False)
    assert (world.last().state, world.last().verdict) == ("verified", "the signal is quiet")
    assert len(world.commands()) == 1
    assert list(replay(world.written())) == world.made


def test_a_version_that_is_not_young_or_has_none_before_it_or_a_ladder_without_it_is_left_to_a_person() -> None:
    for world in (slow_since_promotion(wait_s=400), slow_since_promotion(previous=0),
                  slow_since_promotion(ladders=Ladders(latency=()))):
        assert world.commands() == []
        assert (world.last().symptom, world.last().state) == ("latency", "escalated")


def test_a_refusal_and_no_effect_in_time_are_told_to_a_person() -> None:
    refused, useless = slow_since_promotion(), slow_since_promotion()
    refused.tick(Answered(refused.commands()[0].command_id, "refused", "version 2 of phishing is not the champion"))
    refused.run(1)
    assert (refused.last().state, refused.last().verdict) == ("escalated", "the command was refused")
    serve(useless, 500, slow=True)
    assert (useless.last().state, useless.last().verdict) == ("escalated", "no effect in time")


def test_who_takes_over_waits_for_the_effect_as_long() -> None:
    world = slow_since_promotion()
    taken = from_message(to_message(world.last()))
    world.tick(Leads(0))
    world.tick(Leads(2, (taken,)))
    serve(world, 60, slow=True)
    assert [incident.state for incident in world.engine.open.values()] == ["commanded"]
    serve(world, 480, slow=False)
    assert (world.last().state, len(world.commands())) == ("verified", 1)
