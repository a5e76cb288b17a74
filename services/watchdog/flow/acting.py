"""Who may act, and acting: the lease with its fence, and each decision made durable before it takes effect."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from lepton.clock import Clock
from lepton.errors import Busy, LeptonError, Refused, Unavailable
from lepton.runtime.loops import pause
from lepton.store.incidents import Incidents, Lease
from services.watchdog.core.incident import COMMANDED
from services.watchdog.core.inputs import AlreadyOpen, Decision, Incident, Leads
from services.watchdog.core.orders.command import Command
from services.watchdog.flow import translate
from services.watchdog.flow.observing import Observing

LEASE = "watchdog"
RECENT = 50
RETRY_S = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Voice:
    """How the watchdog speaks. `command` and `audit` raise Unavailable; the others never wait and never raise."""

    command: Callable[[Command, int], Awaitable[None]]
    audit: Callable[[str, str, str], Awaitable[None]]
    announce: Callable[[], None]
    tell: Callable[[Decision], None]
    standing: Callable[[Sequence[Incident]], None]
    """What is known when we begin to lead; nothing when we no longer do."""


class Acting:
    """Carries out decisions, one after the other, for as long as the lease is held under which they were made.

    While it is not sure whether that is still held they wait; once it is lost they are dropped, and what is known
    begins anew from the store.
    """

    def __init__(self, incidents: Incidents, lease: Lease, observing: Observing, voice: Voice, clock: Clock, *,
                 owner: str, lease_s: float) -> None:
        self._incidents = incidents
        self._lease = lease
        self._observing = observing
        self._voice = voice
        self._clock = clock
        self._owner = owner
        self._lease_s = lease_s
        self._fence = 0
        self._held_until = 0.0
        self._decisions: asyncio.Queue[_Made] = asyncio.Queue()
        self._revisions: dict[str, int] = {}

    @property
    def leading(self) -> bool:
        """Whether the lease is surely held now: judged by our own clock, from before it was asked for."""
        return self._fence > 0 and self._clock.monotonic() < self._held_until

    def decide(self, fence: int, decisions: Sequence[Decision]) -> None:
        """Queue decisions made under `fence`."""
        for decision in decisions:
            self._decisions.put_nowait(_Made(fence, decision, self._clock.monotonic()))

    async def lead(self, stop: asyncio.Event) -> None:
        """Keep the lease, or wait for it, until `stop`; then let another have it."""
        while not stop.is_set():
            try:
                await self._keep_lease()
            except (Unavailable, Busy) as error:
                log.warning("the lease cannot be kept now: %s", error)
            if self._fence and not self.leading:
                self._lose()
            await pause(stop, self._lease_s / 5, self._clock)
        if self._fence:
            try:
                await self._lease.release(LEASE, self._fence)
            except Unavailable as error:
                log.warning("the lease is left to run out: %s", error)

    async def act(self, stop: asyncio.Event) -> None:
        """Carry out decisions until `stop`."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(RETRY_S):
                    made = await self._decisions.get()
            except TimeoutError:
                continue
            await self._carry_out(made, stop)

    async def _keep_lease(self) -> None:
        asked_at = self._clock.monotonic()
        if self._fence and not self.leading:
            # We stood still for too long: another may have led meanwhile. Begin anew from the store.
            self._lose()
        if self._fence:
            if not await self._lease.renew(LEASE, self._fence, self._lease_s):
                self._lose()
            else:
                self._held_until = asked_at + self._lease_s
            return
        fence = await self._lease.acquire(LEASE, self._owner, self._lease_s)
        if fence is not None:
            known = {one.incident_id: one for one in await self._incidents.list(RECENT)}
            known |= {one.incident_id: one for one in await self._incidents.still_open()}
            if self._clock.monotonic() - asked_at > self._lease_s / 2:
                # Reading took most of it. While it can be renewed, nobody else led and wrote meanwhile.
                asked_at = self._clock.monotonic()
                if not await self._lease.renew(LEASE, fence, self._lease_s):
                    return
            self._revisions = {name: one.revision for name, one in known.items()}
            self._fence, self._held_until = fence, asked_at + self._lease_s
            log.info("%s leads, fence %d", self._owner, fence)
            incidents = tuple(translate.from_message(one) for one in known.values())
            self._observing.put(Leads(fence, incidents))
            self._voice.standing(incidents)

    def _lose(self) -> None:
        log.warning("%s no longer leads", self._owner)
        self._fence = 0
        self._observing.put(Leads(0))
        self._voice.standing(())

    async def _carry_out(self, made: "_Made", stop: asyncio.Event) -> None:
        """Store, record, command, tell; tried again while database or bus are away, until the lease is lost."""
        incident = made.decision.incident
        while 0 < made.fence == self._fence:
            try:
                # Where it is not held now, its renewal is under way: it will be held again, or lost.
                if self.leading:
                    if await self._store(incident):
                        await self._command(made)
                    return
            except (Unavailable, Busy) as error:
                log.warning("incident %s waits: %s", incident.id, error)
            except LeptonError as error:
                # Refused, Missing: the store knows another story. Begin anew from it.
                log.error("incident %s was changed by another: %s", incident.id, error)
                self._lose()
                return
            if await pause(stop, RETRY_S, self._clock):
                return
        log.warning("a decision of fence %d about %s was dropped: the lease is lost", made.fence, incident.cause)

    async def _store(self, incident: Incident) -> bool:
        """Whether the decision still stands: False when the store holds another open incident for the same."""
        message = translate.to_message(incident)
        revision = self._revisions.get(incident.id)
        if revision is None:
            stored = await self._incidents.open(message, incident.key)
            self._revisions[stored.incident_id] = stored.revision
            if stored.incident_id != incident.id:
                self._observing.put(AlreadyOpen(translate.from_message(stored)))
                return False
        else:
            message.revision = revision
            try:
                stored = await self._incidents.advance(message)
            except Refused:
                stored = await self._incidents.get(incident.id)
                message.revision = stored.revision
                if stored != message:
                    raise
                # It was written by a call whose answer was lost.
            self._revisions[incident.id] = stored.revision
        self._voice.announce()
        return True

    async def _command(self, made: "_Made") -> None:
        command = made.left(self._clock.monotonic())
        if command is not None:
            await self._voice.audit(command.action, command.target,
                                    f"command {command.command_id}, incident {command.incident_id}")
            await self._voice.command(command, made.fence)
        elif made.decision.command is not None:
            log.warning("command %s waited until its time was over and is void", made.decision.command.command_id)
        self._voice.tell(made.decision)


@dataclass(frozen=True, slots=True)
class _Made:
    """A decision, the fence it was made under, and when that was by the monotonic clock."""

    fence: int
    decision: Decision
    at: float

    def left(self, now: float) -> Command | None:
        """Its command with what is left of its time, which began with the decision; None when that is over, as the core
        goes on to the next step then. What lets go, or ends a training, is the next step of none: it is never too late.
        """
        command, incident = self.decision.command, self.decision.incident
        if command is None or incident.state != COMMANDED or command.command_id not in incident.command_ids:
            return command
        left_s = command.valid_s - (now - self.at)
        return replace(command, valid_s=left_s) if left_s > 0 else None
