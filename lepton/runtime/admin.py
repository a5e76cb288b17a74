"""The operator's door every process has: /livez, /readyz and /metrics."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lepton.runtime.doors import HttpDoor
from lepton.runtime.health import Health
from lepton.runtime.settings import LeptonSettings
from lepton.runtime.telemetry import Telemetry

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Admin(HttpDoor):
    """Open from before the first dependency is reached until after the last one is closed."""

    def __init__(self, settings: LeptonSettings, health: Health, telemetry: Telemetry) -> None:
        super().__init__(self.respond, settings.host, settings.admin_port, drain_s=1)
        self._instance = settings.instance
        self._health = health
        self._telemetry = telemetry

    async def respond(self, scope: Message, _: Receive, send: Send) -> None:
        status, content_type, body = self._answer(scope["path"])
        await send({"type": "http.response.start", "status": status,
                    "headers": [(b"content-type", content_type.encode()), (b"cache-control", b"no-store")]})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        match path:
            case "/livez":
                return 200, "text/plain", b"alive\n"
            case "/readyz":
                report = json.dumps({"instance": self._instance, **self._health.report()}).encode()
                return 200 if self._health.ready else 503, "application/json", report
            case "/metrics":
                return 200, PROMETHEUS, self._telemetry.exposition()
            case _:
                return 404, "text/plain", b"here are /livez /readyz /metrics\n"
