"""What every gRPC call has in common: its deadline and trace, its outcome counted, its errors as statuses."""

import asyncio
import logging
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, NoReturn

import grpc
from opentelemetry.trace import Span, SpanKind

from lepton.clock import Clock
from lepton.errors import LeptonError, Missing
from lepton.runtime.telemetry import Telemetry
from services.predictor.edge import errors
from services.predictor.edge.measures import Measures
from services.predictor.flow.predictor import Asked

Context = grpc.aio.ServicerContext[Any, Any]

TRACEPARENT = "traceparent"
UNKNOWN_MODEL = "(unknown)"
"""What requests for models that do not exist are counted under: callers must not be able to make up series."""

log = logging.getLogger(__name__)


class Call:
    """One call while it is answered: a `with` block that spans, times and counts it; whatever is raised goes on.

    Set `version` once it is known.
    """

    __slots__ = ("_calls", "_model", "_name", "_span", "asked", "version")

    def __init__(self, calls: "Calls", name: str, model: str, asked: Asked) -> None:
        self.asked = asked
        self.version = ""
        self._calls = calls
        self._name = name
        self._model = model
        self._span: AbstractContextManager[Span] | None = None

    def __enter__(self) -> "Call":
        if self._calls.traced:
            self._span = self._calls.span(self._name, self.asked)
            self._span.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._span is not None:
            self._span.__exit__(kind, error, traceback)
        self._calls.ended(self._name, self._model, self.version, self.asked, error)


class Calls:
    """`timeout_s` bounds a call that names no deadline."""

    def __init__(self, telemetry: Telemetry, measures: Measures, clock: Clock, timeout_s: float) -> None:
        self._telemetry = telemetry
        self._measures = measures
        self._clock = clock
        self._timeout_s = timeout_s
        self.traced = telemetry.exporting

    def begin(self, context: Context, name: str, model: str) -> Call:
        now = self._clock.monotonic()
        left = context.time_remaining()
        deadline = now + (self._timeout_s if left is None else min(left, self._timeout_s))
        return Call(self, name, model, Asked(deadline, now, lambda: traceparent(context)))

    def span(self, name: str, asked: Asked) -> AbstractContextManager[Span]:
        return self._telemetry.span_from(asked.traceparent(), name, kind=SpanKind.SERVER)

    def ended(self, name: str, model: str, version: str, asked: Asked, error: BaseException | None) -> None:
        """Count a call by its outcome; report what is none."""
        outcome = "ok"
        if isinstance(error, asyncio.CancelledError):
            outcome = "cancelled"
        elif isinstance(error, LeptonError | TimeoutError):
            outcome = type(error).__name__
        elif error is not None:
            outcome = "bug"
            log.error("%s failed", name, exc_info=error)
            self._telemetry.error("bug", f"{type(error).__name__}: {error}", name)
        self._measures.request(UNKNOWN_MODEL if isinstance(error, Missing) else model, version, outcome,
                               self._clock.monotonic() - asked.arrived)


async def end(context: Context, error: Exception) -> NoReturn:
    """End the call with the status of `error`."""
    await context.abort(errors.status(error), errors.details(error), errors.trailing(error))
    raise AssertionError("abort returned")


def traceparent(context: Context) -> str | None:
    """The caller's trace, from the call's metadata."""
    for key, value in context.invocation_metadata() or ():
        if key == TRACEPARENT:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return None
