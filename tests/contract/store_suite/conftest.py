"""The two databases every test of this suite runs over."""

import os
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from lepton.clock import FakeClock
from lepton.store.documents import DocumentDatabase
from lepton.store.memory import MemoryDatabase
from lepton.store.mongo import Database
from tests.harness.servers import start_database


@pytest.fixture(scope="session")
def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real database process: the one LEPTON_TEST_MONGO names, else one of our own."""
    given = os.environ.get("LEPTON_TEST_MONGO")
    if given:
        yield given
        return
    server = start_database(tmp_path_factory.mktemp("store-suite"))
    yield f"mongodb://{server.address}"
    server.stop()


@pytest.fixture(params=["memory", pytest.param("mongo", marks=pytest.mark.mongo)])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[DocumentDatabase]:
    """An empty, migrated database."""
    if request.param == "memory":
        memory = MemoryDatabase()
        await memory.start()
        yield memory
        return
    real = Database.connect(request.getfixturevalue("mongo_url"), f"lepton-suite-{uuid4().hex[:12]}")
    await real.start()
    yield real
    await real.drop()
    await real.stop()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
