"""Builds the predictor: every concrete object, in the order in which it starts."""

import gc
from collections.abc import Callable

import psutil

from lepton.bus import kafka
from lepton.bus.calls import counted as bus_calls
from lepton.bus.care import Care
from lepton.bus.commands.draining import Draining
from lepton.bus.presence import Connection, announce
from lepton.bus.producer import Producer
from lepton.bus.records import Broker
from lepton.clock import Clock
from lepton.contracts.admission import Admission
from lepton.contracts.pb.recovery_pb2 import RecoveryResult
from lepton.contracts.pb.telemetry_pb2 import Instance
from lepton.contracts.signing import TrustStore
from lepton.contracts.topics import Topic
from lepton.runtime.loops import LoopBody
from lepton.runtime.service import Service, Stage
from lepton.store.artifacts import Artifacts, FileArtifacts
from lepton.store.calls import counted as store_calls
from lepton.store.documents import DocumentDatabase
from lepton.store.keys import Keys
from lepton.store.mongo import Database
from services.predictor.core.engine import Setup
from services.predictor.core.keyring import Keyring
from services.predictor.core.room import Room
from services.predictor.core.session import Options, provider_of, settle_device
from services.predictor.edge.entities import EntityFeeds
from services.predictor.edge.keys import KeyCare
from services.predictor.edge.measures import Measures
from services.predictor.edge.memory import SharedMemory
from services.predictor.edge.pipelines import Pipelines
from services.predictor.edge.recovery import RecoveryCommands
from services.predictor.edge.rpc.doors import Behind, Terms, opened_by
from services.predictor.edge.rpc.server import GrpcDoor
from services.predictor.edge.rpc.wire import WireDoor
from services.predictor.edge.seen.spans import BatchSpans
from services.predictor.edge.seen.triton import Exposition
from services.predictor.edge.served import ServedLog
from services.predictor.edge.updates import Updates
from services.predictor.flow.access import Access
from services.predictor.flow.answered import Logging
from services.predictor.flow.beside import Beside
from services.predictor.flow.entities import Entities
from services.predictor.flow.feedback import Feedback
from services.predictor.flow.files import Sources
from services.predictor.flow.library import Library
from services.predictor.flow.predictor import Predictor
from services.predictor.settings import PredictorSettings

FOLLOW_S = 10.0
"""A topic that is followed shows within this time that nothing of it waits."""


def build(settings: PredictorSettings) -> Service:
    """The service over the real broker and database.

    Raises Unavailable when CUDA was asked for and is not to be had, Missing without trusted keys.
    """
    _collect_rarely()
    return assemble(settings, Service("predictor", settings), kafka.connect(settings.broker_options()),
                    Database.connect(settings.mongo_url.get_secret_value(), settings.mongo_database))


