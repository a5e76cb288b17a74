"""Where the stack is that is backed up or brought back: its broker, its database, its keys, its gateway."""

from dataclasses import dataclass
from pathlib import Path

from deploy.backup.settings import BackupSettings
from deploy.local import ports
from deploy.local.ports import Stack
from lepton.errors import Missing
from lepton.runtime.settings import BrokerOptions
from lepton.store.mongo import Database


@dataclass(frozen=True)
class Site:
    """`files` are the folders and files of keys by their name in a backup; `mongo_url` may hold a password."""

    name: str
    broker: BrokerOptions
    mongo_url: str
    mongo_database: str
    replication: int
    files: dict[str, Path]
    rest: str = ""
    api_key_file: Path | None = None

    def database(self) -> Database:
        return Database.connect(self.mongo_url, self.mongo_database)

    @property
    def operator(self) -> Path:
        """The identity that signs backups."""
        return self.files["keys"] / "operator.json"


def deployed(settings: BackupSettings) -> Site:
    """The stack that LEPTON_ variables name."""
    return Site(settings.mongo_database, settings.broker_options(), settings.mongo_url.get_secret_value(),
                settings.mongo_database, settings.kafka_replication,
                {"keys": settings.keys_dir, "trust": settings.trust_dir}, settings.rest,
                Path(settings.api_key_file) if settings.api_key_file else None)


def local(stack: Stack, settings: BackupSettings) -> Site:
    """A stack of this machine."""
    told = settings.model_copy(update={"kafka_bootstrap": stack.kafka})
    return Site(stack.home.name, told.broker_options(), stack.mongo, settings.mongo_database,
                settings.kafka_replication, files_of(stack.home), stack.rest, stack.bootstrap_file)


def files_of(home: Path) -> dict[str, Path]:
    return {"keys": home / "keys", "trust": home / "trust", "admin-key": home / "admin-key"}


def at(home: Path, settings: BackupSettings) -> Site:
    """Raises Missing when no stack was brought up there."""
    stack = ports.load(home)
    if stack is None:
        raise Missing("no stack was brought up here", place=str(home),
                      remedy="give --home, or --deployed for the stack that LEPTON_ variables name")
    return local(stack, settings)
