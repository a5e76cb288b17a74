"""How a process is asked who it is at its operator's door, without the bus."""

import asyncio
import json
from http.client import HTTPConnection, HTTPException
from typing import Final

TIMEOUT_S: Final = 0.6


async def who(address: str) -> str:
    """The instance's name as /readyz says it, whether it is ready or not; "" when there is no answer in time."""
    return await asyncio.to_thread(_who, address)


def _who(address: str) -> str:
    connection = HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        said = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        # Not to be reached is what was to be found out.
        return ""
    finally:
        connection.close()
    return str(said.get("instance", "")) if isinstance(said, dict) else ""