def assemble(settings: PredictorSettings, service: Service, broker: Broker, database: DocumentDatabase) -> Service:
    """The service over any broker and database."""
    telemetry, clock = service.telemetry, service.clock
    broker, database = bus_calls.counted(broker, telemetry.calls), store_calls.counted(database, telemetry.calls)
    options = _options(settings)
    provider = provider_of(options)

    memory = SharedMemory(settings.request_bytes) if settings.shared_memory == "local" else None
    producer = Producer(broker, settings.instance)
    library = _library(settings, Setup(options, settings.request_rows, memory,
                                       BatchSpans(telemetry, clock).of if telemetry.exporting else None),
                       database, clock)
    measures, generations = Measures(telemetry, library, clock, provider), dict[str, int]()
    served = ServedLog(producer, generations, measures, settings.instance, clock)
    beside, entities = Beside(library, clock), Entities(clock)
    logging = Logging(settings.log_share, settings.log_inputs == "digest")
    predictor = Predictor(library, beside, entities, clock, served.offer, logging)
    telemetry.expose(Exposition(predictor).text)
    access = Access(Keys(database), Keyring(settings.key_cache_s), clock)

    def scoring(name: str, generation: int, batched: bool) -> LoopBody:
        # With the first pipeline only: Arrow, which reads its rows, is 30 MB.
        from services.predictor.edge.scoring import Desk, scoring

        desk = Desk(predictor, measures, telemetry, clock, service.health, settings.instance)
        return scoring(broker, desk, name, generation, batched=batched)

    pipelines = Pipelines(
        broker, settings.instance, library, Care(clock, service.health.check("pipelines", FOLLOW_S), telemetry),
        service.spawn, scoring, generations)
    pipelines.also.append(EntityFeeds(broker, settings.instance, entities, Care(clock, telemetry=telemetry),
                                      service.spawn).changed)
    updates = Updates(broker, settings.instance, library,
                      Care(clock, service.health.check("registry", FOLLOW_S), telemetry), measures, telemetry)

    feedback = Feedback(producer, lambda: pipelines.table.values, entities, clock, f"predictor/{settings.instance}")
    terms = Terms(settings.port, settings.door, settings.request_bytes, settings.request_timeout_s,
                  settings.server_name, logging)
    door = opened_by(service, terms, Behind(library, predictor, feedback, access, measures, memory, served.offer),
                     provider)

    if memory is not None:
        service.add(Stage.STORE, "shared memory", memory)
    service.add(Stage.STORE, "database", database)
    service.add(Stage.STORE, "broker", Connection(broker))
    service.add(Stage.BUS, "producer", producer)
    announce(service, producer, _describing(library, door, provider, settings.advertised), ping=database.ping)
    service.add(Stage.BUS, "pipelines", pipelines)
    service.add(Stage.BUS, "registry", updates)
    _obey(settings, service, broker, (library, predictor, Draining(service, broker, door.answering)), producer)
    service.spawn("follow registry", updates.table.run)
    service.spawn("take up models", updates.run)
    service.spawn("load again what is asked", library.parking.run)
    service.spawn("follow pipelines", pipelines.table.run)
    for name, loop in (("log answers", served.run), ("measures", measures.run), ("answer beside", beside.run)):
        service.spawn(name, loop)
    service.spawn("keys", KeyCare(access, clock).run)
    service.spawn("show readiness", door.follow)
    service.add(Stage.DOOR, "grpc", door)
    return service


def _obey(settings: PredictorSettings, service: Service, broker: Broker, obeying: tuple[Library, Predictor, Draining],
          producer: Producer) -> None:
    """Recovery commands, once the registry is known."""
    async def answer(result: RecoveryResult) -> None:
        await producer.send(Topic.RECOVERY_RESULTS, result, key=result.command_id)

    care = Care(service.clock, service.health.check("recovery commands", FOLLOW_S), service.telemetry)
    commands = RecoveryCommands(broker, *obeying, Admission(TrustStore.load(settings.trust_dir)), answer, care)
    service.add(Stage.BUS, "recovery commands", commands)
    service.spawn("follow recovery commands", commands.run)


def _library(settings: PredictorSettings, setup: Setup, database: DocumentDatabase, clock: Clock) -> Library:
    cache = FileArtifacts(settings.state_dir / settings.instance / "models")
    return Library(Sources(Artifacts(database), cache, TrustStore.load(settings.trust_dir)), setup, clock,
                   Room(settings.memory_mib, lambda: int(psutil.Process().memory_info().rss)))


def _options(settings: PredictorSettings) -> Options:
    """Where models run. Raises Unavailable for what was asked for and is not to be had."""
    return settle_device(Options(settings.device, settings.intra_op_threads, settings.tensorrt,
                                 settings.allowed_domains, settings.libraries))


def _describing(library: Library, door: GrpcDoor | WireDoor, provider: str,
                advertised: str) -> Callable[[Instance], None]:
    """What the process announces of itself: where it answers, with what, and what it counts of a rollout."""
    def describe(message: Instance) -> None:
        message.address, message.provider = advertised or door.address, provider
        message.load = library.in_use() + door.under_way()
        for shown in library.shown():
            if shown.serving:
                trial = library.trial(shown.model)
                message.models.add(model=shown.model, version=shown.version, revision=shown.revision,
                                   arms=[] if trial is None else trial.told())

    return describe


def _collect_rarely() -> None:
    """Requests and scored rows die with their references; a collector that walks the whole heap again and again among
    them only shows in the tail of the latencies."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
