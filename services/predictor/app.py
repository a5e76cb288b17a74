"""Builds the predictor: every concrete object, in the order in which it starts."""

import asyncio

from lepton.bus import kafka
from lepton.bus.care import Care
from lepton.bus.producer import Producer
from lepton.contracts.pb import telemetry_pb2
from lepton.contracts.signing import TrustStore
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service, Stage
from lepton.store.artifacts import Artifacts, FileArtifacts
from lepton.store.keys import Keys
from lepton.store.mongo import Database
from services.predictor.core.engine import Setup
from services.predictor.core.keyring import Keyring
from services.predictor.core.session import Options, provider_of, settle_device
from services.predictor.edge.keys import KeyCare
from services.predictor.edge.measures import Measures
from services.predictor.edge.pipelines import Pipelines
from services.predictor.edge.rpc import prediction, protocol
from services.predictor.edge.rpc.auth import Gatekeeper
from services.predictor.edge.rpc.calls import Calls
from services.predictor.edge.rpc.server import GrpcDoor, Socket
from services.predictor.edge.scoring import Desk, scoring
from services.predictor.edge.served import ServedLog
from services.predictor.edge.updates import Updates
from services.predictor.flow.access import Access
from services.predictor.flow.library import Library, Sources
from services.predictor.flow.predictor import Predictor
from services.predictor.settings import PredictorSettings

FOLLOW_S = 10.0
"""A topic that is followed shows within this time that nothing of it waits."""


def build(settings: PredictorSettings) -> Service:
    """Raises Unavailable when CUDA was asked for and is not to be had, Missing without trusted keys."""
    service = Service("predictor", settings)
    telemetry, clock = service.telemetry, service.clock
    options = settle_device(Options(settings.device, settings.intra_op_threads))
    provider = provider_of(options)

    database = Database.connect(settings.mongo_url.get_secret_value(), settings.mongo_database)
    broker = kafka.connect(settings.broker_options(), clock)
    producer = Producer(broker, settings.instance)
    library = Library(Sources(Artifacts(database), FileArtifacts(settings.state_dir / settings.instance / "models"),
                              TrustStore.load(settings.trust_dir)),
                      Setup(options, settings.request_rows), clock)
    measures = Measures(telemetry, library, clock, provider)
    generations: dict[str, int] = {}
    served = ServedLog(producer, generations, measures, settings.instance, clock)
    predictor = Predictor(library, clock, served.offer, settings.log_share)
    access = Access(Keys(database), Keyring(settings.key_cache_s), clock)

    desk = Desk(predictor, measures, telemetry, clock, service.health, settings.instance)
    pipelines = Pipelines(
        broker, settings.instance, library, Care(clock, service.health.check("pipelines", FOLLOW_S), telemetry),
        service.spawn, lambda name, generation: scoring(broker, desk, name, generation), generations)
    updates = Updates(broker, settings.instance, library,
                      Care(clock, service.health.check("registry", FOLLOW_S), telemetry), measures, telemetry)

    gate = Gatekeeper(access, measures)
    calls = Calls(telemetry, measures, clock, settings.request_timeout_s)
    inference = protocol.Protocol(predictor, library, calls, gate, service.health, [f"provider:{provider}"])
    answers = prediction.Prediction(predictor, calls)
    door = GrpcDoor(Socket(settings.host, settings.port, settings.request_bytes, settings.drain_s / 2), gate,
                    [lambda server: protocol.register(inference, server),
                     lambda server: prediction.register(answers, server)],
                    inference.drain, service.health, clock)

    service.add(Stage.STORE, "database", database)
    service.add(Stage.BUS, "producer", producer)
    service.add(Stage.BUS, "pipelines", pipelines)
    service.add(Stage.BUS, "registry", updates)
    _pulse(service, producer, library, door, provider)
    service.spawn("follow registry", updates.table.run)
    service.spawn("take up models", updates.run)
    service.spawn("follow pipelines", pipelines.table.run)
    service.spawn("log answers", served.run)
    service.spawn("measures", measures.run)
    service.spawn("keys", KeyCare(access, clock).run)
    service.spawn("show readiness", door.follow)
    service.add(Stage.DOOR, "grpc", door)
    return service


def _pulse(service: Service, producer: Producer, library: Library, door: GrpcDoor, provider: str) -> None:
    """Heartbeats and announcements, which begin before and end after everything else."""
    instance = service.settings.instance

    async def heartbeat(message: telemetry_pb2.Telemetry) -> None:
        await producer.send(Topic.TELEMETRY, message, key=instance)

    async def announce(message: telemetry_pb2.Instance | None) -> None:
        await producer.send(Topic.INSTANCES, message, key=instance)

    def describe(message: telemetry_pb2.Instance) -> None:
        message.address, message.provider = door.address, provider
        message.load = library.in_use()
        for shown in library.shown():
            if shown.serving:
                message.models.add(model=shown.model, version=shown.version, revision=shown.revision)

    async def announcing(stop: asyncio.Event) -> None:
        await service.telemetry.announce_loop(stop, announce, describe)

    service.spawn("heartbeats", lambda stop: service.telemetry.heartbeat_loop(stop, heartbeat), Stage.BUS)
    service.spawn("instance", announcing, Stage.BUS)
