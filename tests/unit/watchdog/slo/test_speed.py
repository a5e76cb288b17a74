"""A version that answers far slower than the one before is left for it, and only for that."""

import pytest
from msgspec.structs import replace

from services.watchdog.core.inputs import Answered, Requests
from services.watchdog.core.journal import replay
from services.watchdog.core.slo.speed import REMEMBERED, Newest
from services.watchdog.core.thresholds.limits import Ladders, SloRule
from tests.unit.watchdog.world import RULES, World, model


def serve(world: World, seconds: float, *up_to_ms: float) -> None:
    """Ten answers a second, of these lengths in turn."""
    for _ in range(round(seconds)):
        world.tick(Requests("phishing", 10, 0, tuple((one, 10 // len(up_to_ms)) for one in sorted(up_to_ms))))
        world.run(0.75)


def succeeded(previous: int = 1, **changes: object) -> World:
    """Version 2 answers, and the one before took 5 ms."""
    world = World().healthy()
    world.tick(replace(RULES, **changes), model(1))
    serve(world, 20, 5.0)
    world.tick(model(2, previous=previous))
    return world


def test_it_is_rolled_back_and_the_version_before_must_be_as_fast_as_it_was() -> None:
    world = succeeded()
    serve(world, 12, 200.0)
    (command,) = world.commands()
    assert (command.action, command.target, command.cause) == ("roll_back", "model:phishing", "model:phishing")
    assert command.arguments == {"from_version": "2"}
    assert world.last().symptom == "slow_model"
    assert "10 of its newest 10 answers took longer than 50 ms; of the version before 95% took no longer than 5" in (
        world.last().timeline[0].detail)
    diagnosed = next(note.detail for note in world.last().timeline if note.what == "diagnosed")
    assert diagnosed.startswith("parameters")
    world.tick(Answered(command.command_id, "done"), model(1, revision=3))
    world.run(5)
    assert world.last().state == "commanded"
    serve(world, 6, 5.0)
    assert (world.last().state, world.last().verdict) == ("verified", "version 1 answers as fast as was usual")
    assert len(world.commands()) == 1
    assert list(replay(world.written())) == world.made


@pytest.mark.parametrize("lengths", [(50.0,), (5.0, 500.0), (20.0, 20.0, 20.0, 20.0, 2_000.0)])
def test_some_slow_answers_or_all_of_them_a_little_slower_are_no_slow_version(lengths: tuple[float, ...]) -> None:
    world = succeeded()
    serve(world, 60, *lengths)
    assert world.decisions == []


def test_a_version_that_is_not_young_or_the_first_of_its_model_is_left_alone() -> None:
    old, first = succeeded(), World().healthy()
    serve(old, 310, 5.0)
    serve(old, 30, 500.0)
    first.tick(RULES, model(1))
    serve(first, 30, 500.0)
    assert old.decisions == first.decisions == []


def test_where_the_pipeline_promises_a_time_that_says_what_is_slow() -> None:
    promised, another = succeeded(slo=SloRule(latency_ms=200.0)), succeeded(slo=SloRule(availability=0.99))
    for world in (promised, another):
        serve(world, 30, 200.0)
    assert promised.decisions == []
    assert another.orders() == [("roll_back", "model:phishing")]


def test_where_the_version_before_is_no_faster_now_it_was_not_the_version_and_a_person_is_told() -> None:
    world = succeeded()
    serve(world, 12, 200.0)
    world.tick(Answered(world.commands()[0].command_id, "done"), model(1, revision=3))
    serve(world, 12, 200.0)
    assert (world.last().state, world.last().verdict) == (
        "escalated", "version 1 is no faster, so it is not the version")
    serve(world, 12, 5.0)
    assert world.last().state == "verified"
    assert len(world.commands()) == 1


def test_a_refusal_a_ladder_without_it_and_nobody_who_asks_are_told_to_a_person() -> None:
    refused, unwanted, quiet = succeeded(), succeeded(ladders=Ladders(quality_loss=("retrain",))), succeeded()
    for world in (refused, unwanted, quiet):
        serve(world, 12, 200.0)
    refused.tick(Answered(refused.commands()[0].command_id, "refused", "no version before"))
    assert (refused.last().state, refused.last().verdict) == ("escalated", "the command was refused")
    assert (unwanted.commands(), unwanted.last().state) == ([], "escalated")
    quiet.tick(Answered(quiet.commands()[0].command_id, "done"), model(1, revision=3))
    quiet.run(290)
    assert quiet.last().state == "commanded"
    quiet.run(20)
    assert (quiet.last().state, quiet.last().verdict) == ("escalated", "no effect in time")


def test_what_began_to_look_slow_as_it_ceased_to_be_young_keeps_nobody_waiting() -> None:
    world = succeeded()
    serve(world, 12, 200.0)
    world.tick(Answered(world.commands()[0].command_id, "done"), model(1, revision=3))
    world.run(world.engine.state.thresholds.young_s - 3)
    serve(world, 4, 200.0)
    serve(world, 4, 5.0)
    assert world.last().state == "verified"
    assert world.engine.state.speeds.by_model["phishing"].slow_since is None


def test_one_that_grows_fast_by_itself_before_it_is_left_is_well() -> None:
    world = succeeded(ladders=Ladders(quality_loss=()))
    serve(world, 12, 200.0)
    serve(world, 12, 5.0)
    assert (world.last().state, world.last().verdict) == (
        "verified", "version 2 is as fast as the one before again")


def test_of_two_versions_that_came_soon_the_faster_one_counts_and_too_few_answers_say_nothing() -> None:
    world = succeeded()
    world.tick(model(3, previous=2))
    serve(world, 4, 200.0)
    assert world.decisions == []
    serve(world, 8, 200.0)
    assert world.orders() == [("roll_back", "model:phishing")]


def test_callers_that_find_no_room_meanwhile_are_the_slow_version_s() -> None:
    world = succeeded()
    serve(world, 8, 200.0)
    for _ in range(30):
        world.tick(Requests("phishing", 10, 30, ((200.0, 10),), 30))
        world.run(0.75)
    assert world_symptoms(world) == {"slow_model"}
    # Until it turns out that the version is not to blame.
    assert world.last().state == "commanded"


def test_a_deleted_pipeline_has_no_slow_model() -> None:
    world = succeeded()
    serve(world, 12, 200.0)
    world.tick(replace(RULES, deleted=True))
    world.run(1)
    assert (world.last().state, world.last().verdict) == ("verified", "the model is gone")


def test_memory_does_not_grow_with_what_is_answered() -> None:
    newest = Newest()
    assert newest.usual_ms() is None
    for number in range(1_000):
        newest.add(((5.0 if number % 10 else 100.0, 10),))
    newest.add(())
    assert newest.total == REMEMBERED
    assert newest.usual_ms() == 100.0
    assert newest.slower(50.0) == (0, 10)
    newest.add(((5.0, 2), (100.0, 4)))
    newest.add(((100.0, 3),))
    # One heartbeat more than these nine is needed.
    assert newest.slower(50.0) == (7, 19)


def world_symptoms(world: World) -> set[str]:
    return {decision.incident.symptom for decision in world.decisions}
