"""One client asks for so much that others find no room: it is held back, and let go when it has stopped."""

from typing import Any

import pytest
from msgspec.structs import replace

from lepton.contracts.pb.telemetry_pb2 import Measurement, Telemetry
from services.watchdog.core.inputs import ClientsSeen, Requests, Rules
from services.watchdog.core.journal import replay
from services.watchdog.core.thresholds.limits import Ladders
from services.watchdog.flow import translate
from tests.unit.watchdog.capacity.crowd import SHOP, Crowd, crowd

ONE, OTHER = "lk_1111111111111111", "lk_2222222222222222"
HELD = f"client:{ONE}"
ALONE = replace(SHOP, replicas=(1, 1))


class Shop(Crowd):
    last_throttle: float = 0.0


def asked(world: Shop, seconds: int, direct: int = 0, **by_key: int) -> None:
    """So many requests a second by each client (`a`, `b`, ...) through the gateway; what is throttled is not asked."""
    names = {"a": ONE, "b": OTHER, "rest": ""}
    for _ in range(seconds):
        held = {one.target: float(one.arguments["rate_per_s"]) for one in world.commands() if one.action == "throttle"}
        held |= {one.target: 1e9 for one in world.commands() if one.action == "restore"}
        over = world.engine.state.thresholds.hold_s
        if world.last_throttle and world.now - world.last_throttle > over:
            held = {}
        let = {names[who]: round(min(rate, held.get(f"client:{names[who]}", 1e9))) for who, rate in by_key.items()}
        back = tuple((names[who], rate - let[names[who]]) for who, rate in by_key.items() if rate > let[names[who]])
        total = sum(let.values()) + direct
        done = min(total, world.answers * len(world.predictors))
        before = len(world.commands())
        world.second(Requests("shop", done, total - done, (), total - done),
                     ClientsSeen(tuple(("shop", key, count) for key, count in let.items()), back))
        if any(one.action == "throttle" for one in world.commands()[before:]):
            world.last_throttle = world.now


def shop(rules: Rules = SHOP, **changes: Any) -> Shop:
    made = crowd(rules, **changes)
    made.__class__ = Shop
    assert isinstance(made, Shop)
    return made


def actions(world: Crowd) -> list[tuple[str, str]]:
    return [(one.action, one.target) for one in world.commands()]


def test_a_client_that_grows_out_of_all_proportion_is_held_back_and_no_process_is_added() -> None:
    world = shop()
    asked(world, 90, a=10, b=40)
    asked(world, 60, a=300, b=40)
    assert actions(world) == [("throttle", HELD)]
    throttle = world.commands()[0]
    # 80 of 100 that are answered, less the 40 of the other; one gateway.
    assert throttle.arguments == {"rate_per_s": "40", "for_s": "600"}
    assert world.last().state == "commanded"
    assert (world.last().timeline[-1].what, world.last().timeline[-1].detail) == (
        "helped", f"the signal is quiet while {HELD} is held back")
    diagnosed = world.last().timeline[1].detail
    assert diagnosed.startswith("surge") and f"client {ONE} asks 300 times a second, usually 10" in diagnosed
    asked(world, 30, a=10, b=40)
    assert actions(world) == [("throttle", HELD), ("restore", HELD)]
    assert (world.last().state, world.last().timeline[-1].what) == ("verified", "let go")


def test_all_gateways_together_let_through_what_there_is_room_for() -> None:
    world = shop()
    world.beating["gateway-1"] = "gateway-1-1"
    asked(world, 90, a=10, b=40)
    asked(world, 30, a=300, b=40)
    assert world.commands()[0].arguments["rate_per_s"] == "20"


def test_one_that_goes_on_after_its_time_gets_the_next_step_then_a_person() -> None:
    world = shop(ALONE, hold_s=120.0)
    asked(world, 90, a=10, b=40)
    asked(world, 300, a=300, b=40)
    assert actions(world) == [("throttle", HELD)]
    assert world.ended("overload") == "escalated"


def test_one_that_stopped_meanwhile_is_not_let_go_again_after_its_time() -> None:
    world = shop(ALONE, hold_s=60.0)
    asked(world, 90, a=10, b=40)
    asked(world, 70, a=300, b=40)
    asked(world, 60, a=10, b=40)
    assert (actions(world), world.ended("overload")) == ([("throttle", HELD)], "verified")


