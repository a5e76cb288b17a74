"""Blocking calls of one source, in a thread of its own that a stuck call cannot make the process wait for."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from lepton.errors import Unavailable

Result = TypeVar("Result")
_Call = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class OwnThread:
    """Calls run one after another in the same thread, as drivers of databases like it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, work: Callable[[], Result], timeout_s: float) -> Result:
        """What `work` returns or raises. Raises Unavailable after `timeout_s`; the thread is then left to itself."""
        if self._thread is None:
            # A daemon: the process ends although a driver never returns.
            self._thread = threading.Thread(target=_serve, args=(self._calls,), name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._calls.put((work, future, loop))
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            self.leave()
            raise Unavailable(f"no answer within {timeout_s:g} s") from error
        except asyncio.CancelledError:
            self.leave()
            raise

    def leave(self) -> None:
        """Let the thread end after the call it is in; a later call begins another."""
        self._calls.put(None)
        self._calls, self._thread = queue.SimpleQueue(), None


def _serve(calls: "queue.SimpleQueue[_Call | None]") -> None:
    while (call := calls.get()) is not None:
        work, future, loop = call
        try:
            result, error = work(), None
        except BaseException as raised:  # noqa: BLE001  handed to whoever called
            result, error = None, raised
        try:
            loop.call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            return


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
