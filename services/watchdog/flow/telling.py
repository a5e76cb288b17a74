"""How people come to know: alerts on their way from decisions to addresses, tried again until they are taken.

An address that takes nothing holds up no other. Addresses hold secrets: only their scheme is ever told.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lepton.clock import Clock
from lepton.runtime.loops import Works, pause
from services.watchdog.core.alerting import wording
from services.watchdog.core.alerting.alerts import Alert, alert_of
from services.watchdog.core.alerting.grouping import Grouping, Message, Timing
from services.watchdog.core.alerting.routes import Route, addresses
from services.watchdog.core.incident import SUSPECTED
from services.watchdog.core.inputs import Decision, Incident

POLL_S: Final = 0.25
SEND_S: Final = 15.0
FIRST_RETRY_S, LAST_RETRY_S = 2.0, 60.0
GIVE_UP_S: Final = 3600.0
MAX_WAITING: Final = 100
"""Messages that wait for one address."""
SETTLE_S: Final = 5.0
"""After taking over: until pipelines, which name addresses, are read."""
RECENT_S: Final = 60.0
"""What happened so shortly before we took over may not have been told: it is told again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """One message as people read it, and as programs do (the body of Alertmanager's webhook)."""

    title: str
    body: str
    document: dict[str, Any]


# Sends a notice to an address; whether it was taken. May raise OSError, TimeoutError, TypeError or ValueError.
Send = Callable[[str, Notice], Awaitable[bool]]
# What became of a message: `sent`, `failed` (it is tried again), `given_up`, `left_out`; with the address's scheme.
Report = Callable[[str, str, str], None]


@dataclass(slots=True)
class _Outbox:
    """What waits for one address, in order. `failed_at`: when the first one failed first."""

    notices: deque[Notice] = field(default_factory=deque)
    failed_at: float | None = None
    tries: int = 0
    not_before: float = 0.0


class Telling:
    """`named`: addresses that a pipeline names itself."""

    def __init__(self, routes: Sequence[Route], timing: Timing, send: Send, report: Report,
                 named: Callable[[str], tuple[str, ...]], clock: Clock, give_up_s: float = GIVE_UP_S) -> None:
        self._routes = tuple(routes)
        self._grouping = Grouping(timing)
        self._send = send
        self._report = report
        self._named = named
        self._clock = clock
        self._give_up_s = give_up_s
        self._outboxes: dict[str, _Outbox] = {}
        self._taken_over: tuple[float, tuple[Incident, ...]] | None = None

    def tell(self, decision: Decision) -> None:
        """Never waits, never raises; all of it is in the log at once."""
        one = alert_of(decision)
        if one is None:
            return
        log.warning("%s of %s (%s): %s", one.symptom, one.cause, one.state, one.text)
        self._grouping.add(one, addresses(self._routes, one, decision.notify), self._clock.monotonic())

    def standing(self, incidents: Iterable[Incident]) -> None:
        """We lead from now on, and these are known; none: we do not lead any more, and repeat nothing."""
        self._taken_over = (self._clock.monotonic(), tuple(incidents))
        self._grouping.forget()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; what waits then is told by who leads next, if it is as recent as that."""
        sending: Works[str, None] = Works()
        try:
            while not stop.is_set():
                self._settle()
                self._collect()
                for address in self._ready() - sending.keys:
                    sending.start(address, self._send_first(address))
                await pause(stop, POLL_S, self._clock)
                sending.check()
        finally:
            await sending.cancel()

    def _settle(self) -> None:
        now = self._clock.monotonic()
        if self._taken_over is None or now - self._taken_over[0] < SETTLE_S:
            return
        at, incidents = self._taken_over
        self._taken_over = None
        recent_s = self._clock.now().timestamp() - (now - at) - RECENT_S
        known: list[tuple[Alert, tuple[str, ...]]] = []
        for incident in incidents:
            one = alert_of(Decision(incident, alert=_last_word(incident)))
            if one is None or incident.state == SUSPECTED:
                continue
            wanted = addresses(self._routes, one, self._named(one.pipeline))
            if one.at_s >= recent_s:
                self._grouping.add(one, wanted, now)
            elif one.firing:
                known.append((one, wanted))
        self._grouping.stand(known, now)

    def _collect(self) -> None:
        for message in self._grouping.due(self._clock.monotonic()):
            outbox = self._outboxes.setdefault(message.address, _Outbox())
            outbox.notices.append(_notice(message))
            if len(outbox.notices) > MAX_WAITING:
                # The first may be on its way now.
                del outbox.notices[1]
                self._report("left_out", _scheme(message.address), "too many messages wait for it")

    def _ready(self) -> frozenset[str]:
        now = self._clock.monotonic()
        return frozenset(address for address, box in self._outboxes.items() if box.notices and box.not_before <= now)

    async def _send_first(self, address: str) -> None:
        outbox = self._outboxes[address]
        why = await self._try(address, outbox.notices[0])
        now = self._clock.monotonic()
        if not why:
            outbox.notices.popleft()
            outbox.failed_at, outbox.tries, outbox.not_before = None, 0, 0.0
            self._report("sent", _scheme(address), "")
            return
        outbox.failed_at = now if outbox.failed_at is None else outbox.failed_at
        outbox.not_before = now + min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** outbox.tries)
        outbox.tries += 1
        if now - outbox.failed_at >= self._give_up_s:
            outbox.notices.popleft()
            outbox.failed_at, outbox.tries = None, 0
            self._report("given_up", _scheme(address), why)
        else:
            self._report("failed", _scheme(address), why)

    async def _try(self, address: str, notice: Notice) -> str:
        """Why it was not taken; empty when it was."""
        try:
            async with asyncio.timeout(SEND_S):
                taken = await self._send(address, notice)
        except (TimeoutError, OSError, TypeError, ValueError) as error:
            # apprise raises TypeError for an address it cannot read.
            return type(error).__name__
        return "" if taken else "it was not taken"


def _last_word(incident: Incident) -> str:
    last = incident.timeline[-1] if incident.timeline else None
    return f"{last.what}: {last.detail}" if last is not None else incident.state


def _notice(message: Message) -> Notice:
    return Notice(wording.title(message), wording.text(message), wording.webhook(message))


def _scheme(address: str) -> str:
    return address.partition(":")[0]
