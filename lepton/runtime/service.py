"""The life of a process: what starts in which order, what stops in which order, and what its exit code says."""

import asyncio
import logging
import resource as system_resource
import signal
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn, Protocol

import uvloop

from lepton.clock import Clock, SystemClock
from lepton.contracts.pb import telemetry_pb2
from lepton.errors import LeptonError, Unavailable
from lepton.runtime import logs
from lepton.runtime.admin import Admin
from lepton.runtime.health import Health
from lepton.runtime.loops import Loop, LoopBody
from lepton.runtime.settings import LeptonSettings, Settings, load
from lepton.runtime.telemetry import Telemetry

EXIT_OK = 0
EXIT_CRASH = 1
EXIT_UNREACHABLE = 3
# A resource that closes after the drain deadline still gets this long to let go of what it holds.
CLOSE_S = 2.0
# More than any process of ours has; some systems bear no more than about this.
_MOST_FILES = 1 << 20

log = logging.getLogger(__name__)


class Stage(IntEnum):
    """Started upwards, stopped downwards; inside a stage in the order added, and its reverse."""

    STORE = 1
    BUS = 2
    FLOW = 3
    DOOR = 4


class Resource(Protocol):
    async def start(self) -> None:
        """Raises Unavailable when what it depends on cannot be reached."""

    async def stop(self) -> None: ...


class Service:
    """Owns everything a process is made of.

    Stop order: not ready, doors, flows (draining until the deadline), bus, stores, telemetry.
    """

    def __init__(self, name: str, settings: LeptonSettings, clock: Clock | None = None) -> None:
        self.name = name
        self.settings = settings
        self.clock = clock or SystemClock()
        self.health = Health(self.clock)
        self.telemetry = Telemetry(name, settings.instance, settings, self.clock, self.health)
        self.admin = Admin(settings, self.health, self.telemetry)
        self._planned: list[tuple[Stage, str, Resource]] = []
        self._started: list[tuple[Stage, str, Resource]] = []
        self._open = False
        self._stopping = asyncio.Event()
        self._drain_ends_at: float | None = None
        self._exit_code = EXIT_OK

    def add(self, stage: Stage, name: str, resource: Resource) -> None:
        """Have `resource` started with its stage. Only before the service starts."""
        if self._open:
            raise RuntimeError(f"{name} was added to a service that already started")
        self._planned.append((stage, name, resource))

    def spawn(self, name: str, body: LoopBody, stage: Stage = Stage.FLOW, *, ends: bool = False) -> Loop:
        """Own a loop: begun with its stage, or at once when the service already runs.

        When its stage stops, the event it was given is set, and it is cancelled at the drain deadline. A loop that
        raises, or returns unasked (unless `ends`), stops the process with exit code 1. `stop()` ends one loop alone.
        """
        loop = Loop(name, body, ends=ends, ended=self._loop_ended, drain_left_s=self._drain_left_s)
        if not self._open:
            self._planned.append((stage, name, loop))
            return loop
        self._started = [one for one in self._started if not isinstance(one[2], Loop) or one[2].running]
        self._started.append((stage, name, loop))
        loop.begin()
        return loop

    def request_stop(self) -> None:
        self._stopping.set()

    async def run(self) -> int:
        """Start, serve until asked to stop, stop; the process's exit code."""
        await self.telemetry.start()
        starting = asyncio.create_task(self._start(), name="start")
        stopping = asyncio.create_task(self._stopping.wait(), name="stop flag")
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        (failure,) = await asyncio.gather(starting, return_exceptions=True)
        if isinstance(failure, Exception):
            self._start_failed(failure)
        else:
            await stopping
        stopping.cancel()
        await self._stop()
        return self._exit_code

    async def _start(self) -> None:
        await self.admin.start()
        self.telemetry.admin_address = self.admin.address
        # What already runs may spawn more while the rest starts, so the plan is asked again after each.
        while self._planned:
            following = min(self._planned, key=lambda one: one[0])
            self._planned.remove(following)
            await following[2].start()
            self._started.append(following)
        self._open = True
        self.health.enter(telemetry_pb2.INSTANCE_STATE_READY)
        log.info("%s is ready", self.settings.instance, extra={"admin": self.admin.address})

    def _start_failed(self, failure: Exception) -> None:
        if isinstance(failure, LeptonError):
            log.critical("%s cannot start: %s", self.settings.instance, failure)
        else:
            log.critical("%s cannot start", self.settings.instance, exc_info=failure)
        self._exit_code = EXIT_UNREACHABLE if isinstance(failure, Unavailable) else EXIT_CRASH

    async def _stop(self) -> None:
        self.health.enter(telemetry_pb2.INSTANCE_STATE_DRAINING)
        log.info("%s is stopping", self.settings.instance)
        self._drain_ends_at = self.clock.monotonic() + self.settings.drain_s
        for stage in sorted(Stage, reverse=True):
            for of_stage, _, resource in self._started:
                if of_stage == stage and isinstance(resource, Loop):
                    resource.ask_to_stop()
            for of_stage, name, resource in reversed(self._started):
                if of_stage == stage:
                    await self._stop_one(name, resource)
        self.health.enter(telemetry_pb2.INSTANCE_STATE_STOPPED)
        await self._stop_one("admin", self.admin)
        await self.telemetry.stop()

    async def _stop_one(self, name: str, resource: Resource) -> None:
        try:
            async with asyncio.timeout(self._drain_left_s() + CLOSE_S):
                await resource.stop()
        except TimeoutError:
            log.error("%s did not stop in time", name)
            self._exit_code = EXIT_CRASH
        except Exception as error:
            # What is below it must still be closed; the exit code tells.
            log.error("%s did not stop cleanly", name, exc_info=error)
            self._exit_code = EXIT_CRASH

    def _drain_left_s(self) -> float:
        """Of the whole stop, or the full time when only one loop is ended."""
        if self._drain_ends_at is None:
            return self.settings.drain_s
        return max(0.0, self._drain_ends_at - self.clock.monotonic())

    def _loop_ended(self, loop: Loop, error: BaseException | None) -> None:
        why = f"{type(error).__name__}: {error}" if error else "it returned although nobody asked"
        log.critical("%s failed: %s", loop.name, why, exc_info=error)
        self.telemetry.error("crash", why, loop.name)
        self._exit_code = EXIT_CRASH
        self._stopping.set()


