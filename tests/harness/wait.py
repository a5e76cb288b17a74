"""The one way a test waits: for a condition, with a name and a bound."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def poll_until(probe: Callable[[], T], what: str, timeout_s: float = 30.0, every_s: float = 0.05) -> T:
    """Return the first truthy result of `probe`; AssertionError naming `what` and the last result after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}; last seen: {result!r}")
        time.sleep(every_s)


async def apoll_until(probe: Callable[[], Awaitable[T]], what: str, timeout_s: float = 30.0,
                      every_s: float = 0.05) -> T:
    """`poll_until` for a coroutine function."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = await probe()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}; last seen: {result!r}")
        await asyncio.sleep(every_s)
