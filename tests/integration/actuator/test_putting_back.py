"""A model's file that the store lost is put back from a real backup by the actuator's process."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.backup import taking
from deploy.backup.archive.parts import ArchiveWriter
from deploy.backup.archive.secret import read_key, write_key
from lepton.bus.kafka import KafkaBroker
from lepton.contracts import names, topics
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.models_pb2 import ModelState, ModelVersion
from lepton.contracts.pb.telemetry_pb2 import Telemetry
from lepton.contracts.signing import Identity
from lepton.contracts.topics import Topic
from lepton.errors import Missing
from lepton.store.artifacts import Artifacts
from lepton.store.copies.raw import RawCollections
from lepton.store.mongo import Database
from tests.harness.bus import read_all
from tests.harness.wait import apoll_until
from tests.integration.actuator.test_supervised import Bench, actuator, ask, bench, broker

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]

RESTORE = recovery_pb2.RECOVERY_ACTION_RESTORE_BACKUP
DONE, REFUSED = recovery_pb2.RECOVERY_OUTCOME_DONE, recovery_pb2.RECOVERY_OUTCOME_REFUSED
FILE = bytes(range(256)) * 2500
__all__ = ["bench", "broker"]


@pytest_asyncio.fixture
async def database(mongo_url: str) -> AsyncIterator[Database]:
    found = Database.connect(mongo_url, f"putting-back-{uuid.uuid4().hex[:8]}")
    await found.start()
    yield found
    await found.drop()
    await found.close()


async def backed_up(database: Database, folder: Path) -> None:
    """A key, and a backup of the artefacts of now."""
    write_key(folder / "key")
    now = datetime.now(UTC)
    facts = {"stack": "shop", "created": now.isoformat(), "sealed_by": "key"}
    with ArchiveWriter(folder / "shop-1.lepton-backup", read_key(folder / "key"), facts) as archive:
        await taking._artifacts(archive, RawCollections(database), frozenset(), "")
        archive.finish({"stack": "shop", "created": now.isoformat()}, Identity.create(folder, "operator"))


async def test_a_lost_file_is_put_back_once_and_nothing_else_is_touched(
        bench: Bench, broker: KafkaBroker, database: Database, mongo_url: str, tmp_path: Path) -> None:
    store = Artifacts(database)
    digest, other = await store.put(FILE, "model"), await store.put(b"erased on purpose")
    version = ModelVersion(model="shop", version=3)
    version.manifest.sha256 = digest
    state = ModelState(model="shop", champion=3, versions=[version])
    await database.collection("models").put({"_id": "shop", "announcement": state.SerializeToString()})
    await backed_up(database, tmp_path)
    await database.collection("fs.chunks").delete({"_id": f"{digest}-000001"})
    await store.delete(other)
    bench.more.update(LEPTON_MONGO_URL=mongo_url, LEPTON_MONGO_DATABASE=database.handle.name,
                      LEPTON_BACKUP_DIR=str(tmp_path), LEPTON_BACKUP_KEY_FILE=str(tmp_path / "key"))
    asked = bench.command(action=RESTORE, target="model:shop", sha256=digest, expires_s=120)
    async with actuator(bench):
        (done,) = await ask(broker, asked)
        assert (done.outcome, await store.get(digest)) == (DONE, FILE)
        assert "version 3 of shop (640,000 bytes" in done.evidence
        assert "shop-1.lepton-backup" in done.evidence
        assert [one.digest for one in await store.of_kind("model")] == [digest]
        again, foreign, whole = await ask(
            broker, asked, bench.command(action=RESTORE, target="model:shop", sha256=other),
            bench.command(action=RESTORE, target="dependency:database", sha256=digest))
        assert again == done
        assert (foreign.outcome, whole.outcome) == (REFUSED, REFUSED)
        assert "no kept version" in foreign.evidence
        with pytest.raises(Missing):
            await store.get(other)

        async def told() -> bool:
            beats = [Telemetry.FromString(one.value or b"") for one in await read_all(
                broker, topics.name(Topic.TELEMETRY))]
            return any(one.name == names.BACKUP_AGE_HOURS and one.attributes["backup"] == "shop-1.lepton-backup"
                       for beat in beats for one in beat.measurements)
        await apoll_until(told, "a heartbeat that names the backup", 30)
