from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.unit.gateway.house import House, open_house


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway on a real port."""
    async with open_house(tmp_path / "house") as opened:
        yield opened
