"""Who is asked directly while nothing is heard of them on the bus: one that answers is cut off, not dead."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address

from lepton.clock import Clock
from lepton.contracts.pb import telemetry_pb2
from lepton.runtime.loops import pause
from services.watchdog.core.inputs import Reached
from services.watchdog.core.signals import OVERDUE_S
from services.watchdog.flow.observing import Observing

EVERY_S = 0.4
# Far beyond any silence that is judged: who is gone for good is not asked for ever.
GIVE_UP_S = 120.0

Ask = Callable[[str], Awaitable[str]]
"""The name that the process behind an address gives itself; "" when there is no answer in time."""


@dataclass(slots=True)
class _Door:
    address: str
    heard_at: float


class Probing:
    """Knows the doors of all processes, and when each was last heard; `own` is the name of this one."""

    def __init__(self, own: str, observing: Observing, ask: Ask, clock: Clock) -> None:
        self._own = own
        self._observing = observing
        self._ask = ask
        self._clock = clock
        self._doors: dict[str, _Door] = {}

    def announced(self, name: str, message: telemetry_pb2.Instance | None) -> None:
        """Take note of where it can be asked; None: it took itself off."""
        if message is None or not _reachable(message.admin_address):
            self._doors.pop(name, None)
        elif name != self._own:
            door = self._doors.setdefault(name, _Door(message.admin_address, self._clock.monotonic()))
            door.address = message.admin_address

    def heard(self, name: str) -> None:
        if name in self._doors:
            self._doors[name].heard_at = self._clock.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: ask whoever is overdue, all at once."""
        while not stop.is_set():
            now = self._clock.monotonic()
            late = [(name, door.address) for name, door in self._doors.items()
                    if OVERDUE_S < now - door.heard_at < GIVE_UP_S]
            answers = await asyncio.gather(*(self._ask(address) for _, address in late))
            for (name, _), said in zip(late, answers, strict=True):
                # Behind an address may by now be another process, or this one.
                if said == name:
                    self._observing.put(Reached(name))
            await pause(stop, EVERY_S, self._clock)


def _reachable(address: str) -> bool:
    """Whether it names a host: an address that stands for every network of its own machine names ours to us."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return not ip_address(host).is_unspecified
    except ValueError:
        return bool(host)
