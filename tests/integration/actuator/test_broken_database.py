"""What the bundled database answers after its disk was full, and that it is whole again once it was ended."""

import resource
import uuid
from pathlib import Path

import pytest

from lepton.errors import LeptonError
from lepton.store.mongo import Database
from tests.harness.servers import start_database
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.mongo, pytest.mark.timeout(240)]

KEPT = {"_id": "kept", "value": 1}


async def test_after_its_disk_was_full_it_is_broken_until_it_begins_anew(tmp_path: Path) -> None:
    server = start_database(tmp_path)
    database = Database.connect(f"mongodb://{server.address}", "broken")
    try:
        await database.start()
        things = database.collection("things")
        assert await things.insert(KEPT)
        assert await database.broken() == ""

        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, hard))

        async def refused() -> bool:
            try:
                await things.insert({"_id": uuid.uuid4().hex})
            except LeptonError:
                return True
            return False

        await apoll_until(refused, "a write that finds no room", 30)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        await apoll_until(database.broken, "a read that is refused", 30)

        server.kill()
        server.restart()
        assert await database.broken() == ""
        assert await things.get("kept") == KEPT
    finally:
        await database.close()
        server.kill()


async def test_a_database_that_is_away_is_not_broken(tmp_path: Path) -> None:
    server = start_database(tmp_path)
    database = Database.connect(f"mongodb://{server.address}", "away")
    try:
        await database.start()
        server.kill()
        assert await database.broken() == ""
    finally:
        await database.close()
        server.kill()
