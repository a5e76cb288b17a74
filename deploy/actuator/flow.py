"""The actuator's one verb: carry out a recovery command, once, and say what came of it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

from deploy.actuator import arguments, units
from deploy.actuator.memory import Memory
from deploy.actuator.once import Done, NotDone, Once
from deploy.actuator.units import Unit
from deploy.supervisor import ENDED
from lepton.bus.commands.arguments import seconds
from lepton.clock import Clock
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.signing import TrustStore
from lepton.errors import Busy

GRACE_S = 10.0
"""Time a process has to stop in order when the command names none."""

T = TypeVar("T")
_LONGEST_GRACE_S = 60.0
_LOOK_EVERY_S = 0.05
_KILL_S = 5.0


class Seen(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def pid(self) -> int: ...


class Manager(Protocol):
    """The process manager; calls block for a moment and raise Unavailable when it does not answer."""

    def processes(self) -> Sequence[Seen]: ...
    def process(self, name: str) -> Seen: ...
    def start(self, name: str) -> None: ...
    def stop(self, name: str, *, wait: bool = True) -> None: ...
    def signal(self, name: str, signal_name: str) -> None: ...


@dataclass(frozen=True)
class Limits:
    """What may be done, and how long it may take."""

    units: Sequence[Unit]
    start_timeout_s: float
    skew: timedelta


class Actuator:
    """Carries out restart and scale on named units; everything else is refused, and said so in a result."""

    def __init__(self, name: str, manager: Manager, trust: TrustStore, memory: Memory, limits: Limits,
                 clock: Clock) -> None:
        self._manager = manager
        self._once = Once(name, trust, memory, limits.skew, clock)
        self._limits = limits
        self._clock = clock

    def concerns(self, command: RecoveryCommand) -> bool:
        """Whether the command is for the actuator; the others are for ingest and trainer."""
        return command.action in (recovery_pb2.RECOVERY_ACTION_RESTART, recovery_pb2.RECOVERY_ACTION_SCALE)

    async def execute(self, command: RecoveryCommand) -> RecoveryResult:
        """The result to publish. A command that comes again has no second effect and the same result.

        Raises Unavailable when the process manager cannot be reached now: the command waits, and expires.
        """
        return await self._once.carry_out(command, self._act)

    async def _act(self, command: RecoveryCommand) -> str | Done:
        seen = await self._ask(self._manager.processes)
        running = {one.name: bool(one.pid) for one in seen}
        if command.action == recovery_pb2.RECOVERY_ACTION_RESTART:
            grace_s = seconds(command, "grace_s", _LONGEST_GRACE_S, default=GRACE_S, zero=True)
            instances = units.restarts(self._limits.units, command.target, running)
            # Who was stopped in order is not among them: that was somebody's wish.
            ended = tuple(one.name for one in seen if one.name in instances and one.state in ENDED)
            try:
                told = [await self._restart(instance, grace_s) for instance in instances]
            except Busy as failure:
                # Who dies as soon as it is started never comes up, and is to be counted all the same.
                raise NotDone(failure, ended) from failure
            return Done("; ".join(told) or "none was running", ended)
        replicas = arguments.count(command.arguments, "replicas")
        change = units.scale(self._limits.units, command.target, replicas, running)
        told = [await self._start(instance) for instance in change.start]
        told += [await self._stop(instance, GRACE_S) for instance in change.stop]
        return "; ".join(told) or f"{replicas} were running already"

    async def _restart(self, instance: str, grace_s: float) -> str:
        began = self._clock.monotonic()
        old = (await self._ask(self._manager.process, instance)).pid
        if old:
            await self._stop(instance, grace_s)
        await self._start(instance)
        new = (await self._ask(self._manager.process, instance)).pid
        return f"{instance}: pid {old or 'none'} -> {new} in {self._clock.monotonic() - began:.1f} s"

    async def _stop(self, instance: str, grace_s: float) -> str:
        """In order within `grace_s`, then, or at once where it is 0, by SIGKILL, which a frozen process heeds too."""
        old = (await self._ask(self._manager.process, instance)).pid
        if grace_s:
            await self._ask(lambda: self._manager.stop(instance, wait=False))
        if not grace_s or not await self._within(grace_s, lambda seen: seen.pid != old, instance):
            await self._ask(self._manager.signal, instance, "KILL")
            if not await self._within(_KILL_S, lambda seen: seen.pid != old, instance):
                raise Busy(f"{instance} (pid {old}) did not end", place=instance)
        return f"{instance}: pid {old} stopped"

    async def _start(self, instance: str) -> str:
        await self._ask(self._manager.start, instance)
        if not await self._within(self._limits.start_timeout_s, lambda seen: seen.state == "RUNNING", instance):
            state = (await self._ask(self._manager.process, instance)).state
            raise Busy(f"{instance} is {state} and not running after {self._limits.start_timeout_s:g} s",
                       place=instance, remedy="see its log")
        return f"{instance}: started"

    async def _within(self, seconds: float, reached: Callable[[Seen], bool], instance: str) -> bool:
        deadline = self._clock.monotonic() + seconds
        while not reached(await self._ask(self._manager.process, instance)):
            if self._clock.monotonic() >= deadline:
                return False
            await self._clock.sleep(_LOOK_EVERY_S)
        return True

    async def _ask(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.to_thread(call, *arguments)
