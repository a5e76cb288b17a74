"""How work that runs until told otherwise is owned: a task that begins, ends, drains and fails in the open."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from lepton.clock import Clock

LoopBody = Callable[[asyncio.Event], Awaitable[None]]
Result = TypeVar("Result")


class Loop:
    """One owned task running `body(stop)`; `body` returns soon after `stop` is set.

    `ended` is called when the body raised, or returned unasked although it was not spawned with `ends`.
    """

    def __init__(self, name: str, body: LoopBody, *, ends: bool, ended: Callable[["Loop", BaseException | None], None],
                 drain_left_s: Callable[[], float]) -> None:
        self.name = name
        self._body = body
        self._ends = ends
        self._ended = ended
        self._drain_left_s = drain_left_s
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        self.begin()

    def begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self.name)

    def ask_to_stop(self) -> None:
        self._stop.set()

    async def stop(self) -> None:
        """Ask the body to stop, wait for it while drain time is left, then cancel it. Never raises its error again."""
        self._stop.set()
        if self._task is None or self._task.done():
            return
        await asyncio.wait({self._task}, timeout=self._drain_left_s())
        if not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        try:
            await self._body(self._stop)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  handed over to the owner, which ends the process for it
            self._ended(self, error)
        else:
            if not self._ends and not self._stop.is_set():
                self._ended(self, None)


async def pause(stop: asyncio.Event, seconds: float, clock: Clock, *wakes: asyncio.Event) -> bool:
    """Wait `seconds`, or until `stop` or one of `wakes` is set, whichever is first; True when `stop` was set."""
    if stop.is_set():
        return True
    waits = [asyncio.ensure_future(one) for one in (
        stop.wait(), clock.sleep(seconds), *(wake.wait() for wake in wakes))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return stop.is_set()


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """What `work` returns, or None when `stop` is set first; then `work` is cancelled, so it must be harmless to."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await doing if doing.done() else None
    finally:
        for one in (doing, stopping):
            one.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
