"""Which gRPC door a process opens, and what stands behind it: the services, and who may call them."""

from collections.abc import Callable
from dataclasses import dataclass

from lepton.runtime.service import Service
from lepton.runtime.settings import LeptonSettings
from services.predictor.edge.measures import Measures
from services.predictor.edge.memory import SharedMemory
from services.predictor.edge.rpc import prediction, protocol
from services.predictor.edge.rpc.auth import Gatekeeper
from services.predictor.edge.rpc.calls import Calls
from services.predictor.edge.rpc.control import Operating
from services.predictor.edge.rpc.server import GrpcDoor, Socket
from services.predictor.edge.rpc.wire import Door, WireDoor, is_native
from services.predictor.flow.access import Access
from services.predictor.flow.answered import Answered, Logging
from services.predictor.flow.feedback import TakesFeedback
from services.predictor.flow.forms import Forms
from services.predictor.flow.library import Library
from services.predictor.flow.predictor import Predictor

EXTENSIONS = ("classification", "model_repository", "model_repository(unload_dependents)", "model_configuration",
              "system_shared_memory", "binary_tensor_data", "parameters", "statistics", "trace", "logging")
"""What the door speaks beyond the core of the inference protocol."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What calls reach. `offer` takes answers of requests for the log, from any thread; `memory` is None where it may
    not be shared.
    """

    library: Library
    predictor: Predictor
    feedback: TakesFeedback
    access: Access
    measures: Measures
    memory: SharedMemory | None
    offer: Callable[[Answered], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a predictor's settings say of its door."""

    port: int
    door: Door
    request_bytes: int
    request_timeout_s: float
    server_name: str
    logging: Logging


def opened_by(service: Service, terms: Terms, behind: Behind, provider: str) -> GrpcDoor | WireDoor:
    """The door that is asked for; its start and stop, and `follow`, are the caller's. Raises Unavailable."""
    telemetry, clock, shared = service.telemetry, service.clock, service.settings
    behind.measures.shedding = behind.predictor.shedding
    gate = Gatekeeper(behind.access, behind.measures)
    calls = Calls(telemetry, behind.measures, clock, terms.request_timeout_s)
    inference = protocol.Protocol(behind.predictor, behind.library, calls, gate, service.health,
                                  protocol.Shown(terms.server_name, [*EXTENSIONS, f"provider:{provider}"]),
                                  Operating(behind.memory, _tracing(shared)))
    answers = prediction.Prediction(behind.predictor, behind.feedback, behind.access, calls)

    def inside(socket: Socket) -> GrpcDoor:
        """Reads every call in Python."""
        return GrpcDoor(socket, gate, [lambda server: protocol.register(inference, server),
                                       lambda server: prediction.register(answers, server)],
                        inference.drain, calls, service.health, clock)

    socket = Socket(shared.host, terms.port, terms.request_bytes, shared.drain_s / 2, terms.request_timeout_s,
                    telemetry.exporting)
    if not is_native(terms.door):
        return inside(socket)
    return _told(service, behind, WireDoor(socket, inside, Forms(behind.library, clock, behind.offer,
                                                           terms.logging.digested),
                                           behind.access, behind.measures, clock, terms.logging.share))


def _tracing(settings: LeptonSettings) -> dict[str, list[str]]:
    """How requests are traced, in the protocol's words: 1 of `trace_rate`, and no end to their number."""
    traced = bool(settings.otlp_endpoint) and settings.trace_ratio > 0
    return {"trace_mode": ["opentelemetry"], "trace_level": ["TIMESTAMPS" if traced else "OFF"],
            "trace_rate": [str(round(1 / settings.trace_ratio) if traced else 0)], "trace_count": ["-1"]}


def _told(service: Service, behind: Behind, wire: WireDoor) -> WireDoor:
    """The wire, told of every change, and asked before anything is counted."""
    behind.library.watch(wire.forget)
    parking = behind.library.parking
    behind.predictor.gather = behind.measures.gather = parking.gather = wire.gather
    parking.elsewhere = wire.busy
    behind.predictor.pending = wire.pending
    service.spawn("feed the wire", wire.feed)
    return wire
