"""A predictor that is ill and still works hands its requests over before it is begun anew, where another is ready."""

from collections.abc import Iterator

import pytest

from services.watchdog.core.inputs import Answered, Failures, Figures, Leads, Thresholds
from services.watchdog.core.journal import replay
from services.watchdog.flow.translate import from_message, to_message
from tests.unit.watchdog.world import SERVICES, WALL_S, World

DRAIN, RESTART = ("drain", "instance:predictor-0"), ("restart", "instance:predictor-0")


@pytest.fixture(autouse=True)
def two_predictors() -> Iterator[None]:
    SERVICES["predictor-1"] = "predictor"
    yield
    del SERVICES["predictor-1"]


def files(world: World, share: float, seconds: float) -> None:
    """Every two seconds the process says what part of its file handles is open."""
    for _ in range(round(seconds / 2)):
        said = (("process_files_share", "", share),)
        world.tick(Figures("predictor-0", "predictor", world.beating.get("predictor-0", ""), said))
        world.run(1.75)


def fail(world: World, *instances: str, seconds: int = 15) -> None:
    for _ in range(seconds):
        for instance in instances:
            world.tick(Failures(instance, "predictor", (("bug", 8, "KeyError: 'x'"),)))
        world.run(0.75)


def drain(world: World) -> None:
    """The process does as it was told, and says so."""
    world.states["predictor-0"], world.drained = "draining", {"predictor-0"}
    world.tick(Answered(world.commands()[-1].command_id, "done", "predictor-0 has no more requests"))
    world.run(1)


def begin_anew(world: World) -> None:
    world.beating["predictor-0"] = "predictor-0-2"
    world.drained.clear()
    del world.states["predictor-0"]


def test_it_is_drained_first_then_restarted_and_proven_well() -> None:
    world = World().healthy()
    files(world, 0.9, 20)
    (order,) = world.commands()
    assert ((order.action, order.target), order.arguments) == (DRAIN, {"within_s": "10", "for_s": "70"})
    files(world, 0.9, 4)
    assert world.orders() == [DRAIN]
    drain(world)
    assert world.orders() == [DRAIN, RESTART]
    assert world.commands()[1].arguments == {"grace_s": "10"}
    begin_anew(world)
    files(world, 0.1, 24)
    assert (world.last().symptom, world.last().state) == ("files", "verified")
    assert [note.what for note in world.last().timeline] == [
        "opened", "diagnosed", "commanded drain", "answered done", "commanded restart", "verified"]
    assert list(replay(world.written())) == world.made


@pytest.mark.parametrize("forbidden", ["restart", "drain"])
def test_where_either_is_only_told_neither_is_done(forbidden: str) -> None:
    world = World(Thresholds(own="watchdog", dry_run=(forbidden,))).healthy()
    files(world, 0.9, 60)
    assert (world.commands(), world.last().state) == ([], "escalated")
    assert world.last().verdict == "dry run: drain of instance:predictor-0 was not commanded"


def test_the_only_one_is_restarted_in_order_as_ever() -> None:
    del SERVICES["predictor-1"]
    world = World().healthy()
    SERVICES["predictor-1"] = "predictor"
    files(world, 0.9, 20)
    assert world.orders() == [RESTART]


@pytest.mark.parametrize("outcome", ["refused", "failed", ""])
def test_a_drain_that_cannot_be_is_followed_by_the_restart(outcome: str) -> None:
    world = World().healthy()
    files(world, 0.9, 20)
    if outcome:
        world.tick(Answered(world.commands()[0].command_id, outcome, "3 requests have not ended"))
        files(world, 0.9, 2)
    else:
        files(world, 0.9, 12)
        assert world.orders() == [DRAIN]
        files(world, 0.9, 10)
    assert world.orders() == [DRAIN, RESTART]


