"""How work that runs until told otherwise is owned: a task that begins, ends, drains and fails in the open."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from lepton.clock import Clock

LoopBody = Callable[[asyncio.Event], Awaitable[None]]
Key = TypeVar("Key")
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


class Works(Generic[Key, Result]):
    """Pieces of work under way at once, one a key at most. Whoever makes this waits for their ends, or cancels them."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[Result]] = {}
        self.ended = asyncio.Event()
        """Set whenever one has ended and, unless it failed, has left `keys`. Whoever waits for it clears it."""

    @property
    def keys(self) -> frozenset[Key]:
        """Of what is under way, or has failed and nobody has heard of it yet."""
        return frozenset(self._tasks)

    def start(self, key: Key, work: Coroutine[Any, Any, Result]) -> None:
        """Begin; the work before it with this key has ended."""
        task = self._tasks[key] = asyncio.create_task(work)
        task.add_done_callback(lambda ended: self._forget(key, ended))

    def _forget(self, key: Key, ended: "asyncio.Task[Result]") -> None:
        if not ended.cancelled() and ended.exception() is None and self._tasks.get(key) is ended:
            del self._tasks[key]
        self.ended.set()

    async def end_of(self, key: Key) -> Result | None:
        """What the work returns, or None when there is none under way. Raises what it raised."""
        task = self._tasks.get(key)
        if task is None:
            return None
        await asyncio.wait({task})
        self._tasks.pop(key, None)
        return task.result()

    async def any(self, timeout_s: float | None = None) -> None:
        """Wait until one of them has ended, or for so long. Raises what it raised."""
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            self.check()

    def check(self) -> None:
        """Raises what one of them raised."""
        for key, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[key]
                task.result()

    async def all(self) -> None:
        """Wait for every end, also when one fails; then raise the first failure."""
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()))
            self.check()

    async def cancel(self) -> None:
        """Cancel what is still under way, and wait for its end."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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


async def to_the_end(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Do all at once and to the end, also when one fails; then raise the first failure."""
    ends = await asyncio.gather(*works, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return [end for end in ends if not isinstance(end, BaseException)]
