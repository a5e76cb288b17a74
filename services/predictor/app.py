"""Builds the predictor: every concrete object, in the order in which it starts."""

import gc
from collections.abc import Callable

from lepton.bus import kafka
from lepton.bus.care import Care
from lepton.bus.presence import Connection, announce
from lepton.bus.producer import Producer
from lepton.bus.records import Broker
from lepton.contracts.pb.telemetry_pb2 import Instance
from lepton.contracts.signing import TrustStore
from lepton.runtime.service import Service, Stage
from lepton.store.artifacts import Artifacts, FileArtifacts
from lepton.store.documents import DocumentDatabase
from lepton.store.keys import Keys
from lepton.store.mongo import Database
from services.predictor.core.engine import Setup
from services.predictor.core.keyring import Keyring
from services.predictor.core.session import Options, provider_of, settle_device
from services.predictor.edge.keys import KeyCare
from services.predictor.edge.measures import Measures
from services.predictor.edge.memory import SharedMemory
from services.predictor.edge.pipelines import Pipelines
from services.predictor.edge.rpc import prediction, protocol
from services.predictor.edge.rpc.auth import Gatekeeper
from services.predictor.edge.rpc.calls import Calls
from services.predictor.edge.rpc.control import Operating
from services.predictor.edge.rpc.server import GrpcDoor, Socket
from services.predictor.edge.scoring import Desk, scoring
from services.predictor.edge.served import ServedLog
from services.predictor.edge.updates import Updates
from services.predictor.flow.access import Access
from services.predictor.flow.beside import Beside
from services.predictor.flow.library import Library, Sources
from services.predictor.flow.predictor import Predictor
from services.predictor.settings import PredictorSettings

FOLLOW_S = 10.0
"""A topic that is followed shows within this time that nothing of it waits."""


EXTENSIONS = ("classification", "model_repository", "model_repository(unload_dependents)", "model_configuration",
              "system_shared_memory", "binary_tensor_data", "parameters", "statistics", "trace", "logging")
"""What the door speaks beyond the core of the inference protocol."""


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
    options = settle_device(Options(settings.device, settings.intra_op_threads))
    provider = provider_of(options)

    memory = SharedMemory(settings.request_bytes) if settings.shared_memory == "local" else None
    producer = Producer(broker, settings.instance)
    library = Library(Sources(Artifacts(database), FileArtifacts(settings.state_dir / settings.instance / "models"),
                              TrustStore.load(settings.trust_dir)),
                      Setup(options, settings.request_rows, memory), clock)
    measures = Measures(telemetry, library, clock, provider)
    generations: dict[str, int] = {}
    served = ServedLog(producer, generations, measures, settings.instance, clock)
    beside = Beside(library, clock)
    predictor = Predictor(library, beside, clock, served.offer, settings.log_share)
    access = Access(Keys(database), Keyring(settings.key_cache_s), clock)

    desk = Desk(predictor, measures, telemetry, clock, service.health, settings.instance)
    pipelines = Pipelines(
        broker, settings.instance, library, Care(clock, service.health.check("pipelines", FOLLOW_S), telemetry),
        service.spawn, lambda name, generation: scoring(broker, desk, name, generation), generations)
    updates = Updates(broker, settings.instance, library,
                      Care(clock, service.health.check("registry", FOLLOW_S), telemetry), measures, telemetry)

    gate = Gatekeeper(access, measures)
    calls = Calls(telemetry, measures, clock, settings.request_timeout_s)
    inference = protocol.Protocol(predictor, library, calls, gate, service.health,
                                  protocol.Shown(settings.server_name, [*EXTENSIONS, f"provider:{provider}"]),
                                  Operating(memory, _tracing(settings)))
    answers = prediction.Prediction(predictor, calls)
    door = GrpcDoor(Socket(settings.host, settings.port, settings.request_bytes, settings.drain_s / 2), gate,
                    [lambda server: protocol.register(inference, server),
                     lambda server: prediction.register(answers, server)],
                    inference.drain, service.health, clock)

    if memory is not None:
        service.add(Stage.STORE, "shared memory", memory)
    service.add(Stage.STORE, "database", database)
    service.add(Stage.STORE, "broker", Connection(broker))
    service.add(Stage.BUS, "producer", producer)
    announce(service, producer, _describing(library, door, provider))
    service.add(Stage.BUS, "pipelines", pipelines)
    service.add(Stage.BUS, "registry", updates)
    service.spawn("follow registry", updates.table.run)
    service.spawn("take up models", updates.run)
    service.spawn("follow pipelines", pipelines.table.run)
    service.spawn("log answers", served.run)
    service.spawn("measures", measures.run)
    service.spawn("answer beside", beside.run)
    service.spawn("keys", KeyCare(access, clock).run)
    service.spawn("show readiness", door.follow)
    service.add(Stage.DOOR, "grpc", door)
    return service


def _tracing(settings: PredictorSettings) -> dict[str, list[str]]:
    """How requests are traced, in the protocol's words: 1 of `trace_rate`, and no end to their number."""
    traced = bool(settings.otlp_endpoint) and settings.trace_ratio > 0
    return {"trace_mode": ["opentelemetry"], "trace_level": ["TIMESTAMPS" if traced else "OFF"],
            "trace_rate": [str(round(1 / settings.trace_ratio) if traced else 0)], "trace_count": ["-1"]}


def _describing(library: Library, door: GrpcDoor, provider: str) -> Callable[[Instance], None]:
    """What the process announces of itself: where it answers, with what, and what it counts of a rollout."""
    def describe(message: Instance) -> None:
        message.address, message.provider, message.load = door.address, provider, library.in_use()
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
