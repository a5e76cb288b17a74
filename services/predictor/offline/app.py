"""Builds the edge server: a predictor's door and engine around one verified version."""

import logging

from lepton.contracts.bundles import exported
from lepton.contracts.bundles.packing import unpack_exactly
from lepton.contracts.pb.models_pb2 import ModelManifest
from lepton.contracts.pb.prediction_pb2 import FeedbackRequest, FeedbackResponse
from lepton.contracts.signing import TrustStore
from lepton.errors import Missing
from lepton.runtime.service import Service, Stage
from lepton.store.artifacts import Artifacts, FileArtifacts
from lepton.store.memory import MemoryDatabase
from services.predictor.core.engine import Setup
from services.predictor.core.session import Options, provider_of, settle_device
from services.predictor.edge.measures import Measures
from services.predictor.edge.memory import SharedMemory
from services.predictor.edge.rpc.doors import Behind, Terms, opened_by
from services.predictor.edge.rpc.server import GrpcDoor
from services.predictor.edge.rpc.wire import WireDoor
from services.predictor.flow.answered import Logging
from services.predictor.flow.beside import Beside
from services.predictor.flow.entities import Entities, Unsupported
from services.predictor.flow.files import Sources
from services.predictor.flow.library import Library
from services.predictor.flow.predictor import Predictor
from services.predictor.offline.keys import access_for
from services.predictor.offline.settings import EdgeSettings

log = logging.getLogger(__name__)


class NoFeedback:
    """There is no topic that outcomes could go to."""

    async def take(self, request: FeedbackRequest, author: str) -> FeedbackResponse:
        raise Unsupported("this server has no broker to keep feedback in", field="outcomes",
                          remedy="keep them, and send them where the platform runs")


class Bundle:
    """The one version. A resource: it is loaded and warm before the door opens."""

    def __init__(self, library: Library, manifest: ModelManifest, model: bytes) -> None:
        self._library = library
        self._manifest = manifest
        self._model = model

    async def start(self) -> None:
        """Raises Refused when the file does not fit its manifest."""
        await self._library.install(self._manifest, self._model)

    async def stop(self) -> None:
        self._library.forget(self._manifest.model)


class Announced:
    """The door, which says where it listens: with port 0 nobody else knows."""

    def __init__(self, door: GrpcDoor | WireDoor, manifest: ModelManifest) -> None:
        self._door = door
        self._manifest = manifest

    async def start(self) -> None:
        await self._door.start()
        log.info("%s version %d answers at %s", self._manifest.model, self._manifest.version, self._door.address)

    async def stop(self) -> None:
        await self._door.stop()


def build(settings: EdgeSettings) -> Service:
    """Raises Refused or Invalid for an archive in which anything was changed, Missing without it or trusted keys."""
    service = Service("predictor", settings)
    telemetry, clock = service.telemetry, service.clock
    trust = TrustStore.load(settings.trust_dir)
    try:
        archive = settings.bundle.read_bytes()
    except OSError as failure:
        raise Missing(f"cannot be read: {failure.strerror}", field="bundle", place=str(settings.bundle)) from failure
    manifest = exported.verified(archive, trust, clock.now())
    model = unpack_exactly(archive)[f"{exported.FOLDER}/{exported.MODEL}"]

    options = settle_device(Options(settings.device, settings.intra_op_threads, settings.tensorrt,
                                    settings.allowed_domains, settings.libraries))
    provider = provider_of(options)
    memory = SharedMemory(settings.request_bytes) if settings.shared_memory == "local" else None
    library = Library(Sources(Artifacts(MemoryDatabase()), FileArtifacts(settings.state_dir), trust),
                      Setup(options, settings.request_rows, memory), clock)
    unlogged = Logging(share=0.0, digested=False)
    measures, beside = Measures(telemetry, library, clock, provider), Beside(library, clock)
    predictor = Predictor(library, beside, Entities(clock), clock, lambda _: None, unlogged)
    access, listed = access_for(settings.host, settings.keys, settings.key_cache_s, clock)
    terms = Terms(settings.port, settings.door, settings.request_bytes, settings.request_timeout_s,
                  settings.server_name, unlogged)
    door = opened_by(service, terms, Behind(library, predictor, NoFeedback(), access, measures, memory,
                                            lambda _: None), provider)

    if memory is not None:
        service.add(Stage.STORE, "shared memory", memory)
    if listed is not None:
        service.add(Stage.STORE, "keys", listed)
    service.add(Stage.BUS, "version", Bundle(library, manifest, model))
    service.spawn("measures", measures.run)
    service.spawn("show readiness", door.follow)
    service.add(Stage.DOOR, "grpc", Announced(door, manifest))
    return service
