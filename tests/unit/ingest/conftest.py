from pathlib import Path

import pytest_asyncio

from tests.unit.ingest.house import House


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> House:
    built = House(tmp_path)
    await built.furnish()
    return built
