"""Everything the trainer is made of, in start order."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lepton.bus import kafka
from lepton.bus.calls import counted as bus_calls
from lepton.bus.care import Care
from lepton.bus.consumer import Consumer, Message, Subscription
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.presence import Connection, announce
from lepton.bus.producer import Producer
from lepton.bus.records import Broker
from lepton.contracts import names, topics
from lepton.contracts.admission import Admission
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.pb.telemetry_pb2 import Instance
from lepton.contracts.pb.training_pb2 import TrainingProgress
from lepton.contracts.signing import Identity, TrustStore, sign_message
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service, Stage
from lepton.runtime.telemetry import Telemetry
from lepton.store.announce import Announcement, Publish, Relay
from lepton.store.artifacts import Artifacts
from lepton.store.calls import counted as store_calls
from lepton.store.datasets.snapshots import Snapshots
from lepton.store.documents import DocumentDatabase
from lepton.store.models import Models
from lepton.store.mongo import Database
from lepton.store.registry.streams import Streams as StreamStore
from lepton.store.runs import Runs
from lepton.store.segments import Segments
from services.trainer.edge.announced import AnnouncedPipelines
from services.trainer.edge.commands import Commands
from services.trainer.edge.instances import heard_instances
from services.trainer.edge.labels import Labels
from services.trainer.edge.pupils import PupilProcesses
from services.trainer.edge.recovery import RecoveryCommands
from services.trainer.edge.streams import Streams
from services.trainer.edge.workers import RunFolders
from services.trainer.flow.planning import Planner
from services.trainer.flow.ports import Bounds, Folders, Stores, Tell
from services.trainer.flow.publishing import Publisher
from services.trainer.flow.registry.changes import Changes
from services.trainer.flow.requests import Requests
from services.trainer.flow.rollouts import Rollouts
from services.trainer.flow.streams import Figures, StreamLearning
from services.trainer.flow.training import Training
from services.trainer.flow.triggers import RowTrigger
from services.trainer.settings import TrainerSettings

FOLLOW_DEADLINE_S = 30.0
# Promotions and plans need no process, so more runs are held than processes run.
RUNS_HELD = 4
SECONDS = (1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0, 600.0, 1800.0, 3600.0)


def build(settings: TrainerSettings) -> Service:
    """The service over the real broker, database and disk. Raises Missing or Invalid when its keys cannot be read."""
    return assemble(settings, Service("trainer", settings), kafka.connect(settings.broker_options()),
                    Database.connect(settings.mongo_url.get_secret_value(), settings.mongo_database),
                    RunFolders(settings.state_dir / "trainer" / "runs"))


def assemble(settings: TrainerSettings, service: Service, broker: Broker, database: DocumentDatabase,
             folders: Folders) -> Service:
    """The service over any broker, database and run folders."""
    clock, telemetry = service.clock, service.telemetry
    broker, database = bus_calls.counted(broker, telemetry.calls), store_calls.counted(database, telemetry.calls)
    identity = Identity.load(settings.keys_dir / "trainer.json")
    trust = TrustStore.load(settings.trust_dir)
    admission = Admission(trust)
    producer = Producer(broker, settings.instance, telemetry)

    def sign(state: ModelState) -> None:
        sign_message(identity, state)

    stores = Stores(Segments(database, settings.segment_cache_mb * 2**20), Models(database, clock, sign),
                    Runs(database, clock), Artifacts(database), Snapshots(database))
    relay = Relay([stores.models.announcing], _publish(producer), clock)
    tell = _tell(producer, telemetry, relay, settings.instance)
    bounds = Bounds(settings.lease_s, settings.row_pause_s, settings.run_memory_mb, settings.run_limit_s,
                    settings.run_grace_s, settings.processes, settings.allowed_modules,
                    "cuda" if settings.device == "cuda" else "cpu")

    def care(what: str) -> Care:
        return Care(clock, service.health.check(what, FOLLOW_DEADLINE_S), telemetry)

    pipelines = AnnouncedPipelines(broker, care("pipelines"), settings.instance)
    training = Training(stores, Planner(stores, pipelines.states, trust, bounds, tell, clock),
                        Publisher(stores, identity, bounds.lease_s, tell, clock), folders, tell, bounds, clock)
    trigger = RowTrigger(stores, pipelines.states, tell, bounds, clock)
    requests = Requests(stores, pipelines.states, tell, clock)
    commands = _Doors(Commands(requests), RecoveryCommands(requests, admission, tell.result, clock))
    consumer = Consumer(
        broker, Subscription([topics.name(Topic.TRAINING_COMMANDS), topics.name(Topic.RECOVERY_COMMANDS)],
                             settings.service, settings.instance),
        commands.handle, care("commands"), dead_letters=DeadLetters(settings.service, clock))

    service.add(Stage.STORE, "database", database)
    service.add(Stage.STORE, "broker", Connection(broker))
    service.add(Stage.BUS, "producer", producer)
    announce(service, producer, _describe, ping=database.ping)
    service.add(Stage.BUS, "pipelines", pipelines)
    service.add(Stage.FLOW, "leases", _Leases(stores.runs, training, settings.instance))
    service.spawn("announce models", relay.run)
    for number in range(RUNS_HELD):
        service.spawn(f"runs {number}", lambda stop: training.work(settings.instance, stop))
    service.spawn("follow pipelines", pipelines.run)
    service.spawn("count rows", lambda stop: trigger.watch(stop, settings.look_s))
    service.spawn("collect", lambda stop: Changes(stores, tell).watch(stop, settings.collect_s, clock))
    service.spawn("commands", consumer.run)
    rollouts = Rollouts(stores, tell, clock)
    instances = heard_instances(broker, rollouts, care("instances"), settings.instance)
    service.add(Stage.BUS, "instances", instances)
    service.spawn("hear instances", instances.run)
    service.spawn("judge rollouts", lambda stop: rollouts.watch(stop, settings.look_s))
    labels = Labels(broker, pipelines.states, rollouts, tell, service.spawn, settings.instance)
    service.spawn("follow rollouts", lambda stop: labels.watch(stop, settings.look_s))
    streams = Streams(broker, pipelines.states, lambda: StreamLearning(
        stores, StreamStore(database, clock), PupilProcesses(), bounds, _figures(telemetry), tell, clock),
        care, service.spawn, settings.instance, clock)
    service.spawn("follow streams", lambda stop: streams.watch(stop, settings.look_s))
    return service


class _Doors:
    """One consumer for both topics of commands; each record goes to the door of its kind."""

    def __init__(self, commands: Commands, recovery: RecoveryCommands) -> None:
        self._commands = commands
        self._recovery = recovery

    async def handle(self, message: Message) -> None:
        door = self._recovery if isinstance(message.payload, RecoveryCommand) else self._commands
        await door.handle(message)


class _Leases:
    """Runs this instance held before it was killed are its own again at once; those it leaves are free at once."""

    def __init__(self, runs: Runs, training: Training, owner: str) -> None:
        self._runs = runs
        self._training = training
        self._owner = owner

    async def start(self) -> None:
        await self._runs.let_go(self._owner)
        await self._training.sweep()

    async def stop(self) -> None:
        await self._runs.let_go(self._owner)


def _tell(producer: Producer, telemetry: Telemetry, relay: Relay, instance: str) -> Tell:
    runs = telemetry.counter(names.TRAINING_RUNS, "Runs that ended")
    seconds = telemetry.histogram(names.TRAINING_RUN_SECONDS, "Length of a run", SECONDS)

    async def progress(message: TrainingProgress) -> None:
        await producer.send(Topic.TRAINING_PROGRESS, message, key=message.run_id)

    async def result(message: RecoveryResult) -> None:
        message.executor = instance
        await producer.send(Topic.RECOVERY_RESULTS, message, key=message.command_id)

    def ended(model: str, state: str, elapsed_s: float) -> None:
        runs.add(1, {names.MODEL: model, "state": state})
        seconds.record(elapsed_s, {names.MODEL: model})

    @contextmanager
    def span(traceparent: str, model: str, run_id: str) -> Iterator[None]:
        with telemetry.span_from(traceparent or None, names.SPAN_TRAIN) as train:
            train.set_attributes({names.SPAN_MODEL: model, names.SPAN_RUN: run_id})
            yield

    return Tell(progress, result, relay.kick, telemetry.error, ended, span)


def _figures(telemetry: Telemetry) -> Figures:
    def figures(pipeline: str, found: Mapping[str, float]) -> None:
        for name, value in found.items():
            telemetry.measure(names.STREAM_FIGURE, value, pipeline=pipeline, figure=name)

    return figures


def _publish(producer: Producer) -> Publish:
    async def publish(announcement: Announcement) -> None:
        await producer.send(Topic.MODELS, announcement.value, key=announcement.key)

    return publish


def _describe(_: Instance) -> None:
    """The trainer has no door of its own; its admin address is filled in already."""
