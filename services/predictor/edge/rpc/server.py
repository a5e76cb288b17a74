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

LOOK_EVERY_S = 0.25
"""How often readiness is carried over to grpc.health."""

Register = Callable[[grpc.aio.Server], str]


@dataclass(frozen=True, slots=True)
class Socket:
    """Where to listen (port 0: a free one), the largest request, and how long requests may take to end at a stop."""

    host: str
    port: int
    request_bytes: int
    drain_s: float


class GrpcDoor:
    """`services` add themselves to the server and say their names; `drain` is called before the door waits."""

    def __init__(self, socket: Socket, gate: grpc.aio.ServerInterceptor, services: Sequence[Register],
                 drain: Callable[[], None], health: Health, clock: Clock) -> None:
        self._socket = socket
        self._gate = gate
        self._services = services
        self._drain = drain
        self._health = health
        self._clock = clock
        self._server: grpc.aio.Server | None = None
        self._status = health_aio.aio.HealthServicer()
        self._names: list[str] = []
        self._port = socket.port

    @property
    def address(self) -> str:
        """host:port, with the port really taken once started."""
        return f"{self._socket.host}:{self._port}"

    async def start(self) -> None:
        """Raises Unavailable when the port is taken."""
        server = grpc.aio.server(interceptors=[self._gate], options=[
            ("grpc.max_receive_message_length", self._socket.request_bytes),
            ("grpc.max_send_message_length", -1),
            # Two predictors on one port would share its callers at random instead of failing.
            ("grpc.so_reuseport", 0),
        ])
        self._names = [register(server) for register in self._services]
        health_pb2_grpc.add_HealthServicer_to_server(self._status, server)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*self._names, health_name, reflection.SERVICE_NAME), server)
        try:
            self._port = server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise Unavailable(f"cannot listen on {self.address}", place=self.address,
                              remedy="stop what holds the port, or set LEPTON_PREDICTOR_PORT") from error
        await server.start()
        self._server = server
        await self._show(serving=True)

    async def stop(self) -> None:
        """Refuse new calls, end streams once they are answered, wait for the rest while drain time is left."""
        if self._server is None:
            return
        await self._show(serving=False)
        self._drain()
        await self._server.stop(self._socket.drain_s)

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
