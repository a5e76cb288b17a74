"""The order of a run: all is well, a fault is struck while events flow, its end and its cost are awaited, the next."""

import asyncio
import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import psutil

from deploy.chaos import verdict
from deploy.chaos.course import Course
from deploy.chaos.ledger import Ledger
from deploy.chaos.load.callers import ordered
from deploy.chaos.load.traffic import Traffic, rows_of
from deploy.chaos.models.trying import tried
from deploy.chaos.plan import Canary, Disturb, Fault, Plan, Spoil, Strike, Train, beside, pairs
from deploy.chaos.report import Outcome
from deploy.chaos.stack import Moment, Stack
from deploy.chaos.strikes import crashed_again, struck
from lepton.errors import LeptonError, Missing, Unavailable

_BEFORE_S = 2.0
_LOOK_S = 0.25
_ARRIVE_S = 60.0
_READY_S = 120.0
_NAMED = 5
"""Of lost events so many are named."""


async def run(stack: Stack, course: Course) -> None:
    """Every outcome of the plan is added to `course` as it is known; over before its time where the budget is spent.

    A fault that cannot be struck, or before which the stack is not well in time, is an outcome too. Raises Unavailable
    when the stack is gone, Missing for a connection that cannot be disturbed.
    """
    plan = course.plan
    left = [(number, faults) for number, faults in _in_order(plan)
            if (number, tuple(one.name for one in faults)) not in course.done]
    if course.spent or not left:
        return
    for fault in plan.faults:
        if isinstance(fault, Disturb):
            # Known before anything is broken.
            stack.network.between(*fault.between)
    prefix = f"c{uuid.uuid4().hex[:8]}-"
    traffic = Traffic(plan.flow, rows_of(plan.flow), plan.pipeline, prefix, stack.broker.writer("chaos"), stack.rest,
                      stack.clock)
    # One flow for all of them: where nothing flows between two faults, that is a fault of its own.
    async with Ledger(stack.broker, plan.pipeline, prefix) as ledger, traffic:
        moment = Moment(stack, plan, stack.clock.now().timestamp())
        await stack.clock.sleep(plan.learn_s)
        for number, faults in left:
            course.in_hand = f"{', with '.join(one.name for one in faults)}, round {number} of {plan.rounds}"
            told = _beside(*faults) if len(faults) == 2 else faults
            if wrong := await moment.come(faults):
                new = [_left_out(one, number, wrong, "unwell") for one in told]
            else:
                new = await _at_once(stack, plan, told, number, traffic, ledger)
                moment.struck(faults)
            if len(faults) == 2:
                new = [replace(one, of=tuple(fault.name for fault in faults)) for one in new]
            if course.add(new):
                return
    course.in_hand = ""


def _in_order(plan: Plan) -> Iterator[tuple[int, tuple[Fault, ...]]]:
    """What is struck at once, and in which round; pairs after the last one."""
    chance = random.Random(plan.seed)  # noqa: S311 - no secret
    for number in range(1, plan.rounds + 1):
        faults = list(plan.faults)
        if plan.shuffle:
            chance.shuffle(faults)
        yield from ((number, (one,)) for one in faults)
    yield from ((plan.rounds, pair) for pair in pairs(plan))


def _left_out(fault: Fault, number: int, why: str, how: Literal["unwell", "failed"]) -> Outcome:
    return Outcome(fault.name, number, verdict.Seen(), None, 0, 0, 0, 0, 0, (f"it was not struck: {why}",),
                   fault.expect is not None, fault.expect is not None and fault.expect.healed, left_out=how)


def _beside(first: Fault, second: Fault) -> tuple[Fault, ...]:
    """Two that are struck at once, named and expected as such. A line each: of each what was seen of it."""
    return (first.model_copy(update={"name": f"{first.name}, with {second.name}", "expect": beside(first, second)}),
            second.model_copy(update={"name": f"{second.name}, with {first.name}", "expect": beside(second, first)}))


async def _at_once(stack: Stack, plan: Plan, faults: Sequence[Fault], number: int, traffic: Traffic,
                   ledger: Ledger) -> list[Outcome]:
    """What was seen of faults that begin together, and what they cost, which is told of the first."""
    faults = [_with_source(one) for one in faults]
    first, calls, before = len(traffic.ids), traffic.calls.copy(), set(ledger.doubled())
    await stack.clock.sleep(_BEFORE_S)
    outcomes = list(await asyncio.gather(*(_seen(stack, plan, one, number, traffic, alone=len(faults) == 1)
                                           for one in faults)))
    ids, called = traffic.ids[first:], traffic.calls - calls

    lost = await _not_arrived(stack, ledger, ids)
    doubled = set(ledger.doubled()) - before
    failed = sum(count for status, count in called.items() if status != "200")
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


