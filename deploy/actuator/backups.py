"""Putting a model's lost file back from a backup, and saying in heartbeats which backup is the newest.

Only bytes that the registry names and that the store has not whole are written, under the name that is their SHA-256:
nothing that is well is overwritten, nothing newer is lost, and what was erased on purpose stays erased.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from google.protobuf.message import DecodeError

from deploy.actuator.once import Once
from deploy.backup import folder
from deploy.backup.archive.secret import Secret
from deploy.backup.folder import Entry
from deploy.backup.restoring import single
from deploy.backup.restoring.single import Artifact, Late
from lepton.clock import Clock
from lepton.contracts import names
from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.errors import Invalid, LeptonError, Missing, Refused
from lepton.runtime.loops import pause
from lepton.runtime.telemetry import Telemetry
from lepton.store.artifacts import Artifacts, Damaged
from lepton.store.documents import DocumentDatabase

TARGET = "model:"
TELL_EVERY_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shelf:
    """The folder of backups; None: this installation keeps none. Its secret is read when it is needed.

    `unusable`: why none can be used, although some may be kept.
    """

    directory: Path | None
    read_secret: Callable[[], Secret]
    unusable: str = ""

    def open(self) -> tuple[Sequence[Entry], Secret]:
        """The newest first, and what opens them. Raises Refused where no backups are kept, Missing or Invalid where
        settings, folder or secret cannot be read, OSError where the disk fails."""
        if self.unusable:
            raise Invalid(f"the backups are unusable: {self.unusable}")
        if self.directory is None:
            raise Refused("no backups are kept here", field="dir",
                          remedy="give LEPTON_BACKUP_DIR and LEPTON_BACKUP_KEY_FILE")
        return folder.entries(self.directory)[::-1], self.read_secret()


class Backups:
    """Carries out RESTORE_BACKUP, one at a time, beside restarts: these do not wait for the reading of a backup."""

    def __init__(self, shelf: Shelf, database: DocumentDatabase, once: Once, clock: Clock) -> None:
        self._shelf = shelf
        self._database = database
        self._models = database.collection("models")
        self._artifacts = Artifacts(database)
        self._once = once
        self._clock = clock

    async def start(self) -> None:
        """The database may be away now: who restarts it cannot wait for it."""

    async def stop(self) -> None:
        await self._database.close()

    def concerns(self, command: RecoveryCommand) -> bool:
        return bool(command.action == recovery_pb2.RECOVERY_ACTION_RESTORE_BACKUP)

    async def execute(self, command: RecoveryCommand) -> RecoveryResult:
        """The result to publish. Raises Unavailable while the database is away: the command waits, and expires."""
        return await self._once.carry_out(command, self._put_back)

    async def tell(self, telemetry: Telemetry, stop: asyncio.Event) -> None:
        """A loop for the service: say how old the newest backup is; nothing where there is none."""
        while not await pause(stop, TELL_EVERY_S, self._clock):
            try:
                entries, _ = await asyncio.to_thread(self._shelf.open)
            except Missing as error:
                log.warning("no backup can be used: %s", error)
                continue
            except (LeptonError, OSError) as error:
                telemetry.error("backups_unread", f"which backups there are cannot be seen: {error}")
                continue
            for entry in entries[:1]:
                age_h = (self._clock.now() - entry.created).total_seconds() / 3600
                telemetry.measure(names.BACKUP_AGE_HOURS, age_h, backup=entry.path.name)

    async def _put_back(self, command: RecoveryCommand) -> str:
        model, digest = command.target.removeprefix(TARGET), command.arguments.get("sha256", "")
        if not command.target.startswith(TARGET):
            raise Refused("only a model's file is put back while the stack runs", field="target", place=command.target,
                          remedy="a whole stack is brought back by a person: lepton backup restore")
        version = await self._named(model, digest)
        damaged = False
        try:
            await self._artifacts.get(digest)
            return f"the file of version {version} of {model} is whole: nothing was put back"
        except Missing:
            pass
        except Damaged:
            damaged = True
        found, entry = await self._found(command, digest)
        if damaged:
            # A piece too much would stay behind what is written over it.
            await self._artifacts.delete(digest)
        # To read backups takes minutes: what was erased meanwhile stays erased.
        version = await self._named(model, digest)
        await self._artifacts.put(found.data, found.kind)
        await self._artifacts.get(digest)
        return (f"the file of version {version} of {model} ({len(found.data):,} bytes, {digest[:12]}) is back, from "
                f"{entry.path.name} of {entry.created:%Y-%m-%dT%H:%M:%SZ}; nothing else was touched, nothing that "
                f"came since is lost")

    async def _named(self, model: str, digest: str) -> int:
        """The version whose file it is, by the registry. Raises Invalid, also of a damaged document, or Missing."""
        document = await self._models.get(model)
        if document is None:
            raise Missing(f"the registry has no model {model}", field="target", place=model)
        try:
            state = ModelState.FromString(document["announcement"])
        except (DecodeError, KeyError, TypeError) as error:
            raise Invalid("the registry's document of the model is damaged", field="target", place=model,
                          remedy="lepton backup restore") from error
        for one in state.versions:
            if one.manifest.sha256 == digest and digest:
                return one.version
        raise Invalid(f"no kept version of {model} has a file of this SHA-256", field="sha256", place=digest)

    async def _found(self, command: RecoveryCommand, digest: str) -> tuple[Artifact, Entry]:
        try:
            entries, secret = await asyncio.to_thread(self._shelf.open)
        except OSError as error:
            raise Missing(f"the backups cannot be read: {error}", remedy="mend the folder of the backups") from error
        ends = command.expires_at.ToDatetime(tzinfo=UTC)
        for entry in entries:
            found = await asyncio.to_thread(_taken, entry.path, secret, digest, lambda: self._clock.now() >= ends)
            if found is not None:
                return found, entry
        raise Missing(f"none of {len(entries)} backups has the file whole", field="sha256", place=digest,
                      remedy="publish the model again")


def _taken(path: Path, secret: Secret, digest: str, late: Late) -> Artifact | None:
    """None for a backup that is damaged, gone meanwhile, unreadable, or sealed under another secret: an older one may
    do."""
    try:
        return single.artifact(path, secret, digest, late)
    except (Invalid, Refused, OSError) as error:
        log.warning("%s cannot be used: %s", path.name, error)
        return None
