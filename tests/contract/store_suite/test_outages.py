"""What only the real database can show: it hangs, dies and comes back; its own tools read what we wrote."""

import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorGridFSBucket

from lepton.errors import Unavailable
from lepton.store.artifacts import CHUNK_SIZE_BYTES, Artifacts
from lepton.store.mongo import SELECTION_TIMEOUT_MS, SOCKET_TIMEOUT_MS, Database
from tests.harness.servers import Server, start_database
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.mongo, pytest.mark.process]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A database of our own, to be maltreated."""
    started = start_database(tmp_path_factory.mktemp("outages"))
    yield started
    started.stop()


async def test_a_frozen_database_is_unavailable_in_bounded_time_and_usable_when_it_thaws(server: Server) -> None:
    database = Database.connect(f"mongodb://{server.address}", f"d{uuid4().hex[:8]}")
    await database.start()
    things = database.collection("things")
    assert await things.insert({"_id": "a", "x": 1})
    server.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    try:
        with pytest.raises(Unavailable):
            await things.get("a")
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert time.monotonic() - begun < 2 * (SOCKET_TIMEOUT_MS + SELECTION_TIMEOUT_MS) / 1000
    await apoll_until(_reads(database), "the database to answer again")
    await database.stop()


async def test_a_killed_database_is_unavailable_at_once_and_has_kept_what_was_acknowledged(server: Server) -> None:
    database = Database.connect(f"mongodb://{server.address}", f"d{uuid4().hex[:8]}")
    await database.start()
    things = database.collection("things")
    for number in range(50):
        assert await things.insert({"_id": "a" if number == 0 else str(number)})
    server.kill()
    with pytest.raises(Unavailable):
        await things.get("a")
    server.restart()
    await apoll_until(_reads(database), "the database to answer again")
    assert len(await things.find({})) == 50
    await database.stop()


async def test_the_databases_own_file_interface_reads_an_artefact(server: Server) -> None:
    name = f"d{uuid4().hex[:8]}"
    database = Database.connect(f"mongodb://{server.address}", name)
    await database.start()
    data = b"abc" * CHUNK_SIZE_BYTES
    digest = await Artifacts(database).put(data)
    client: Any = AsyncIOMotorClient(f"mongodb://{server.address}")
    stream = await AsyncIOMotorGridFSBucket(client[name]).open_download_stream(digest)
    assert await stream.read() == data
    client.close()
    await database.stop()


def _reads(database: Database) -> Callable[[], Awaitable[bool]]:
    async def reads() -> bool:
        try:
            return await database.collection("things").get("a") is not None
        except Unavailable:
            return False

    return reads
