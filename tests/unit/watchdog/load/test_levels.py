"""More is asked than can be done, nobody is to blame and no process may be added: what matters least is turned away."""

from typing import Any, get_args

import pytest
from msgspec.structs import replace

from lepton.contracts.modelling.healing import Action
from lepton.contracts.pb.recovery_pb2 import RecoveryAction
from lepton.contracts.pb.telemetry_pb2 import Measurement, Telemetry
from services.watchdog.core.inputs import Announced, Requests, Rules
from services.watchdog.core.journal import replay
from services.watchdog.core.load.levels import CALM_S, Cut, Levels
from services.watchdog.core.thresholds.limits import Ladders
from services.watchdog.edge.recovery import ACTIONS
from services.watchdog.flow import translate
from tests.unit.watchdog.capacity.crowd import SHOP, Crowd, crowd

ALONE = replace(SHOP, replicas=(1, 1))
MODEL = "model:shop"
Rank = tuple[int, bool]


class Shop(Crowd):
    """Predictors obey sheds as well: what a shed in force does not spare is turned away."""

    def asked(self, seconds: int, rates: dict[Rank, int]) -> None:
        """So many requests a second, by level and whether they name it."""
        for _ in range(seconds):
            cut = self.cut()
            kept = sum(rate for rank, rate in rates.items() if _spares(cut, *rank))
            done = min(kept, self.answers * len(self.predictors))
            self.second(Requests("shop", done, kept - done, (), kept - done, sum(rates.values()) - kept, tuple(
                (level, named, rate) for (level, named), rate in sorted(rates.items()))))

    def cut(self) -> dict[str, str]:
        """Arguments of the shed that is in force."""
        if not self.obeys:
            return {}
        last = next((one for one in reversed(self.decisions) if one.command is not None and (
            one.command.action in ("shed", "restore"))), None)
        if last is None or last.command is None or last.command.action == "restore":
            return {}
        over = last.incident.held_until <= self.now
        return {} if over else last.command.arguments


def _spares(cut: dict[str, str], level: int, named: bool) -> bool:
    if not cut:
        return True
    keep = int(cut["keep"])
    return level <= keep or (level == keep + 1 and not named and cut["unnamed"] == "false")


def shop(rules: Rules = ALONE, **changes: Any) -> Shop:
    made = crowd(rules, **changes)
    made.__class__ = Shop
    assert isinstance(made, Shop)
    return made


def actions(world: Crowd) -> list[tuple[str, str]]:
    return [(one.action, one.target) for one in world.commands()]


SURGE: dict[Rank, int] = {(1, True): 60, (2, False): 40, (3, True): 200}


def test_where_no_process_may_be_added_the_least_that_is_enough_is_turned_away_until_load_falls() -> None:
    world = shop()
    world.asked(30, {(1, True): 30, (2, False): 20, (3, True): 20})
    world.asked(60, SURGE)
    assert actions(world) == [("shed", MODEL)]
    # 100 of 300 are answered, 80 of them are to be asked: with level 3 alone away 100 would be.
    assert world.commands()[0].arguments == {"keep": "1", "unnamed": "true", "for_s": "600"}
    assert (world.last().timeline[-1].what, world.last().timeline[-1].detail) == (
        "helped", f"the signal is quiet while {MODEL} is held back")
    assert world.last().state == "commanded"
    world.asked(int(CALM_S) - 5, {(1, True): 30, (2, False): 20, (3, True): 20})
    assert actions(world) == [("shed", MODEL)]
    world.asked(20, {(1, True): 30, (2, False): 20, (3, True): 20})
    assert actions(world) == [("shed", MODEL), ("restore", MODEL)]
    assert world.commands()[-1].arguments == {"what": "shed"}
    assert (world.last().state, world.last().timeline[-1].what) == ("verified", "let go")


def test_processes_are_added_first_as_far_as_there_may_be_some() -> None:
    world = shop(replace(SHOP, replicas=(1, 2)))
    world.asked(90, SURGE)
    assert actions(world) == [("scale_out", "service:predictor"), ("shed", MODEL)]
    # Two processes answer 200 of 300.
    assert world.commands()[1].arguments == {"keep": "2", "unnamed": "false", "for_s": "600"}
    assert world.last().state == "commanded"


def test_it_goes_where_nothing_is_scaled_at_all() -> None:
    world = shop(replicas={})
    world.asked(60, SURGE)
    assert actions(world) == [("shed", MODEL)]


