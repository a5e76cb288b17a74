from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.unit.watchdog.house import House


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    built = House(tmp_path)
    await built.furnish()
    yield built
    await built.leave()
