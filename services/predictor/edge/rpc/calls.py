"""What every gRPC call has in common: its deadline and trace, its outcome counted, its errors as statuses."""

import asyncio
import logging
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, NoReturn

import grpc
from opentelemetry.trace import Span

from lepton.clock import Clock
from lepton.errors import LeptonError, Missing
from lepton.runtime.telemetry import Telemetry
from services.predictor.edge import errors
from services.predictor.edge.measures import UNKNOWN_MODEL, Measures
from services.predictor.edge.seen.spans import Followed, Spans

Context = grpc.aio.ServicerContext[Any, Any]

TRACEPARENT = "traceparent"
CALLER = "lepton-caller"
"""Metadata the wire adds for a caller on another machine, who comes by its Unix socket like all others."""
LOCAL_PEERS = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
"""How gRPC names callers on this machine."""

log = logging.getLogger(__name__)


class Call:
    """One call while it is answered: a `with` block that spans, times and counts it; whatever is raised goes on.

    Times are monotonic seconds. Set `version` once it is known. `course`: its steps, where its trace is sampled.
    """

    __slots__ = ("_calls", "_context", "_model", "_name", "_span", "arrived", "course", "deadline", "version")

    def __init__(self, calls: "Calls", context: Context, name: str, model: str, timeout_s: float) -> None:
        left_s = context.time_remaining()
        self.arrived = calls.monotonic()
        self.deadline = self.arrived + (timeout_s if left_s is None else min(left_s, timeout_s))
        self.version = ""
        self._calls = calls
        self._context = context
        self._name = name
        self._model = model
        self._span: AbstractContextManager[Span] | None = None
        self.course: Followed | None = None

    def traceparent(self) -> str | None:
        """The caller's trace, from the call's metadata."""
        for key, value in self._context.invocation_metadata() or ():
            if key == TRACEPARENT:
                return value if isinstance(value, str) else value.decode("ascii", "replace")
        return None

    def local(self) -> bool:
        return is_local(self._context)

    def __enter__(self) -> "Call":
        self._calls.open += 1
        if self._calls.traced:
            self._span = self._calls.spans.call(self._name, self.traceparent())
            self.course = self._calls.spans.follow(self._span.__enter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._calls.open -= 1
        if self.course is not None:
            self._calls.spans.end(self.course, self._model, self.version)
        if self._span is not None:
            self._span.__exit__(kind, error, traceback)
        outcome = "ok" if error is None else self._calls.outcome(self._name, error)
        model = UNKNOWN_MODEL if isinstance(error, Missing) else self._model
        self._calls.count(model, self.version, outcome, self._calls.monotonic() - self.arrived)


class Calls:
    """`timeout_s` bounds a call that names no deadline."""

    def __init__(self, telemetry: Telemetry, measures: Measures, clock: Clock, timeout_s: float) -> None:
        self._telemetry = telemetry
        self._timeout_s = timeout_s
        self.open = 0
        """Calls that are being answered."""
        self.count = measures.request
        self.monotonic = clock.monotonic
        self.traced = telemetry.exporting
        self.spans = Spans(telemetry, clock)

    def begin(self, context: Context, name: str, model: str) -> Call:
        return Call(self, context, name, model, self._timeout_s)

    def outcome(self, name: str, error: BaseException) -> str:
        """The word for how a call failed; what is no outcome is reported."""
        if isinstance(error, asyncio.CancelledError):
            return "cancelled"
        if isinstance(error, LeptonError | TimeoutError):
            return type(error).__name__
        log.error("%s failed", name, exc_info=error)
        self._telemetry.error("bug", f"{type(error).__name__}: {error}", name)
        return "bug"


def is_local(context: Context) -> bool:
    """Whether the caller is on this machine, as its connection tells."""
    away = any(key == CALLER for key, _ in context.invocation_metadata() or ())
    return str(context.peer()).startswith(LOCAL_PEERS) and not away


async def end(context: Context, error: Exception) -> NoReturn:
    """End the call with the status of `error`."""
    await context.abort(errors.status(error), errors.details(error), errors.trailing(error))
    raise AssertionError("abort returned")
