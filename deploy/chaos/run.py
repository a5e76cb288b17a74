"""The order of a run: all is well, a fault is struck while events flow, its end and its cost are awaited, the next."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import httpx

from deploy.chaos import verdict
from deploy.chaos.ledger import Ledger
from deploy.chaos.load.callers import ordered
from deploy.chaos.load.traffic import Traffic, rows_of
from deploy.chaos.models.promoting import Corrupt
from deploy.chaos.models.trying import tried
from deploy.chaos.network import Network
from deploy.chaos.plan import Canary, Disturb, Fault, Plan, Spoil, Strike, Train, beside, pairs
from deploy.chaos.report import Outcome
from deploy.chaos.strikes import crashed_again, struck
from deploy.supervisor import ProcessManager
from lepton.bus.records import Broker
from lepton.clock import Clock
from lepton.errors import Missing, Unavailable

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


async def run(plan: Plan, stack: Stack, told: Callable[[Outcome], None]) -> list[Outcome]:
    """Every outcome, each given to `told` as it is known; ends before its time where the budget is spent.

    Raises Unavailable when the stack is not well before a fault, Missing for a target that does not run and for a
    connection that cannot be disturbed.
    """
    for fault in plan.faults:
        if isinstance(fault, Disturb):
            # Known before anything is broken.
            stack.network.between(*fault.between)
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
                await _well(stack, plan)
                if _tell(plan, [await _one(stack, fault, number, traffic, ledger)], outcomes, told):
                    return outcomes
        for pair in pairs(plan):
            await _well(stack, plan)
            if _tell(plan, await _both(stack, pair, plan.rounds, traffic, ledger), outcomes, told):
                return outcomes
    return outcomes


def _tell(plan: Plan, new: list[Outcome], outcomes: list[Outcome], told: Callable[[Outcome], None]) -> bool:
    """Whether the budget is spent by these."""
    over = False
    for one in new:
        outcomes.append(one)
        told(one)
        over = over or bool(spent(plan, outcomes))
    return over


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


async def _well(stack: Stack, plan: Plan) -> None:
    """Wait until nothing has been wrong for `plan.settle_s`."""
    quiet_since = stack.clock.monotonic()
    wrong: list[str] = []

    async def settled() -> bool:
        nonlocal quiet_since, wrong
        wrong = await _wrong(stack)
        if wrong:
            quiet_since = stack.clock.monotonic()
        return stack.clock.monotonic() - quiet_since >= plan.settle_s

    if await stack.until(settled, plan.well_s + plan.settle_s) is None:
        raise Unavailable(f"the stack was not well for {plan.settle_s:g} s within {plan.well_s:g}: {', '.join(wrong)}",
                          remedy="see `lepton status` and `lepton incidents`")


async def _wrong(stack: Stack) -> list[str]:
    """Open incidents and processes that are not ready; empty while all is well."""
    found = await stack.incidents()
    if found is None:
        return ["the gateway cannot say"]
    names = [one.name for one in stack.control.processes() if one.state == "RUNNING"]
    return [*(f"{one['symptom']} of {one['cause']}, {one['state']}" for one in found if one["state"] in verdict.OPEN),
            *[f"{name} is not ready" for name in names if not await stack.ready(name)]]


async def _one(stack: Stack, fault: Fault, number: int, traffic: Traffic, ledger: Ledger) -> Outcome:
    (outcome,) = await _at_once(stack, [fault], number, traffic, ledger)
    return outcome


async def _both(stack: Stack, pair: tuple[Fault, Fault], number: int, traffic: Traffic,
                ledger: Ledger) -> list[Outcome]:
    """A line each: of each fault what was seen of it; what both cost stands in the first."""
    first, second = pair
    faults = [first.model_copy(update={"name": f"{first.name}, with {second.name}", "expect": beside(first, second)}),
              second.model_copy(update={"name": f"{second.name}, with {first.name}", "expect": beside(second, first)})]
    found = await _at_once(stack, faults, number, traffic, ledger)
    return [replace(one, of=(first.name, second.name)) for one in found]


async def _at_once(stack: Stack, faults: Sequence[Fault], number: int, traffic: Traffic,
                   ledger: Ledger) -> list[Outcome]:
    """What was seen of faults that begin together, and what they cost, which is told of the first."""
    faults = [_with_source(one) for one in faults]
    first, calls, before = len(traffic.ids), traffic.calls.copy(), set(ledger.doubled())
    await stack.clock.sleep(_BEFORE_S)
    found = await asyncio.gather(*(_struck(stack, one, traffic, alone=len(faults) == 1) for one in faults))
    ids, called = traffic.ids[first:], traffic.calls - calls

    lost = await _not_arrived(stack, ledger, ids)
    doubled = set(ledger.doubled()) - before
    failed = sum(count for status, count in called.items() if status != "200")
    outcomes = [Outcome(one.name, number, seen, ready_s, 0, 0, 0, 0, 0, tuple(short), one.expect is not None,
                        one.expect is not None and one.expect.healed)
                for one, (seen, ready_s, short) in zip(faults, found, strict=True)]
    short = list(outcomes[0].shortcomings)
    if lost:
        short.append(f"lost: {', '.join(lost[:_NAMED])}")
    may_fail = [one.failed_calls for one in faults]
    if len(faults) == 1 and may_fail[0] is not None and failed > may_fail[0] * called.total():
        short.append(f"{failed} of {called.total()} calls failed")
    outcomes[0] = replace(outcomes[0], events=len(ids), lost=len(lost), doubled=len(doubled), calls=called.total(),
                          failed_calls=failed, shortcomings=tuple(short))
    return outcomes


def _with_source(fault: Fault) -> Fault:
    if isinstance(fault, Spoil) and not fault.source:
        letters = "".join(one if one.isalnum() else "-" for one in fault.name.partition(",")[0])
        return fault.model_copy(update={"source": f"chaos/{letters}-{uuid.uuid4().hex[:6]}"})
    return fault


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


async def _struck(stack: Stack, fault: Fault, traffic: Traffic, *,
                  alone: bool) -> tuple[verdict.Seen, float | None, list[str]]:
    """What was seen of the fault, after how long the struck process answered again, and what is not as expected.

    What is seen beside it is held against it only where it is `alone`.
    """
    seen, ready_s, ended = verdict.Seen(), None, ""

    async def over() -> bool:
        nonlocal seen
        found = await stack.incidents()
        if found is not None:
            seen = verdict.look(fault.expect, found, struck_at)
        return found is not None and verdict.is_over(fault.expect, seen)

    before = stack.clock.now().timestamp(), stack.clock.monotonic()
    async with struck(fault, stack.control, traffic, stack.network, stack.corrupt) as pid:
        # Signals take no time, and what was seen since counts; what has to be made and imported first does.
        struck_at, began = before if pid else (stack.clock.now().timestamp(), stack.clock.monotonic())
        if isinstance(fault, Strike):
            if fault.do == "crash_loop":
                pid = await crashed_again(fault, stack.control, pid, partial(_followed, stack, fault.target))
            # Who hangs is waited for as long as it hangs: who lives on after that was not given another life.
            ready_s = await _back(stack, fault.target, pid, fault.for_s if fault.do == "hang" else _READY_S)
        elif isinstance(fault, Train):
            ended = await ordered(fault, stack.rest, traffic.pipeline)
        elif isinstance(fault, Canary):
            ended = await tried(fault, stack.rest, traffic.pipeline, traffic.rows, traffic.flow.label)
        else:
            await stack.clock.sleep(fault.for_s)
    if isinstance(fault, Strike) and ready_s is None:
        await stack.until(lambda: stack.ready(fault.target), _READY_S)
        ready_s = stack.clock.monotonic() - began if await stack.ready(fault.target) else None
    within_s = 0.0 if fault.expect is None else fault.expect.detected_s + fault.expect.healed_s
    left_s = within_s - (stack.clock.monotonic() - began)
    await stack.until(over, max(5.0, left_s))
    short = verdict.shortcomings(fault.expect, seen if alone else replace(seen, others=()))
    if isinstance(fault, Strike) and ready_s is None:
        short.append(f"{fault.target} did not come back")
    if isinstance(fault, Train | Canary) and ended not in fault.ends:
        short.append(f"the {'training' if isinstance(fault, Train) else 'rollout'} ended {ended}")
    return seen, ready_s, short


async def _followed(stack: Stack, target: str, old: int) -> bool:
    return await _back(stack, target, old, _READY_S) is not None


async def _back(stack: Stack, target: str, old: int, within_s: float) -> float | None:
    """Seconds until another process of that name is ready."""
    async def another() -> bool:
        with suppress(Missing):
            return stack.control.process(target).pid not in (0, old) and await stack.ready(target)
        return False
    return await stack.until(another, within_s)