def run(build: Callable[[Settings], Service], settings_class: type[Settings]) -> NoReturn:
    """The whole of a `__main__`.

    Exit codes: 0 stopped as asked; 1 crashed; 2 settings are wrong; 3 a dependency could not be reached at start.
    SIGTERM and SIGINT ask to stop; a second one terminates at once.
    """
    settings = load(settings_class)
    logs.install(settings)
    raise_open_files()
    sys.exit(uvloop.run(_live(build, settings)))


def raise_open_files() -> None:
    """As many files as this process may have at most: the soft limit is meant for `select`, which nothing here uses.

    Each connection is one, so at the usual 1,024 a predictor would turn away its callers.
    """
    soft, most = system_resource.getrlimit(system_resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if most == system_resource.RLIM_INFINITY else min(most, _MOST_FILES)
    if soft != system_resource.RLIM_INFINITY and soft < wanted:
        try:
            system_resource.setrlimit(system_resource.RLIMIT_NOFILE, (wanted, most))
        except (ValueError, OSError) as failure:
            # Some systems have a lower limit than they tell; what there is may well be enough.
            log.warning("the limit of open files stays at %d: %s", soft, failure)


async def _live(build: Callable[[Settings], Service], settings: Settings) -> int:
    try:
        service = build(settings)
    except LeptonError as error:
        log.critical("%s cannot start: %s", settings.instance, error)
        return EXIT_UNREACHABLE if isinstance(error, Unavailable) else EXIT_CRASH
    _listen_to_signals(service)
    return await service.run()


def _listen_to_signals(service: Service) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # From here on the default action holds, so that a second signal ends even a process that is stuck.
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)
        service.request_stop()

    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop)