def test_it_waits_while_the_other_is_down_and_no_signal_that_fell_quiet_ends_it_half_way() -> None:
    world = World().healthy()
    world.states["predictor-1"] = "starting"
    files(world, 0.9, 24)
    assert world.commands() == []
    del world.states["predictor-1"]
    files(world, 0.9, 4)
    assert world.orders() == [DRAIN]
    files(world, 0.1, 6)
    drain(world)
    assert world.orders() == [DRAIN, RESTART]


def test_of_three_it_waits_while_one_of_the_others_is_down() -> None:
    SERVICES["predictor-2"] = "predictor"
    try:
        world = World().healthy()
        world.states["predictor-2"] = "starting"
        files(world, 0.9, 24)
        assert world.commands() == []
        del world.states["predictor-2"]
        files(world, 0.9, 4)
        assert world.orders() == [DRAIN]
    finally:
        del SERVICES["predictor-2"]


def test_one_that_fails_while_the_other_does_not_is_begun_anew_and_what_both_have_is_a_persons() -> None:
    alone, both = World().healthy(), World().healthy()
    fail(alone, "predictor-0")
    assert alone.orders() == [DRAIN]
    drain(alone)
    begin_anew(alone)
    alone.run(80)
    assert alone.orders() == [DRAIN, RESTART]
    assert (alone.last().symptom, alone.last().state) == ("failures", "verified")
    fail(both, "predictor-0", "predictor-1")
    assert both.orders() == []
    assert {one.incident.state for one in both.decisions if one.incident.symptom == "failures"} == {
        "suspected", "escalated"}


def test_a_restart_that_needs_a_persons_word_drains_nobody_meanwhile() -> None:
    world = World(Thresholds(own="watchdog", approval=("restart",))).healthy()
    files(world, 0.9, 20)
    assert world.commands() == []
    assert world.last().awaiting == "restart"


def test_one_that_falls_silent_while_it_is_drained_is_missed() -> None:
    world = World().healthy()
    world.states["predictor-0"], world.drained = "draining", {"predictor-0"}
    world.run(5)
    assert world.decisions == []
    del world.beating["predictor-0"]
    world.run(5)
    assert ("restart", "instance:predictor-0") in world.orders()


def test_who_takes_over_goes_on_with_the_restart() -> None:
    world = World().healthy()
    files(world, 0.9, 20)
    taken = from_message(to_message(world.last()))
    world.tick(Leads(0))
    world.states["predictor-0"], world.drained = "draining", {"predictor-0"}
    world.tick(Leads(2, (taken,)))
    files(world, 0.1, 24)
    assert world.orders() == [DRAIN, RESTART]


@pytest.mark.parametrize("answered", [True, False])
def test_one_that_serves_again_in_a_maintenance_window_and_is_well_is_not_restarted_at_its_end(answered: bool) -> None:
    minute = int((WALL_S + World.now) // 60) % 1440 + 2
    world = World(Thresholds(own="watchdog", maintenance=((minute, minute + 3),))).healthy()
    world.run(54)
    files(world, 0.9, 20)
    assert world.orders() == [DRAIN]
    world.states["predictor-0"], world.drained = "draining", {"predictor-0"}
    world.run(4)
    if answered:
        world.tick(Answered(world.commands()[0].command_id, "done", "predictor-0 has no more requests"))
    world.run(60)
    world.drained.clear()
    del world.states["predictor-0"]
    files(world, 0.1, 40)
    assert (world.last().state, world.last().verdict) == ("verified", "the signal is quiet")
    world.run(120)
    assert world.orders() == [DRAIN]
    assert list(replay(world.written())) == world.made


def test_a_drain_counts_for_nothing_in_the_budget_of_restarts() -> None:
    world = World(Thresholds(own="watchdog", restart_actions=1)).healthy()
    files(world, 0.9, 20)
    drain(world)
    assert world.orders() == [DRAIN, RESTART]
    begin_anew(world)
    files(world, 0.1, 24)
    files(world, 0.9, 24)
    assert world.orders() == [DRAIN, RESTART]
    assert world.last().verdict == "the budget of actions is spent"
