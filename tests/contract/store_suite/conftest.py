"""The two databases every test of this suite runs over."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from lepton.clock import FakeClock
from lepton.store.documents import DocumentDatabase
from lepton.store.memory import MemoryDatabase
from lepton.store.mongo import Database


@pytest.fixture(params=["memory", pytest.param("mongo", marks=pytest.mark.mongo)])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[DocumentDatabase]:
    """An empty, migrated database."""
    if request.param == "memory":
        memory = MemoryDatabase()
        await memory.start()
        yield memory
        return
    real = Database.connect(request.getfixturevalue("mongo_url"), f"lepton-suite-{uuid4().hex[:12]}")
    try:
        await real.start()
        yield real
        await real.drop()
    finally:
        await real.stop()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
