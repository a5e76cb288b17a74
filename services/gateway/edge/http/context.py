"""What surrounds every request: its id, its trace, its count, and the answer when it fails."""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.responses import Response

from lepton.clock import Clock
from lepton.contracts import names
from lepton.errors import LeptonError
from lepton.runtime import tracing
from lepton.runtime.telemetry import Telemetry
from services.gateway.edge.errors import TooLarge, headers_of, problem_of, status_of
from services.gateway.edge.http.answers import answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

REQUEST_ID = "x-request-id"
_GIVEN_ID = re.compile(r"[\x21-\x7e]{1,128}")
_current: ContextVar[str] = ContextVar("request_id", default="")

log = logging.getLogger(__name__)


def request_id() -> str:
    """Id of the request this code runs for; the client's own where it sent one."""
    return _current.get()


def failure(error: LeptonError, path: str, status: HTTPStatus | None = None) -> Response:
    """The answer for an outcome, the protocol's form below /v2, problem+json elsewhere; `status` None: as the table."""
    said, headers = status or status_of(error), headers_of(error)
    if _is_protocol(path):
        return answer({"error": str(error)}, said, headers)
    return answer(problem_of(error, request_id(), said), said, headers, "application/problem+json")


def _is_protocol(path: str) -> bool:
    return path.startswith("/v2")


def too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit_bytes} bytes", field="body", remedy="send it in several requests")


def bug(path: str) -> Response:
    """The answer for a failure that is no outcome: it does not say what it was."""
    detail = "this is a bug of ours; the log has it under the request id"
    if _is_protocol(path):
        return answer({"error": f"{detail} {request_id()}"}, 500)
    said = {"type": "about:blank", "title": "Internal Server Error", "status": 500, "request_id": request_id(),
            "detail": detail}
    return answer(said, 500, media_type="application/problem+json")


class RequestContext:
    """Outermost layer around the framework. A body whose length is announced too large is not even begun to read."""

    def __init__(self, app: App, telemetry: Telemetry, clock: Clock, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._telemetry = telemetry
        self._clock = clock
        self._requests = telemetry.counter(names.HTTP_REQUESTS, "Requests answered")
        self._seconds = telemetry.histogram(names.HTTP_SECONDS, "Length of a request")
        self._open = 0

    def under_way(self) -> int:
        """Requests that have not ended."""
        return self._open

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(REQUEST_ID, "")
        reset = _current.set(given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8))
        self._open += 1
        try:
            await self._traced(scope, receive, send, headers)
        finally:
            self._open -= 1
            _current.reset(reset)

    async def _traced(self, scope: Message, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        began = self._clock.monotonic()
        method = scope["method"]
        sent = _Sent(send, {REQUEST_ID: request_id()})
        with self._telemetry.span_from(headers.get(tracing.HEADER), method, kind=SpanKind.SERVER,
                                       **{"http.request.method": method, "url.path": scope["path"]}) as span:
            if (current := tracing.traceparent()) is not None:
                sent.headers[tracing.HEADER] = current
            announced = headers.get("content-length", "")
            if announced.isdigit() and int(announced) > self._max_body_bytes:
                await failure(too_large(self._max_body_bytes), scope["path"])(scope, receive, sent)
            else:
                await self._guarded(scope, receive, sent)
            route = _route(scope)
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", sent.status)
            if sent.status >= 500:
                span.set_status(Status(StatusCode.ERROR))
        self._requests.add(1, {"route": route, "method": method, "status": str(sent.status)})
        self._seconds.record(self._clock.monotonic() - began, {"route": route, "method": method})

    async def _guarded(self, scope: Message, receive: Receive, send: "_Sent") -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:
            # The framework has answered by `bug` already, unless the failure was its own.
            log.exception("a request failed", extra={"request_id": request_id(), "path": scope["path"]})
            self._telemetry.error("request", "a request failed in a way nobody foresaw", scope["path"])
            if not send.began:
                await bug(scope["path"])(scope, receive, send)


class _Sent:
    """`send` that adds headers to the answer and remembers its status."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self._send = send
        self.headers = headers
        self.status = 500
        self.began = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            self.status = message["status"]
            added = [(name.encode(), value.encode()) for name, value in self.headers.items()]
            message["headers"] = [*message.get("headers", []), *added]
        await self._send(message)


def _route(scope: Message) -> str:
    route = scope.get("route")
    return str(getattr(route, "path", "(none)"))
