"""How a fault is brought about on this machine: signals, other wishes for the processor, less of a resource."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import psutil

from deploy.chaos.load.callers import burdened
from deploy.chaos.load.traffic import Traffic
from deploy.chaos.models.promoting import Corrupt, promoted
from deploy.chaos.network import Network
from deploy.chaos.plan import Burden, Canary, Disturb, Fault, Misserve, Spoil, Starve, Strike, Train, Wait
from deploy.supervisor import ProcessManager
from lepton.errors import Missing

Back = Callable[[int], Awaitable[bool]]
"""Whether another process than that of a pid became ready under its name, waited for."""

_BUSY = "while True: pass"
_FOLLOW_S = 0.1


@asynccontextmanager
async def struck(fault: Fault, control: ProcessManager, traffic: Traffic, network: Network,
                 corrupt: Corrupt) -> AsyncIterator[int]:
    """The fault begins, the block runs, and the fault ends; the pid that was struck, 0 where none was.

    A kill has no end, nor has the one that begins a loop of crashes (`crashed_again` goes on with it); the others end
    with the block, which is to last `fault.for_s`.
    Raises Missing where the target does not run, or a connection is none that can be disturbed.
    """
    match fault:
        case Strike(do="kill" | "crash_loop"):
            pid = pid_of(control, fault.target)
            os.kill(pid, signal.SIGKILL)
            yield pid
        case Strike():
            pid = pid_of(control, fault.target)
            os.kill(pid, signal.SIGSTOP)
            try:
                yield pid
            finally:
                # Who was ended meanwhile needs no waking.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        case Starve(do="cpu"):
            with _busy(fault.processes):
                yield 0
        case Starve(do="disk"):
            pid = pid_of(control, fault.target)
            async with _full_disk(control, fault.target):
                yield pid
        case Starve():
            pid = pid_of(control, fault.target)
            with _limited(pid, *_allowed(fault, psutil.Process(pid))):
                yield pid
        case Disturb():
            async with network.disturbed(fault):
                yield 0
        case Spoil():
            traffic.spoil(fault)
            try:
                yield 0
            finally:
                traffic.spoil(None)
        case Burden():
            async with burdened(fault, traffic.rest, traffic.pipeline):
                yield 0
        case Misserve():
            async with promoted(fault, traffic.rest, traffic.pipeline, traffic.rows, traffic.flow.label, corrupt):
                if fault.do == "nan_model":
                    traffic.spoil(Spoil(name=fault.name, do="constant", field=fault.field, value=fault.value,
                                        for_s=fault.for_s, source="chaos/rows-of-another-kind"))
                try:
                    yield 0
                finally:
                    if fault.do == "nan_model":
                        traffic.spoil(None)
        case Train() | Canary() | Wait():
            # A training or a rollout is begun by who waits for its end.
            yield 0


async def crashed_again(fault: Strike, control: ProcessManager, pid: int, back: Back) -> int:
    """Whoever takes the place of `pid`, which was killed, is killed too, as soon as `back` says that it is ready.

    Returns whom nobody has followed yet: the last of `fault.times`, or the one whose place nobody took in time.
    """
    for _ in range(fault.times - 1):
        if not await back(pid):
            break
        try:
            pid = pid_of(control, fault.target)
            os.kill(pid, signal.SIGKILL)
        except (Missing, ProcessLookupError):
            # It died by itself first, which is what is wanted.
            continue
    return pid


def pid_of(control: ProcessManager, target: str) -> int:
    pid = control.process(target).pid
    if not pid:
        raise Missing("it does not run", field=target, remedy="`lepton status`")
    return pid


@contextmanager
def _busy(count: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.wait()


@asynccontextmanager
async def _full_disk(control: ProcessManager, target: str) -> AsyncIterator[None]:
    """No file takes another byte from a process of that name; pipes do, so that it can say why it ended."""
    before: dict[int, tuple[int, int]] = {}

    async def follow() -> None:
        while True:
            pid = (await asyncio.to_thread(control.process, target)).pid
            if pid and pid not in before:
                with contextlib.suppress(ProcessLookupError):
                    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
                    before[pid] = (soft, hard)
            await asyncio.sleep(_FOLLOW_S)

    following = asyncio.ensure_future(follow())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.wait([following])
        for pid, limits in before.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        if not following.cancelled() and following.exception() is not None:
            raise following.exception()  # type: ignore[misc]  # it was looked at


def _allowed(fault: Starve, process: psutil.Process) -> tuple[int, int]:
    """Which limit of the process is lowered, and to what."""
    if fault.do == "memory":
        return resource.RLIMIT_DATA, process.memory_info().data + fault.megabytes * 2**20
    return resource.RLIMIT_NOFILE, process.num_fds() + fault.files


@contextmanager
def _limited(pid: int, which: int, allowed: int) -> Iterator[None]:
    """The process may have no more of a resource; who takes its place may."""
    soft, hard = resource.prlimit(pid, which)
    resource.prlimit(pid, which, (allowed, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, which, (soft, hard))
