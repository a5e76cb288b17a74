"""More to do than is done: processes are added one at a time, within every bound, and it is proven that it helped."""

import pytest
from msgspec.structs import replace

from lepton.contracts import names
from services.watchdog.core.inputs import Answered, Figures, Leads, Requests
from services.watchdog.core.journal import replay
from services.watchdog.core.summaries.counts import RowsSeen, SourceRows
from services.watchdog.core.thresholds.limits import Ladders, VolumeRule
from tests.unit.watchdog.capacity.crowd import LIMITS, SHOP, crowd

OUT = ("scale_out", "service:predictor")


def test_refused_requests_are_an_overload_and_another_predictor_ends_it() -> None:
    world = crowd()
    world.ask(40, 150)
    assert world.scaled() == [(*OUT, "2")]
    assert (world.last().symptom, world.last().cause, world.last().state) == ("overload", "surge:shop", "verified")
    assert "with 2 processes of predictor" in world.last().verdict
    assert "% of the requests found no room" in world.last().timeline[0].detail


def test_a_few_refusals_a_short_burst_and_faults_of_other_kinds_are_no_overload() -> None:
    world = crowd()
    world.ask(60, 104)
    for _ in range(10):
        world.ask(4, 300)
        world.ask(20, 90)
    assert world.decisions == []


def test_what_one_more_does_not_end_gets_another_and_at_the_most_of_the_pipeline_a_person() -> None:
    world = crowd()
    world.ask(300, 500)
    assert world.scaled() == [(*OUT, "2"), (*OUT, "3")]
    assert (world.last().symptom, world.last().state) == ("overload", "escalated")
    assert world.last().verdict == "no effect in time"


def test_a_pipeline_that_may_have_no_more_is_a_person_s_at_once() -> None:
    world = crowd(replace(SHOP, replicas=(1, 1)))
    world.ask(60, 500)
    assert (world.scaled(), world.ended("overload")) == ([], "escalated")


def test_the_installation_s_bound_holds_whatever_a_pipeline_asks_for() -> None:
    world = crowd(replace(SHOP, replicas=(1, 50)), replicas={"predictor": (1, 2)})
    world.ask(300, 900)
    assert world.scaled() == [(*OUT, "2")]
    assert crowd(replicas={}).thresholds.replicas == {}


def test_where_nothing_is_said_of_replicas_nothing_is_scaled() -> None:
    world = crowd(replicas={})
    world.ask(60, 500)
    assert (world.scaled(), world.ended("overload")) == ([], "escalated")
    world.wait(100, 400)
    assert (world.scaled(), world.ended("lag")) == ([], "escalated")


def test_one_pipeline_s_most_does_not_bind_another() -> None:
    world = crowd(replace(SHOP, replicas=(1, 1)), replace(SHOP, pipeline="kiln"))
    world.ask(40, 150, "kiln")
    assert world.scaled() == [(*OUT, "2")]


def test_an_actuator_that_refuses_is_told_to_a_person() -> None:
    world = crowd()
    world.obeys = False
    world.ask(20, 150)
    world.tick(Answered(world.commands()[0].command_id, "refused", "only 1 instances are defined"))
    world.ask(30, 150)
    world.tick(Answered(world.commands()[-1].command_id, "refused", "only 1 instances are defined"))
    world.ask(5, 150)
    assert world.ended("overload") == "escalated"
    assert "refused" in world.last().verdict


def test_while_a_predictor_is_starting_none_is_added() -> None:
    world = crowd()
    world.states["predictor-0"] = "starting"
    world.ask(60, 150)
    assert world.scaled() == []
    world.states["predictor-0"] = "ready"
    world.ask(3, 150)
    assert world.scaled() == [(*OUT, "2")]


def test_predictors_that_never_get_ready_are_told_to_a_person() -> None:
    world = crowd()
    world.states["predictor-0"] = "starting"
    world.ask(200, 150)
    assert (world.scaled(), world.ended("overload")) == ([], "escalated")
    assert "not all of its processes are ready" in world.last().verdict


def test_rows_that_wait_and_requests_that_are_refused_are_one_surge_and_one_more_process() -> None:
    world = crowd(limits=replace(LIMITS, queue_s=8.0))
    for _ in range(40):
        waiting = 3000.0 if len(world.predictors) == 1 else 0.0
        world.tick(Figures("predictor-0", "predictor", "", (("lepton_predictor_waiting_rows", "", waiting),)))
        world.ask(1, 150)
    assert world.scaled() == [(*OUT, "2")]
    assert "escalated" not in world.states_seen()


def test_lag_is_foreseen_and_another_ingest_is_there_before_it_is_too_much() -> None:
    world = crowd()
    world.wait(100, 80)
    (command,) = world.commands()
    assert (command.action, command.target, command.arguments) == ("scale_out", "service:ingest", {"replicas": "2"})
    assert (world.last().symptom, world.last().pipeline) == ("load_ahead", "shop")
    assert "10000 in" in world.last().timeline[0].detail
    world.wait(60, -100, 8000)
    assert world.ended("load_ahead") == "verified"
    assert not any(one.incident.symptom == "lag" for one in world.decisions)