@pytest.mark.parametrize("rates", [
    {(1, True): 300},                                  # all of it matters most
    {(1, True): 290, (2, True): 10},                   # the little that does not would make no difference
    {},                                                # the model has no levels
])
def test_what_would_not_help_is_not_done_and_a_person_is_told(rates: dict[Rank, int]) -> None:
    world = shop()
    for _ in range(60):
        world.second(Requests("shop", 100, 200, (), 200, 0, tuple((*rank, rate) for rank, rate in rates.items())))
    assert (actions(world), world.ended("overload")) == ([], "escalated")


def test_where_it_does_not_help_more_goes_once_then_a_person_is_told() -> None:
    world = shop()
    world.obeys = False
    world.asked(120, SURGE)
    assert [one.action for one in world.commands()] == ["shed", "shed"]
    assert world.ended("overload") == "escalated"


def test_load_that_grows_under_a_shed_is_met_by_the_next_step() -> None:
    world = shop()
    world.asked(40, {(1, True): 30, (2, True): 40, (3, True): 200})
    assert world.commands()[0].arguments["keep"] == "2"
    world.asked(60, {(1, True): 60, (2, True): 140, (3, True): 200})
    assert [one.arguments["keep"] for one in world.commands()] == ["2", "1"]
    assert world.last().state == "commanded"


def test_load_that_goes_up_and_down_lets_nobody_in_between() -> None:
    world = shop()
    world.asked(40, SURGE)
    for _ in range(2):
        world.asked(20, {(1, True): 30, (2, False): 20, (3, True): 20})
        world.asked(20, SURGE)
    assert actions(world) == [("shed", MODEL)]


def test_after_its_time_load_that_stays_gets_the_next_step() -> None:
    world = shop(hold_s=30.0)
    world.asked(190, SURGE)
    assert [one.action for one in world.commands()] == ["shed", "shed"]
    assert world.ended("overload") == "escalated"


def test_what_comes_back_again_and_again_is_left_to_a_person() -> None:
    world = shop(flaps=2)
    for _ in range(3):
        world.asked(30, SURGE)
        world.asked(60, {(1, True): 30, (3, True): 20})
    assert [one.action for one in world.commands()] == ["shed", "restore"] * 2
    assert any("cured 2 times" in one.incident.verdict for one in world.decisions)


def test_a_process_that_comes_meanwhile_makes_room_for_more() -> None:
    levels = Levels()
    levels.begin("shop", Cut(1, False, 80.0), 1)
    for second in range(100):
        levels.see(Requests("shop", 100, 0, (), 0, 50, ((1, True, 100), (2, True, 50))), float(second))
        levels.look(float(second), 1 if second < 50 else 2)
        assert levels.needed("shop", float(second)) == (second < 50 + CALM_S)


@pytest.mark.parametrize("rule", [{"dry_run": ("shed",)}, {"approval": ("shed",)}, {"budget_actions": 0},
                                  {"ladders": Ladders(overload=("throttle", "scale_out"))}])
def test_dry_run_approval_budget_and_ladder_hold_for_it(rule: dict[str, object]) -> None:
    world = shop(replace(ALONE, **rule))
    world.asked(40, SURGE)
    assert (actions(world), world.ended("overload")) == ([], "escalated")


def test_what_is_shed_is_no_failure_of_the_model() -> None:
    world = shop(replace(ALONE, slo=None))
    world.asked(60, SURGE)
    assert {one.incident.symptom for one in world.decisions} == {"overload"}


def test_a_shed_and_its_end_replay_to_the_same_decisions() -> None:
    world = shop()
    world.asked(40, SURGE)
    world.tick(Announced("predictor-0", "predictor", "ready"))
    world.asked(60, {(1, True): 30})
    assert len(world.commands()) == 2
    assert list(replay(world.written())) == world.made


def test_every_action_a_pipeline_may_ask_for_has_its_word_on_the_wire() -> None:
    assert set(get_args(Action)) <= set(ACTIONS)
    assert RecoveryAction.Name(ACTIONS["shed"]) == "RECOVERY_ACTION_SHED"


def test_heartbeats_of_predictors_tell_of_levels_and_of_what_was_shed() -> None:
    def said(name: str, value: int, **attributes: str) -> Measurement:
        return Measurement(name=f"lepton_predictor_{name}", value=value, attributes={"model": "m", **attributes})
    told = [said("requests", 90, outcome="ok"), said("requests", 7, outcome="Busy"),
            said("requests", 5, outcome="Shed"), said("level_requests", 100, level="1", named="true"),
            said("level_requests", 2, level="2", named="false")]
    assert list(translate.requests(Telemetry(service="predictor", measurements=told))) == [
        Requests("m", 90, 7, (), 7, 5, ((1, True, 100), (2, False, 2)))]
    assert list(translate.requests(Telemetry(service="predictor", measurements=told[2:3]))) == [
        Requests("m", 0, 0, shed=5)]
