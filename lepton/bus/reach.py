"""How long the database takes to answer this process, measured for the watchdog while an answer is awaited too."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from lepton.clock import Clock
from lepton.contracts import names
from lepton.errors import Unavailable
from lepton.runtime.loops import pause
from lepton.runtime.telemetry import Telemetry

EVERY_S: Final = 1.0
# As long as an operation may take before it fails: an answer that is an error is no faster one.
FAILED_S: Final = 5.0
_STEP_S: Final = 0.5

Ping = Callable[[], Awaitable[None]]


async def measure(stop: asyncio.Event, ping: Ping, telemetry: Telemetry, clock: Clock) -> None:
    """Until `stop`: ask, and tell how long it took, or has taken by now; after a failure no less until it answers."""
    least_s = 0.0
    while not stop.is_set():
        began = clock.monotonic()
        asked = asyncio.ensure_future(_answered(ping))
        try:
            while not (await asyncio.wait({asked}, timeout=_STEP_S))[0] and not stop.is_set():
                telemetry.measure(names.DATABASE_SECONDS, max(least_s, clock.monotonic() - began))
            if asked.done():
                least_s = 0.0 if asked.result() else FAILED_S
                telemetry.measure(names.DATABASE_SECONDS, max(least_s, clock.monotonic() - began))
        finally:
            asked.cancel()
        await pause(stop, EVERY_S, clock)


async def _answered(ping: Ping) -> bool:
    try:
        await ping()
    except Unavailable:
        return False
    return True
