"""How an HTTP door opens and closes: an ASGI application on a socket, inside the lifecycle of its service."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from lepton.errors import Unavailable


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the Service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpDoor:
    """Serves `app` on host:port; stopping refuses new connections and waits for open requests until `drain_s`."""

    def __init__(self, app: Any, host: str, port: int, *, drain_s: float) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._drain_s = drain_s
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """host:port, with the port really taken once started."""
        return f"{self._host}:{self._port}"

    async def start(self) -> None:
        """Raises Unavailable when the port is taken."""
        listener = self._listen()
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app, interface="asgi3", log_config=None, access_log=False, lifespan="off", ws="none",
            server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=max(1, round(self._drain_s)), backlog=2048,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name=f"door {self.address}")
        while not self._server.started:
            if self._task.done():
                raise Unavailable(f"the HTTP door on {self.address} did not open", place=self.address)
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
        except OSError as error:
            listener.close()
            raise Unavailable(f"cannot listen on {self.address}: {error.strerror}", place=self.address,
                              remedy="stop what holds the port, or set another") from error
        listener.setblocking(False)
        return listener