@pytest.mark.parametrize(("before", "after"), [
    ({"a": 60, "b": 30}, {"a": 300, "b": 150}),       # all of them grew
    ({"a": 10}, {"a": 300}),                          # nobody else is there to be protected
    ({"a": 80, "b": 10}, {"a": 120, "b": 90}),        # none of them grew by as much as is refused
    ({"rest": 50, "a": 10}, {"rest": 300, "a": 10}),  # many small ones
])
def test_a_surge_is_nobody_s_fault_and_gets_another_process(before: dict[str, int], after: dict[str, int]) -> None:
    world = shop()
    asked(world, 90, **before)
    asked(world, 20, **after)
    assert actions(world) == [("scale_out", "service:predictor")]


def test_what_no_gateway_sees_is_not_laid_at_the_door_of_a_client_of_one() -> None:
    world = shop()
    asked(world, 90, a=10, b=40)
    asked(world, 20, a=30, b=40, direct=200)
    assert actions(world) == [("scale_out", "service:predictor")]


def test_before_it_is_known_what_is_usual_nobody_is_held_back() -> None:
    world = shop()
    asked(world, 20, a=10, b=40)
    asked(world, 20, a=300, b=40)
    assert actions(world) == [("scale_out", "service:predictor")]


def test_where_a_throttle_does_not_help_another_process_follows() -> None:
    world = shop()
    asked(world, 90, a=10, b=40)
    asked(world, 12, a=300, b=40)
    assert actions(world) == [("throttle", HELD)]
    for _ in range(60):
        # The throttle holds nobody: the client has a gateway that nobody told.
        world.second(Requests("shop", 100, 240, (), 240), ClientsSeen((("shop", ONE, 300), ("shop", OTHER, 40))))
    assert actions(world)[:2] == [("throttle", HELD), ("scale_out", "service:predictor")]


def test_a_client_is_let_go_with_what_was_shed_because_its_throttle_was_not_enough() -> None:
    world = shop(ALONE)
    asked(world, 90, a=10, b=40)
    asked(world, 12, a=300, b=40)
    for _ in range(60):
        # One gateway heard of no throttle, until what matters least is shed.
        full = not any(one.action == "shed" for one in world.commands())
        world.second(Requests("shop", 100 if full else 60, 240 * full, (), 240 * full, 280 * (not full), (
            (1, True, 60), (2, True, 280))), ClientsSeen((("shop", ONE, 300), ("shop", OTHER, 40)), ((ONE, 1),)))
    assert actions(world) == [("throttle", HELD), ("shed", "model:shop")]
    for _ in range(60):
        world.second(Requests("shop", 50, 0, (), 0, 0, ((1, True, 50),)),
                     ClientsSeen((("shop", ONE, 10), ("shop", OTHER, 40))))
    assert (world.ended("overload"), actions(world)[2:]) == (
        "verified", [("restore", HELD), ("restore", "model:shop")])
    assert [one.arguments for one in world.commands()[2:]] == [{}, {"what": "shed"}]
    assert len({one.command_id for one in world.commands()}) == 4
    assert list(replay(world.written())) == world.made


@pytest.mark.parametrize("rule", [{"dry_run": ("throttle",)}, {"approval": ("throttle",)},
                                  {"budget_actions": 0}, {"ladders": Ladders(overload=())}])
def test_dry_run_approval_budget_and_ladder_hold_for_it(rule: dict[str, object]) -> None:
    world = shop(replace(SHOP, **rule))
    asked(world, 90, a=10, b=40)
    asked(world, 40, a=300, b=40)
    assert (actions(world), world.ended("overload")) == ([], "escalated")


def test_a_throttle_and_its_end_replay_to_the_same_decisions() -> None:
    world = shop()
    asked(world, 90, a=10, b=40)
    asked(world, 40, a=300, b=40)
    asked(world, 30, a=10, b=40)
    assert len(world.commands()) == 2
    assert list(replay(world.written())) == world.made


def test_heartbeats_of_gateways_alone_tell_of_clients() -> None:
    told = [Measurement(name="lepton_gateway_key_requests", value=7, attributes={"model": "shop", "key": ONE}),
            Measurement(name="lepton_gateway_key_throttled", value=2, attributes={"key": ONE})]
    assert translate.clients(Telemetry(service="gateway", measurements=told)) == ClientsSeen(
        (("shop", ONE, 7),), ((ONE, 2),))
    assert translate.clients(Telemetry(service="gateway")) is None
    assert translate.clients(Telemetry(service="ingest", measurements=told)) is None
