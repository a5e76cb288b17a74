"""A service that could long do with one process fewer loses one; whatever speaks against it keeps them all."""

from msgspec.structs import replace

from services.watchdog.core.inputs import Failures, Figures
from tests.unit.watchdog.capacity.crowd import LIMITS, SHOP, Crowd, crowd

IN = ("scale_in", "service:predictor")


def grown(**changes: object) -> Crowd:
    """Two predictors, because one had 150 requests a second and does 100."""
    world = crowd(SHOP, **changes)
    world.ask(40, 150)
    assert world.predictors == ["predictor-0", "predictor-1"]
    world.decisions.clear()
    return world


def test_after_the_idle_time_one_goes_and_nobody_is_told() -> None:
    world = grown()
    world.ask(60, 40)
    assert world.scaled() == []
    world.ask(30, 40)
    assert world.scaled() == [(*IN, "1")]
    assert (world.last().symptom, world.last().cause, world.last().state) == (
        "idle", "resources:predictor", "verified")
    assert not any(one.alert for one in world.decisions)


def test_under_maintenance_of_the_installation_all_stay_and_a_pipeline_still_gets_more() -> None:
    world = grown(maintenance=((0, 24 * 60),))
    world.ask(120, 40)
    assert (world.scaled(), world.ended("idle")) == ([], "suspected")


def test_one_goes_at_a_time_and_the_next_after_the_idle_time_again() -> None:
    world = crowd()
    for name in ("predictor-1", "predictor-2"):
        world.beating[name] = f"{name}-1"
    world.ask(65, 0)
    assert world.scaled() == [(*IN, "2")]
    world.ask(45, 0)
    assert len(world.scaled()) == 1
    world.ask(30, 0)
    assert world.scaled() == [(*IN, "2"), (*IN, "1")]
    world.ask(200, 0)
    assert len(world.scaled()) == 2, "never below the least"


def test_what_would_be_more_than_half_of_what_was_too_much_for_one_keeps_two() -> None:
    world = grown()
    world.ask(300, 60)
    assert world.scaled() == []


def test_work_within_the_idle_time_begins_it_anew() -> None:
    world = grown()
    for _ in range(6):
        world.ask(50, 10)
        world.ask(12, 90)
    assert world.scaled() == []


def test_a_watchdog_that_has_just_begun_measures_by_the_time_it_watched() -> None:
    world = crowd(limits=replace(LIMITS, refused_s=1.0))
    world.ask(5, 150)
    assert len(world.scaled()) == 1
    world.ask(90, 45)
    assert world.scaled()[1:] == [(*IN, "1")]


def test_where_nobody_saw_what_one_can_do_any_work_keeps_all() -> None:
    world = crowd()
    world.beating["predictor-1"] = "predictor-1-1"
    world.ask(200, 1)
    assert world.scaled() == []


def test_as_many_stay_as_the_most_demanding_pipeline_asks_for() -> None:
    world = grown()
    world.tick(replace(SHOP, pipeline="kiln", replicas=(2, 2)))
    world.ask(200, 0)
    assert world.scaled() == []


def test_while_an_incident_about_the_service_is_open_none_goes() -> None:
    world = grown()
    for _ in range(300):
        world.tick(Failures("predictor-0", "predictor", (("bug", 5, "KeyError"),)))
        world.ask(1, 0)
    assert world.ended("failures") == "escalated"
    assert world.scaled() == []
    world.ask(150, 0)
    assert world.ended("failures") == "verified"
    assert world.scaled() == [(*IN, "1")]


def test_while_a_predictor_is_silent_none_goes() -> None:
    world = grown()
    del world.beating["predictor-0"]
    world.run(200)
    assert all(one.action == "restart" for one in world.commands())


def test_rows_that_wait_keep_all() -> None:
    world = grown()
    for second in range(200):
        if second % 2 == 0:
            world.tick(Figures("predictor-1", "predictor", "", (("lepton_predictor_waiting_rows", "", 400.0),)))
        world.ask(1, 10)
    assert world.scaled() == []


def test_while_the_bus_does_not_carry_silence_is_no_idleness() -> None:
    world = grown()
    beating, world.beating = world.beating, {}
    world.run(200)
    assert world.scaled() == []
    world.beating = beating
    world.ask(40, 10)
    assert world.scaled() == []


def test_a_service_that_grows_again_and_again_is_left_to_a_person() -> None:
    world = crowd(limits=replace(LIMITS, idle_s=10))
    for _ in range(10):
        world.ask(60, 150)
        world.ask(60, 10)
    assert any("came back" in one.incident.verdict for one in world.decisions)
    assert len(world.scaled()) <= 12


def test_without_the_word_of_a_person_nothing_goes_where_it_is_asked_for() -> None:
    world = grown(approval=("scale_in",))
    world.ask(120, 10)
    assert (world.scaled(), world.last().awaiting) == ([], "scale_in")
    assert world.decisions[-1].alert