async def _seen(stack: Stack, plan: Plan, fault: Fault, number: int, traffic: Traffic, *, alone: bool) -> Outcome:
    """What was seen of the fault, and what is not as expected; what it cost is not known yet.

    What is seen beside it is held against it only where it is `alone`.
    """
    seen, expected = verdict.Seen(), fault.expect
    blow = await _struck(stack, fault, traffic)
    if not blow.struck_at:
        return _left_out(fault, number, blow.failure, "failed")

    async def over() -> bool:
        nonlocal seen
        found = await stack.incidents()
        if found is not None:
            seen = verdict.look(expected, found, blow.struck_at)
        return found is not None and verdict.is_over(expected, seen)

    if expected is None:
        # What is seen a little later is of this fault too, and not of the next one.
        left_s = plan.settle_s
    else:
        passed_s = stack.clock.monotonic() - blow.began
        left_s = max(5.0, expected.detected_s + expected.healed_s - passed_s, expected.must_s if expected.must else 0.0)
    await stack.until(over, left_s)
    short = verdict.shortcomings(expected, seen if alone else replace(seen, others=()))
    if isinstance(fault, Strike) and blow.ready_s is None:
        short.append(f"{fault.target} did not come back")
    if blow.failure:
        short.append(f"the fault itself failed: {blow.failure}")
    elif isinstance(fault, Train | Canary) and blow.ended not in fault.ends:
        short.append(f"the {'training' if isinstance(fault, Train) else 'rollout'} ended {blow.ended}")
    return Outcome(fault.name, number, seen, blow.ready_s, 0, 0, 0, 0, 0, tuple(short), expected is not None,
                   expected is not None and expected.healed)


@dataclass(slots=True)
class _Blow:
    """A fault that was struck. `struck_at`: in epoch seconds, 0 where it could not be; `began`: the same, monotonic.

    `ready_s`: after how long the struck process answered again; `ended`: how a training or a rollout did; `failure`:
    why it could not be struck, or not go on, or not be taken back.
    """

    struck_at: float = 0.0
    began: float = 0.0
    ready_s: float | None = None
    ended: str = ""
    failure: str = ""


async def _struck(stack: Stack, fault: Fault, traffic: Traffic) -> _Blow:
    """The fault, from its beginning to its end. Raises Unavailable where the stack is gone."""
    blow = _Blow()
    before = stack.clock.now().timestamp(), stack.clock.monotonic()
    try:
        async with struck(fault, stack.control, traffic, stack.network, stack.corrupt) as pid:
            # Signals take no time, and what was seen since counts; what has to be made and imported first does.
            blow.struck_at, blow.began = before if pid else (stack.clock.now().timestamp(), stack.clock.monotonic())
            if isinstance(fault, Strike):
                if fault.do == "crash_loop":
                    pid = await crashed_again(fault, stack.control, pid, partial(_followed, stack, fault.target))
                # Who hangs is waited for as long as it hangs: who lives on after that was not given another life.
                blow.ready_s = await _back(stack, fault.target, pid, fault.for_s if fault.do == "hang" else _READY_S)
            elif isinstance(fault, Train):
                blow.ended = await ordered(fault, stack.rest, traffic.pipeline)
            elif isinstance(fault, Canary):
                blow.ended = await tried(fault, stack.rest, traffic.pipeline, traffic.rows, traffic.flow.label)
            else:
                await stack.clock.sleep(fault.for_s)
    except (LeptonError, ProcessLookupError, psutil.NoSuchProcess) as failure:
        stack.there()
        blow.failure = str(failure)
    if isinstance(fault, Strike) and blow.struck_at and blow.ready_s is None:
        await stack.until(lambda: stack.ready(fault.target), _READY_S)
        blow.ready_s = stack.clock.monotonic() - blow.began if await stack.ready(fault.target) else None
    return blow


async def _followed(stack: Stack, target: str, old: int) -> bool:
    return await _back(stack, target, old, _READY_S) is not None


async def _back(stack: Stack, target: str, old: int, within_s: float) -> float | None:
    """Seconds until another process of that name is ready."""
    async def another() -> bool:
        with suppress(Missing, Unavailable):
            return stack.control.process(target).pid not in (0, old) and await stack.ready(target)
        return False
    return await stack.until(another, within_s)
