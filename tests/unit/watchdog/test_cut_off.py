"""A process that is silent on the bus and answers when asked directly is cut off: it is not ended for that at once."""

import asyncio

import pytest

from lepton.clock import FakeClock
from lepton.contracts.pb.telemetry_pb2 import Instance
from lepton.runtime.service import Service
from services.watchdog.core.inputs import Announced, Answered, Reached
from services.watchdog.core.journal import replay
from services.watchdog.core.safety.renewing import AWAY
from services.watchdog.edge.doors import who
from services.watchdog.flow.observing import Observing
from services.watchdog.flow.probing import Probing
from services.watchdog.settings import WatchdogSettings
from tests.unit.watchdog.world import World


@pytest.fixture
def world() -> World:
    return World().healthy()


def silent_but_reached(world: World, seconds: float, name: str = "ingest") -> None:
    """Let time pass in which it is asked, and answers, twice a second."""
    for _ in range(round(seconds * 2)):
        world.tick(Reached(name))
        world.run(0.25)


def test_the_way_to_the_broker_is_blamed_and_nobody_is_restarted_while_it_may_mend(world: World) -> None:
    boot = world.beating.pop("ingest")
    silent_but_reached(world, 20)
    assert (world.last().symptom, world.last().cause) == ("cut_off", "dependency:broker/ingest")
    assert world.commands() == []
    world.beating["ingest"] = boot
    world.run(2)
    assert world.last().state == "verified"
    assert len({one.incident.id for one in world.decisions}) == 1


def test_one_that_stays_cut_off_is_begun_anew_in_order_then_a_person_is_told(world: World) -> None:
    world.beating.pop("ingest")
    silent_but_reached(world, 40)
    assert world.orders() == [("restart", "instance:ingest")]
    assert world.commands()[0].arguments == {"grace_s": "10"}
    silent_but_reached(world, 100)
    assert world.last().state == "escalated"
    assert world.orders() == [("restart", "instance:ingest")]


@pytest.mark.parametrize("answered", ["done", "failed"])
def test_one_whose_restart_took_it_away_is_well_only_with_a_new_process(world: World, answered: str) -> None:
    boot = world.beating.pop("ingest")
    silent_but_reached(world, 40)
    world.tick(Answered(world.commands()[0].command_id, answered, "it ended"), Announced("ingest", gone=True))
    world.run(95)
    assert (world.last().state, world.last().verdict) == ("escalated", AWAY)
    world.tick(Announced("ingest", "ingest", "starting"))
    world.beating["ingest"] = f"{boot}-again"
    world.run(2)
    assert world.last().state == "verified"
    assert world.orders() == [("restart", "instance:ingest")]
    assert list(replay(world.written())) == world.made


def test_one_that_says_goodbye_before_anything_was_ordered_is_nobodys_any_more(world: World) -> None:
    world.beating.pop("ingest")
    silent_but_reached(world, 10)
    world.tick(Announced("ingest", gone=True))
    assert (world.last().state, world.last().verdict) == ("verified", "it said goodbye: nobody expects it any more")


def test_who_answers_no_more_is_dead(world: World) -> None:
    world.beating.pop("ingest")
    silent_but_reached(world, 5)
    world.run(4)
    assert world.orders() == [("restart", "instance:ingest")]
    assert world.commands()[0].cause == "process:ingest"


def test_rows_that_do_not_come_then_are_not_blamed_and_the_day_replays(world: World) -> None:
    world.beating.pop("ingest")
    silent_but_reached(world, 10)
    assert {one.incident.cause for one in world.decisions} == {"dependency:broker/ingest"}
    assert list(replay(world.written())) == world.made


async def test_only_who_is_late_is_asked_and_only_its_own_name_counts() -> None:
    asked: list[str] = []

    async def ask(address: str) -> str:
        asked.append(address)
        return {"h:1": "ingest", "h:2": "somebody else", "h:3": ""}.get(address, "trainer")

    clock = FakeClock()
    observing = Observing("watchdog", clock)
    probing = Probing("watchdog", observing, ask, clock)
    for name, address in (("ingest", "h:1"), ("gateway", "h:2"), ("predictor-0", "h:3"), ("trainer", "h:4"),
                          ("watchdog", "h:5"), ("actuator", "0.0.0.0:6")):
        probing.announced(name, Instance(admin_address=address))
    stop = asyncio.Event()
    running = asyncio.ensure_future(probing.run(stop))
    while not asked:
        probing.heard("trainer")
        await clock.advance(0.2)
    stop.set()
    await clock.advance(1)
    await running
    assert set(asked) == {"h:1", "h:2", "h:3"}
    assert set(observing.take()) == {Reached("ingest")}


async def test_a_process_says_its_name_at_its_door_and_who_is_away_says_nothing() -> None:
    service = Service("watchdog", WatchdogSettings(instance="watchdog-7"))
    await service.admin.start()
    try:
        assert await who(service.admin.address) == "watchdog-7"
    finally:
        await service.admin.stop()
    assert await who(service.admin.address) == ""
