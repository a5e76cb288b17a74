"""What a run works on, and the wait for a moment at which it may be struck: all is well, and rested as a fault asks."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from deploy.chaos import verdict
from deploy.chaos.models.promoting import Corrupt
from deploy.chaos.network import Network
from deploy.chaos.plan import Fault, Plan, Starve, Strike
from deploy.supervisor import ENDED, ProcessManager
from lepton.bus.records import Broker
from lepton.clock import Clock
from lepton.errors import Missing, Unavailable

_LOOK_S = 0.25
_TIMES = 3
"""A rest that has begun anew so often, because what was waited for began anew, will not come."""
_WATCHDOG = "watchdog"


@dataclass(frozen=True)
class Stack:
    """What a run works on. `ready` says whether the process of a name answers that it is ready."""

    control: ProcessManager
    broker: Broker
    rest: httpx.AsyncClient
    ready: Callable[[str], Awaitable[bool]]
    clock: Clock
    network: Network
    concerns: Callable[[verdict.Incident], bool]
    """Whether an incident is looked at; the others are as if they were not."""
    corrupt: Corrupt

    async def until(self, what: Callable[[], Awaitable[bool]], within_s: float) -> float | None:
        """Seconds until it was so; None when it was not within `within_s`."""
        began = self.clock.monotonic()
        while True:
            if await what():
                return self.clock.monotonic() - began
            if self.clock.monotonic() - began > within_s:
                return None
            await self.clock.sleep(_LOOK_S)

    async def incidents(self) -> list[dict[str, Any]] | None:
        """The latest; None while the gateway cannot say."""
        with suppress(httpx.HTTPError, ValueError):
            answer = await self.rest.get("/v1/incidents", params={"limit": 100})
            if answer.is_success:
                body = answer.json()
                found: list[dict[str, Any]] = body["incidents"] if isinstance(body, dict) else body
                return [one for one in found if self.concerns(one)]
        return None

    def there(self) -> None:
        """Raises Unavailable where there is no stack any more: nobody is left who starts a process again."""
        if not self.control.alive():
            raise Unavailable("the stack is gone: its process manager does not answer", remedy="`lepton up`")

    async def wrong(self) -> list[str]:
        """Open incidents and processes that are not ready; empty while all is well."""
        found = await self.incidents()
        if found is None:
            return ["the gateway cannot say"]
        try:
            known = self.control.processes()
        except Unavailable as failure:
            return [str(failure)]
        return [*(f"{one['symptom']} of {one['cause']}, {one['state']}" for one in found
                  if one["state"] in verdict.OPEN),
                *[f"{one.name} is {one.state}" for one in known if one.state in ENDED],
                *[f"{one.name} is not ready" for one in known if one.state == "RUNNING"
                  and not await self.ready(one.name)]]


@dataclass
class Moment:
    """When the next fault may be struck. `flows_since`: when events began to flow, in epoch seconds."""

    stack: Stack
    plan: Plan
    flows_since: float
    struck_at: dict[str, float] = field(default_factory=dict)
    """By process, when it was struck last or was free of the fault again, in epoch seconds."""

    async def come(self, faults: Sequence[Fault]) -> str:
        """Wait for it; empty once it has come, else why it did not.

        Raises Unavailable where there is no stack any more.
        """
        for _ in range(_TIMES):
            if (left_s := self._left_s(faults)) > 0:
                await self.stack.clock.sleep(left_s + _LOOK_S)
            if wrong := await self._well():
                self.stack.there()
                return (f"the stack was not well for {self.plan.settle_s:g} s within {self.plan.well_s:g}: "
                        f"{', '.join(wrong)}")
            # While that was waited for, somebody may have begun anew.
            if self._left_s(faults) <= 0:
                return ""
        return "what it needs a rest of begins anew again and again"

    def struck(self, faults: Sequence[Fault]) -> None:
        """They are over just now."""
        now = self.stack.clock.now().timestamp()
        self.struck_at |= {one.target: now for one in faults if isinstance(one, Strike | Starve)}

    def _left_s(self, faults: Sequence[Fault]) -> float:
        """For how long faults need others to be left alone yet."""
        now = self.stack.clock.now().timestamp()
        left = [0.0]
        for one in faults:
            if one.watchdog_up_s:
                left.append(max(self._since(_WATCHDOG), self.flows_since) + one.watchdog_up_s - now)
            if isinstance(one, Strike | Starve) and one.rest_s:
                left.append(max(self._since(one.target), self.struck_at.get(one.target, 0.0)) + one.rest_s - now)
        return max(left)

    def _since(self, name: str) -> float:
        """When the process of that name began; 0 where none is known, which is told when it is struck."""
        with suppress(Missing, Unavailable):
            return float(self.stack.control.process(name).since)
        return 0.0

    async def _well(self) -> list[str]:
        """Wait until nothing has been wrong for `settle_s`; what still is after `well_s`."""
        clock, plan = self.stack.clock, self.plan
        quiet_since = clock.monotonic()
        wrong: list[str] = []

        async def settled() -> bool:
            nonlocal quiet_since, wrong
            wrong = await self.stack.wrong()
            if wrong:
                quiet_since = clock.monotonic()
            return clock.monotonic() - quiet_since >= plan.settle_s

        if await self.stack.until(settled, plan.well_s + plan.settle_s) is not None:
            return []
        return wrong or ["it was until just now"]
