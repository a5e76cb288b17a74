"""The order of a run: all is well, a fault is struck while events flow, its end and its cost are awaited, the next."""

import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from deploy.chaos import verdict
from deploy.chaos.ledger import Ledger
from deploy.chaos.plan import Fault, Plan, Spoil, Strike, matches
from deploy.chaos.report import Outcome
from deploy.chaos.strikes import struck
from deploy.chaos.traffic import Traffic, rows_of
from deploy.supervisor import ProcessManager
from lepton.bus.records import Broker
from lepton.clock import Clock
from lepton.errors import Missing, Unavailable

_WELL_S = 180.0
_BEFORE_S = 2.0
_LOOK_S = 0.25
_ARRIVE_S = 60.0
_READY_S = 120.0
_NAMED = 5
"""Of lost events so many are named."""


@dataclass(frozen=True)
class Stack:
    """What a run works on. `ready` says whether the process of a name answers that it is ready."""

    control: ProcessManager
    broker: Broker
    rest: httpx.AsyncClient
    ready: Callable[[str], Awaitable[bool]]
    clock: Clock
    ignore: tuple[str, ...] = ()
    """Causes of incidents that are as if they were not."""

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
                return [one for one in found if not matches(one["cause"], self.ignore)]
        return None


async def run(plan: Plan, stack: Stack, told: Callable[[Outcome], None]) -> list[Outcome]:
    """Every outcome, each given to `told` as it is known; ends before its time where the budget is spent.

    Raises Unavailable when the stack is not well before a fault, Missing for a target that does not run.
    """
    chance = random.Random(plan.seed)  # noqa: S311 - no secret
    outcomes: list[Outcome] = []
    prefix = f"c{uuid.uuid4().hex[:8]}-"
    traffic = Traffic(plan.flow, rows_of(plan.flow), plan.pipeline, prefix, stack.broker.writer("chaos"), stack.rest,
                      stack.clock)
    # One flow for all of them: where nothing flows between two faults, that is a fault of its own.
    async with Ledger(stack.broker, plan.pipeline, prefix) as ledger, traffic:
        await stack.clock.sleep(plan.learn_s)
        for number in range(1, plan.rounds + 1):
            faults = list(plan.faults)
            if plan.shuffle:
                chance.shuffle(faults)
            for fault in faults:
                await _well(stack, plan.settle_s)
                outcomes.append(await _one(stack, fault, number, traffic, ledger))
                told(outcomes[-1])
                if spent(plan, outcomes):
                    return outcomes
    return outcomes


def spent(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """Which part of the budget is spent; empty while none is."""
    last = outcomes[-1]
    unhealed = sum(any("not healed" in one or "not detected" in one for one in outcome.shortcomings)
                   for outcome in outcomes)
    if sum(one.lost for one in outcomes) > plan.budget.lost:
        return f"more than {plan.budget.lost} events were lost"
    if sum(one.doubled for one in outcomes) > plan.budget.doubled:
        return f"more than {plan.budget.doubled} events were doubled"
    if last.failed_calls > plan.budget.failed_calls * max(1, last.calls):
        return f"more than {plan.budget.failed_calls:.0%} of the calls failed"
    return f"more than {plan.budget.unhealed} faults were not healed" if unhealed > plan.budget.unhealed else ""


async def _well(stack: Stack, settle_s: float) -> None:
    """Wait until nothing has been wrong for `settle_s`."""
    quiet_since = stack.clock.monotonic()

    async def settled() -> bool:
        nonlocal quiet_since
        found = await stack.incidents()
        names = [one.name for one in stack.control.processes() if one.state == "RUNNING"]
        well = found is not None and not any(one["state"] in verdict.OPEN for one in found) and all(
            [await stack.ready(name) for name in names])
        if not well:
            quiet_since = stack.clock.monotonic()
        return stack.clock.monotonic() - quiet_since >= settle_s

    if await stack.until(settled, _WELL_S + settle_s) is None:
        raise Unavailable(f"the stack was not well for {settle_s:g} s within {_WELL_S:g}",
                          remedy="see `lepton status` and `lepton incidents`")


async def _one(stack: Stack, fault: Fault, number: int, traffic: Traffic, ledger: Ledger) -> Outcome:
    if isinstance(fault, Spoil) and not fault.source:
        own = f"chaos/{fault.name.replace(' ', '-')}-{uuid.uuid4().hex[:6]}"
        fault = fault.model_copy(update={"source": own})
    first, calls, before = len(traffic.ids), traffic.calls.copy(), set(ledger.doubled())
    await stack.clock.sleep(_BEFORE_S)
    seen, ready_s = await _struck(stack, fault, traffic)
    ids, called = traffic.ids[first:], traffic.calls - calls

    lost = await _not_arrived(stack, ledger, ids)
    doubled = set(ledger.doubled()) - before
    failed = sum(count for status, count in called.items() if status != "200")
    short = verdict.shortcomings(fault.expect, seen)
    if isinstance(fault, Strike) and ready_s is None:
        short.append(f"{fault.target} did not come back")
    if lost:
        short.append(f"lost: {', '.join(lost[:_NAMED])}")
    return Outcome(fault.name, number, seen, ready_s, len(ids), len(lost), len(doubled), called.total(), failed,
                   tuple(short))


async def _not_arrived(stack: Stack, ledger: Ledger, ids: list[str]) -> list[str]:
    """The events that are still missing once no more of them come."""
    lost = ledger.lost(ids)
    came_at = stack.clock.monotonic()
    while lost and stack.clock.monotonic() - came_at <= _ARRIVE_S:
        await stack.clock.sleep(_LOOK_S)
        # What came stays: only the rest is looked for.
        left = ledger.lost(lost)
        if len(left) < len(lost):
            lost, came_at = left, stack.clock.monotonic()
    return lost


async def _struck(stack: Stack, fault: Fault, traffic: Traffic) -> tuple[verdict.Seen, float | None]:
    """What was seen of the fault, and after how long the struck process answered again."""
    began, struck_at = stack.clock.monotonic(), stack.clock.now().timestamp()
    seen, ready_s = verdict.Seen(), None

    async def over() -> bool:
        nonlocal seen
        found = await stack.incidents()
        if found is not None:
            seen = verdict.look(fault.expect, found, struck_at)
        return found is not None and verdict.is_over(fault.expect, seen)

    async with struck(fault, stack.control, traffic, stack.clock) as pid:
        if isinstance(fault, Strike):
            # Who hangs is waited for as long as it hangs: who lives on after that was not given another life.
            ready_s = await _back(stack, fault.target, pid, _READY_S if fault.do == "kill" else fault.for_s)
        else:
            await stack.clock.sleep(fault.for_s)
    if isinstance(fault, Strike) and ready_s is None:
        await stack.until(lambda: stack.ready(fault.target), _READY_S)
        ready_s = stack.clock.monotonic() - began if await stack.ready(fault.target) else None
    within_s = 0.0 if fault.expect is None else fault.expect.detected_s + fault.expect.healed_s
    left_s = within_s - (stack.clock.monotonic() - began)
    await stack.until(over, max(5.0, left_s))
    return seen, ready_s


async def _back(stack: Stack, target: str, old: int, within_s: float) -> float | None:
    """Seconds until another process of that name is ready."""
    async def another() -> bool:
        with suppress(Missing):
            return stack.control.process(target).pid not in (0, old) and await stack.ready(target)
        return False
    return await stack.until(another, within_s)
