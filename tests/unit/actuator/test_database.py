"""A database that is broken and stays so is ended, once for each time; one that is well, away, or of others is not."""

import asyncio
from typing import cast

import pytest

from deploy.actuator.guarding.database import AGAIN_S, BROKEN_S, EVERY_S, Guard
from deploy.supervisor import ProcessManager
from lepton.clock import FakeClock
from lepton.errors import Missing, Unavailable
from tests.harness.wait import apoll_until


class Installation:
    """A database that answers `says`, beside a process manager that knows it or not."""

    def __init__(self) -> None:
        self.says = "internal server error"
        self.knows, self.away = True, False
        self.signals: list[tuple[str, str]] = []
        self.told: list[tuple[str, str, str]] = []
        self.clock = FakeClock()
        self.guard = Guard(cast("ProcessManager", self), self.broken, lambda *told: self.told.append(told), self.clock)

    async def broken(self) -> str:
        return self.says

    def signal(self, name: str, signal_name: str) -> None:
        if not self.knows:
            raise Missing("the process manager has no such program", field=name)
        if self.away:
            raise Unavailable("the process manager is gone")
        self.signals.append((name, signal_name))

    async def live(self, seconds: float) -> None:
        for _ in range(round(seconds / EVERY_S)):
            await self.guard.look()
            await self.clock.advance(EVERY_S)


@pytest.fixture
def here() -> Installation:
    return Installation()


async def test_it_is_ended_once_it_stays_broken_and_again_only_after_it_had_time(here: Installation) -> None:
    await here.live(BROKEN_S)
    assert here.signals == []
    await here.live(EVERY_S)
    assert here.signals == [("database", "KILL")]
    assert here.told == [("database_broken", "it answered internal server error, and was ended to begin anew",
                          "database")]
    await here.live(AGAIN_S - 1)
    assert len(here.signals) == 1
    await here.live(2)
    assert len(here.signals) == 2


async def test_one_that_reads_again_is_left_alone(here: Installation) -> None:
    for _ in range(3):
        await here.live(BROKEN_S)
        here.says = ""
        await here.live(EVERY_S)
        here.says = "internal server error"
    assert here.signals == []


async def test_a_database_of_others_is_none_to_end(here: Installation) -> None:
    here.knows = False
    await here.live(2 * BROKEN_S)
    assert here.told == []


async def test_one_that_could_not_be_ended_is_ended_at_a_later_look(here: Installation) -> None:
    here.away = True
    await here.live(BROKEN_S + EVERY_S)
    assert here.told == []
    here.away = False
    await here.live(EVERY_S)
    assert here.signals == [("database", "KILL")]


async def test_it_looks_until_it_is_told_to_stop(here: Installation) -> None:
    stop = asyncio.Event()
    watching = asyncio.ensure_future(here.guard.watch(stop))

    async def ended() -> bool:
        await here.clock.advance(EVERY_S)
        return bool(here.signals)

    await apoll_until(ended, "the end of the database", 10, every_s=0.0)
    stop.set()
    await here.clock.advance(EVERY_S)
    await asyncio.wait_for(watching, 10)
