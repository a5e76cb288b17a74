"""Whatever is wrong with the backups, a command is answered: the actuator goes on, and restart and scale with it."""

import asyncio
import errno
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bson
import pytest

from deploy.actuator.app import _shelf
from deploy.actuator.backups import Backups, Shelf
from deploy.actuator.memory import Memory
from deploy.actuator.once import Once
from deploy.backup.archive.secret import Secret
from lepton.clock import FakeClock
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.models_pb2 import ModelState, ModelVersion
from lepton.contracts.pb.recovery_pb2 import RecoveryResult
from lepton.errors import Missing
from lepton.runtime.service import Service
from lepton.runtime.settings import LeptonSettings
from lepton.store.artifacts import Artifacts, sha256_hex
from lepton.store.documents import Document
from lepton.store.memory import MemoryDatabase
from tests.unit.actuator.commands import command, issuer, trust
from tests.unit.backup.conftest import Write, identity, secret, write

__all__ = ["identity", "secret", "write"]

FILE = b"a" * 700 + b"b" * 300
DIGEST = sha256_hex(FILE)
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
DONE, REFUSED = recovery_pb2.RECOVERY_OUTCOME_DONE, recovery_pb2.RECOVERY_OUTCOME_REFUSED


def named() -> Document:
    version = ModelVersion(model="shop", version=3)
    version.manifest.sha256 = DIGEST
    return {"_id": "shop", "announcement": ModelState(model="shop", versions=[version]).SerializeToString()}


@pytest.fixture
def backup(write: Write) -> Callable[[str, float], Path]:
    """Write a backup that has the file, so many days old."""
    def written(name: str, days: float) -> Path:
        return write({"database/fs.files": [bson.encode({"_id": DIGEST, "length": len(FILE), "kind": "model"})],
                      "database/fs.chunks": [bson.encode({"files_id": DIGEST, "n": 0, "data": FILE})]},
                     name=f"{name}.lepton-backup", created=(NOW - timedelta(days=days)).isoformat())
    return written


async def restored(home: Path, shelf: Shelf, database: MemoryDatabase, document: Document | None = None,
                   ) -> RecoveryResult:
    """What the actuator answers who orders the file of version 3 back."""
    watchdog, clock = issuer(home / "who", "watchdog", "watchdog", NOW), FakeClock(NOW)
    once = Once("actuator", trust(home / "who"), Memory(home / "restored.json"), timedelta(seconds=2), clock)
    await database.collection("models").put(document or named())
    return await Backups(shelf, database, once, clock).execute(command(
        watchdog, NOW, action=recovery_pb2.RECOVERY_ACTION_RESTORE_BACKUP, target="model:shop", sha256=DIGEST))


async def test_a_backup_that_goes_while_they_are_read_is_passed_over(
        tmp_path: Path, secret: Secret, backup: Callable[[str, float], Path]) -> None:
    newest, database = backup("newest", 1), MemoryDatabase()
    backup("older", 2)

    def pruned() -> Secret:
        newest.unlink()
        return secret
    result = await restored(tmp_path, Shelf(tmp_path, pruned), database)
    assert (result.outcome, await Artifacts(database).get(DIGEST)) == (DONE, FILE)
    assert "older.lepton-backup" in result.evidence


async def test_what_is_erased_while_backups_are_read_stays_erased(
        tmp_path: Path, secret: Secret, backup: Callable[[str, float], Path]) -> None:
    backup("newest", 1)
    database, loop = MemoryDatabase(), asyncio.get_running_loop()

    def erased() -> Secret:
        empty = {"_id": "shop", "announcement": ModelState(model="shop").SerializeToString()}
        asyncio.run_coroutine_threadsafe(database.collection("models").put(empty), loop).result(30)
        return secret
    result = await restored(tmp_path, Shelf(tmp_path, erased), database)
    assert result.outcome == REFUSED
    assert "no kept version" in result.evidence
    with pytest.raises(Missing):
        await Artifacts(database).get(DIGEST)


async def test_an_entry_that_cannot_be_read_does_not_hide_the_others(
        tmp_path: Path, secret: Secret, backup: Callable[[str, float], Path]) -> None:
    (tmp_path / "folder.lepton-backup").mkdir()
    (tmp_path / "gone.lepton-backup").symlink_to(tmp_path / "nowhere")
    backup("older", 2)
    assert (await restored(tmp_path, Shelf(tmp_path, lambda: secret), MemoryDatabase())).outcome == DONE


async def test_a_disk_that_fails_and_a_damaged_document_are_answered(tmp_path: Path, secret: Secret) -> None:
    def failing() -> Secret:
        raise OSError(errno.EIO, "Input/output error")
    failed = await restored(tmp_path / "a", Shelf(tmp_path, failing), MemoryDatabase())
    assert failed.outcome == REFUSED
    assert "Input/output error" in failed.evidence
    damages: tuple[Document, ...] = ({"announcement": b"\xff\xff"}, {}, {"announcement": 7})
    for number, damage in enumerate(damages):
        damaged = await restored(tmp_path / f"b{number}", Shelf(tmp_path, lambda: secret), MemoryDatabase(),
                                 {"_id": "shop", **damage})
        assert damaged.outcome == REFUSED
        assert "document of the model is damaged" in damaged.evidence


@pytest.mark.parametrize(("name", "value"), [
    ("LEPTON_BACKUP_KEEP", "many"), ("LEPTON_BACKUP_KEPP", "7"), ("LEPTON_BACKUP_DIR", "~nobody-of-this-name/b")])
async def test_settings_that_make_no_sense_are_told_and_end_the_backups_alone(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str,
        value: str) -> None:
    monkeypatch.setenv(name, value)
    shelf = _shelf()
    result = await restored(tmp_path, shelf, MemoryDatabase())
    assert result.outcome == REFUSED
    assert "the backups are unusable" in result.evidence
    assert name in result.evidence
    service, clock, stop = Service("actuator", LeptonSettings(instance="actuator")), FakeClock(NOW), asyncio.Event()
    once = Once("actuator", trust(tmp_path / "who"), Memory(tmp_path / "m.json"), timedelta(), clock)
    telling = asyncio.ensure_future(Backups(shelf, MemoryDatabase(), once, clock).tell(service.telemetry, stop))
    try:
        async with asyncio.timeout(30):
            while "backups_unread" not in caplog.text:
                await clock.advance(1)
                await asyncio.sleep(0.01)
    finally:
        telling.cancel()
    assert name in caplog.text
