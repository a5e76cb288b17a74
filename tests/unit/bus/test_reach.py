"""How long the database takes to answer is told while it is awaited, and a failure is no fast answer."""

import asyncio

from lepton.bus import reach
from lepton.clock import FakeClock
from lepton.contracts import names
from lepton.errors import Unavailable
from tests.harness.wait import apoll_until


class Told:
    """Takes what is measured; stands where a service's telemetry does."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def measure(self, name: str, value: float) -> None:
        assert name == names.DATABASE_SECONDS
        self.values.append(value)


async def measured(ping: reach.Ping, clock: FakeClock, values: int) -> list[float]:
    told, stop = Told(), asyncio.Event()
    running = asyncio.ensure_future(reach.measure(stop, ping, told, clock))  # type: ignore[arg-type]

    async def enough() -> bool:
        await clock.advance(0.5)
        return len(told.values) >= values

    await apoll_until(enough, "it to be measured")
    stop.set()
    await clock.advance(10)
    await running
    return told.values


async def test_an_answer_takes_its_time_and_a_failure_the_longest() -> None:
    async def answers() -> None:
        return

    async def fails() -> None:
        raise Unavailable("it is away")

    assert max(await measured(answers, FakeClock(), 3)) == 0
    assert min(await measured(fails, FakeClock(), 3)) >= reach.FAILED_S


async def test_what_hangs_is_told_before_it_answers() -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    told = await measured(hangs, FakeClock(), 2)
    assert told == sorted(told)
    assert told[0] > 0
