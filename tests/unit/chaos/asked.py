"""A client of what stands in for the gateway: an ASGI application behind a real door on loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from lepton.runtime.doors import HttpDoor


@asynccontextmanager
async def asking(respond: Any) -> AsyncIterator[httpx.AsyncClient]:
    door = HttpDoor(respond, "127.0.0.1", 0, drain_s=0)
    await door.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://{door.address}", trust_env=False) as client:
            yield client
    finally:
        await door.stop()