def test_lag_that_is_little_or_not_steady_is_not_foreseen() -> None:
    world = crowd()
    world.wait(90, 9)
    world.wait(60, 0, 5000)
    for _ in range(10):
        world.wait(14, 300)
    assert world.scaled() == []


def test_a_pipeline_may_have_lag_waited_for() -> None:
    world = crowd(replace(SHOP, ladders=Ladders(load_ahead=())))
    world.wait(100, 80)
    assert world.decisions == []
    world.wait(100, 80, 8000)
    assert world.scaled() == [("scale_out", "service:ingest", "2")]
    assert world.last().symptom == "lag"


def test_more_processes_than_partitions_would_have_nothing_to_read() -> None:
    world = crowd(replace(SHOP, partitions=1))
    world.wait(200, 100)
    assert (world.scaled(), world.ended("lag")) == ([], "escalated")


def test_lag_of_a_service_that_is_not_scaled_is_a_person_s() -> None:
    world = crowd()
    world.wait(200, 100, instance="trainer", topic="lepton-features-shop")
    assert (world.scaled(), world.ended("lag")) == ([], "escalated")
    assert world.last().target == "instance:trainer"


def surge(world: object, seconds: int, rows: int) -> None:
    for _ in range(seconds // 2):
        world.second(RowsSeen("shop", (SourceRows("web", rows, 0, 0, 0),)))  # type: ignore[attr-defined]
        world.second()  # type: ignore[attr-defined]


def test_a_surge_of_rows_is_met_ahead_of_need_and_no_person_while_it_is_carried() -> None:
    world = crowd(replace(SHOP, volume=VolumeRule(high=3.0, over_s=10.0, learn_s=60.0)))
    surge(world, 80, 100)
    surge(world, 120, 1000)
    assert world.scaled() == [("scale_out", "service:ingest", "2")]
    assert "escalated" not in world.states_seen()
    surge(world, 60, 100)
    assert world.ended("surge") == "verified"


@pytest.mark.parametrize("rule", [{"dry_run": ("scale_out",)}, {"approval": ("scale_out",)}, {"budget_actions": 0},
                                  {"ladders": Ladders(overload=())}])
def test_dry_run_approval_budget_and_ladder_of_the_pipeline_hold(rule: dict[str, object]) -> None:
    world = crowd(replace(SHOP, **rule))
    world.ask(60, 150)
    assert (world.scaled(), world.ended("overload")) == ([], "escalated")


def test_processes_are_added_a_cool_down_apart_and_no_more_than_the_budget() -> None:
    world = crowd(scale_actions=1)
    world.ask(300, 500)
    assert world.scaled() == [(*OUT, "2")]
    assert "budget" in world.last().verdict


def test_another_watchdog_knows_from_the_incidents_what_was_scaled() -> None:
    world = crowd(scale_actions=1)
    world.ask(40, 150)
    told = world.last()
    other = crowd(scale_actions=1)
    other.tick(Leads(2, (replace(told, timeline=tuple(replace(one, at_s=one.at_s + other.now - world.now)
                                                      for one in told.timeline)),)))
    other.ask(60, 500)
    assert other.scaled() == []


def test_fewer_than_a_pipeline_asks_for_are_brought_to_as_many() -> None:
    world = crowd(replace(SHOP, replicas=(3, 3)))
    world.ask(8, 10)
    assert world.scaled() == []
    world.ask(20, 10)
    assert world.scaled() == [(*OUT, "3")]
    assert (world.last().symptom, world.last().cause, world.last().state) == (
        "too_few", "resources:predictor", "verified")


def test_a_service_without_any_process_is_not_begun() -> None:
    world = crowd(replace(SHOP, replicas=(2, 2)))
    world.states["predictor-0"] = "draining"
    world.ask(60, 0)
    assert world.scaled() == []


def test_scaling_replays_to_the_same_decisions() -> None:
    world = crowd()
    world.ask(40, 150)
    world.ask(200, 10)
    assert [one for one, _, _ in world.scaled()] == ["scale_out", "scale_in"]
    assert list(replay(world.written())) == world.made


def test_what_waits_is_left_to_the_scale_out_that_is_being_judged() -> None:
    world = crowd()
    world.obeys = False
    for second in range(80):
        rows = 2_500.0 + second
        world.second(Requests("shop", 100, 50, (), 50),
                     Figures("predictor-0", "predictor", "", ((names.WAITING_ROWS, "", rows),)))
    assert {one.incident.symptom for one in world.decisions} == {"overload"}
    assert ("queue", "surge:predictor-0") in world.engine.state.standing
    (overload,) = world.engine.open.values()
    assert (overload.state, overload.action) == ("commanded", "scale_out")
