"""Every concrete object of the actuator, in the order it starts."""

from datetime import timedelta
from functools import partial
from pathlib import Path

from deploy.actuator import units
from deploy.actuator.backups import Backups, Shelf
from deploy.actuator.edge import Commands
from deploy.actuator.flow import Actuator, Limits
from deploy.actuator.guarding import database as databases
from deploy.actuator.guarding import hanging
from deploy.actuator.memory import Memory
from deploy.actuator.once import Once
from deploy.actuator.settings import ActuatorSettings
from deploy.backup.archive import secret
from deploy.backup.archive.secret import Secret
from deploy.backup.settings import BackupSettings
from deploy.supervisor import ProcessManager
from lepton.bus import kafka
from lepton.bus.calls.counted import counted
from lepton.bus.care import Care
from lepton.bus.consumer import Consumer, Subscription
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.presence import Connection, announce
from lepton.bus.producer import Producer
from lepton.bus.records import Broker
from lepton.bus.retry import RetryPolicy
from lepton.contracts.signing import TrustStore
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Refused, Unavailable
from lepton.runtime.service import Service, Stage
from lepton.runtime.settings import load_optional
from lepton.store.documents import DocumentDatabase
from lepton.store.mongo import Database

BACKUPS_DEADLINE_S = 1000.0
"""A backup is read for no longer than a command is good for, a quarter of an hour."""


def build(settings: ActuatorSettings) -> Service:
    """Raises Unavailable when the process manager does not answer: without it nothing can be done here."""
    service = Service("actuator", settings)
    manager = ProcessManager(settings.supervisor_socket)
    if not manager.alive():
        raise Unavailable("the process manager does not answer", field="LEPTON_ACTUATOR_SUPERVISOR_SOCKET",
                          place=str(settings.supervisor_socket), remedy="start the stack with `lepton up`")
    memory = Memory(settings.state_dir / "commands.json")
    memory.load()
    limits = Limits(units.parse(settings.units), settings.start_timeout_s, timedelta(seconds=settings.clock_skew_s))
    actuator = Actuator(settings.instance, manager, TrustStore.load(settings.trust_dir), memory, limits, service.clock)

    broker = counted(kafka.connect(settings.broker_options(), service.clock), service.telemetry.calls)
    producer = Producer(broker, settings.instance, service.telemetry)
    service.add(Stage.STORE, "broker", Connection(broker))
    service.add(Stage.BUS, "producer", producer)
    announce(service, producer)
    progress = service.health.check("commands", deadline_s=60)
    consumer = Consumer(
        broker, Subscription([Topic.RECOVERY_COMMANDS], "actuator", settings.instance),
        Commands(actuator, producer).handle, Care(service.clock, progress, service.telemetry),
        dead_letters=DeadLetters("actuator", service.clock))
    service.spawn("commands", consumer.run)
    database = Database.connect(settings.mongo_url.get_secret_value(), settings.mongo_database)
    tell = service.telemetry.error
    service.spawn("database", databases.Guard(manager, database.broken, tell, clock=service.clock).watch)
    for guard in hanging.guards(settings.watched, manager, tell, service.clock, settings.hung_s):
        service.spawn("hanging", guard.watch)
    _backups(service, settings, broker, producer, database)
    return service


def _backups(service: Service, settings: ActuatorSettings, broker: Broker, producer: Producer,
             database: DocumentDatabase) -> None:
    """What puts lost files back, in a group of its own: restarts do not wait for it. The database may be away."""
    clock, shelf = service.clock, _shelf()
    memory = Memory(settings.state_dir / "restored.json")
    memory.load()
    once = Once(settings.instance, TrustStore.load(settings.trust_dir), memory,
                timedelta(seconds=settings.clock_skew_s), clock)
    backups = Backups(shelf, database, once, clock)
    service.add(Stage.STORE, "backups", backups)
    progress = service.health.check("restoring", deadline_s=BACKUPS_DEADLINE_S)
    consumer = Consumer(
        broker, Subscription([Topic.RECOVERY_COMMANDS], "actuator-backups", f"{settings.instance}-backups"),
        Commands(backups, producer).handle, Care(clock, progress, service.telemetry),
        # The group of restarts reads the same records, and writes the dead letter of each that needs one.
        dead_letters=DeadLetters("actuator", clock), retry=RetryPolicy(then="discard"))
    service.spawn("restoring", consumer.run)
    if shelf.directory is not None or shelf.unusable:
        service.spawn("tell of backups", partial(backups.tell, service.telemetry))


def _shelf() -> Shelf:
    """Settings of backups that make no sense end the backups alone: restart and scale matter more."""
    try:
        told = load_optional(BackupSettings)
        return Shelf(_path(told.dir, "dir").resolve() if told.dir else None, partial(_secret, told))
    except Invalid as error:
        return Shelf(None, partial(_secret, BackupSettings.model_construct()), str(error))


def _path(told: str, field: str) -> Path:
    """Raises Invalid for a home that nobody has."""
    try:
        return Path(told).expanduser()
    except RuntimeError as error:
        raise Invalid(str(error), field=field, place=told,
                      remedy=f"give LEPTON_BACKUP_{field.upper()} in full") from error


def _secret(told: BackupSettings) -> Secret:
    """What opens the backups. Raises Refused where nothing is said of it, Missing or Invalid when it cannot be read.
    """
    if told.key_file:
        return secret.read_key(_path(told.key_file, "key_file"))
    if told.passphrase_file:
        return secret.read_passphrase(_path(told.passphrase_file, "passphrase_file"))
    raise Refused("no key of the backups is given", field="key_file", remedy="give LEPTON_BACKUP_KEY_FILE")
