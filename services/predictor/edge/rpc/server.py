"""The gRPC door: the socket, the limits on messages, health and reflection, and how it opens and closes."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health as health_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lepton.clock import Clock
from lepton.errors import Unavailable
from lepton.runtime.health import Health
from lepton.runtime.loops import pause
from services.predictor.edge.rpc.calls import Calls
from services.predictor.edge.rpc.unreadable import Unreadable

LOOK_EVERY_S = 0.25
"""How often readiness is carried over to grpc.health."""

MAX_STREAMS = 1024
"""Calls of one connection that may be under way."""

MAX_METADATA = 16 * 1024
"""Bytes of metadata that a call may bring."""

PING_EVERY_S, PING_ANSWER_S = 60, 20
"""A peer that is gone without a word is found out within these."""

PINGS_APART_S = 5
"""A caller that pings more often than this is sent away."""

MAX_PENDING = 16_384
"""Calls that may wait to be taken up. gRPC's own limit of 1,000 cancels calls at random past it."""

HELLO_WITHIN_S = 20
"""How long a connection may take to begin."""

Register = Callable[[grpc.aio.Server], str]


@dataclass(frozen=True, slots=True)
class Socket:
    """Where to listen (port 0: a free one), the largest request, how long requests may take to end at a stop, the time
    of a call that names none, and whether spans go anywhere. `path`: listen on this Unix socket instead."""

    host: str
    port: int
    request_bytes: int
    drain_s: float
    timeout_s: float
    traced: bool
    path: str = ""


def taken(address: str) -> Unavailable:
    """The port cannot be had."""
    return Unavailable(f"cannot listen on {address}", place=address,
                       remedy="stop what holds the port, or set LEPTON_PREDICTOR_PORT")


class GrpcDoor:
    """`services` add themselves to the server and say their names; `drain` is called before the door waits."""

    def __init__(self, socket: Socket, gate: grpc.aio.ServerInterceptor, services: Sequence[Register],
                 drain: Callable[[], None], calls: Calls, health: Health, clock: Clock) -> None:
        self._socket = socket
        self._gate = gate
        self._services = services
        self._drain = drain
        self._calls = calls
        self._health = health
        self._clock = clock
        self._server: grpc.aio.Server | None = None
        self._status = health_aio.aio.HealthServicer()
        self._names: list[str] = []
        self._port = socket.port

    @property
    def address(self) -> str:
        """host:port, with the port really taken once started; or the path."""
        return f"unix:{self._socket.path}" if self._socket.path else f"{self._socket.host}:{self._port}"

    def under_way(self) -> int:
        """Calls that are answered here without a lease: none."""
        return 0

    def answering(self) -> int:
        """Requests that have not ended, those of streams too; an open stream that asks nothing is none."""
        return self._calls.open

    async def start(self) -> None:
        """Raises Unavailable when the port is taken."""
        server = grpc.aio.server(interceptors=[self._gate, Unreadable()], options=[
            ("grpc.max_receive_message_length", self._socket.request_bytes),
            ("grpc.max_send_message_length", -1),
            # Two predictors on one port would share its callers at random instead of failing.
            ("grpc.so_reuseport", 0),
            *_limits(self._socket),
        ])
        self._names = [register(server) for register in self._services]
        health_pb2_grpc.add_HealthServicer_to_server(self._status, server)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*self._names, health_name, reflection.SERVICE_NAME), server)
        try:
            self._port = server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise taken(self.address) from error
        await server.start()
        self._server = server
        await self._show(serving=True)

    async def stop(self) -> None:
        """Refuse new calls, end streams once they are answered, wait for the rest while drain time is left."""
        if self._server is None:
            return
        await self.close()
        await self._server.stop(self._socket.drain_s)

    async def close(self) -> None:
        """Say that it stops, and read no more from open streams; calls under way go on."""
        await self._show(serving=False)
        self._drain()

    async def follow(self, stop: asyncio.Event) -> None:
        """A loop for the service: grpc.health says what /readyz says."""
        shown = True
        while not await pause(stop, LOOK_EVERY_S, self._clock):
            if self._health.ready != shown:
                shown = self._health.ready
                await self._show(serving=shown)

    async def _show(self, *, serving: bool) -> None:
        statuses = health_pb2.HealthCheckResponse
        for name in ("", *self._names):
            await self._status.set(name, statuses.SERVING if serving else statuses.NOT_SERVING)


def _limits(socket: Socket) -> list[tuple[str, int]]:
    """Behind the wire, which holds the same limits, a little more is let through: what it adds itself."""
    metadata = MAX_METADATA + (1024 if socket.path else 0)
    return [("grpc.max_concurrent_streams", MAX_STREAMS), ("grpc.max_metadata_size", metadata),
            ("grpc.absolute_max_metadata_size", metadata), ("grpc.keepalive_time_ms", PING_EVERY_S * 1000),
            ("grpc.keepalive_timeout_ms", PING_ANSWER_S * 1000), ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", PINGS_APART_S * 1000),
            ("grpc.server.max_pending_requests", MAX_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
            ("grpc.server_handshake_timeout_ms", int(min(HELLO_WITHIN_S, socket.timeout_s) * 1000))]
