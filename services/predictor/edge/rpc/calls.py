"""What every gRPC call has in common: its deadline and trace, its outcome counted, its errors as statuses."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
from opentelemetry.trace import SpanKind

from lepton.clock import Clock
from lepton.errors import LeptonError
from lepton.runtime.telemetry import Telemetry
from services.predictor.edge import errors
from services.predictor.edge.measures import Measures
from services.predictor.flow.predictor import Asked

Context = grpc.aio.ServicerContext[Any, Any]
Reply = TypeVar("Reply")
Work = Callable[[Asked], Awaitable[Reply]]

TRACEPARENT = "traceparent"
UNKNOWN_MODEL = "(unknown)"
"""What requests for models that do not exist are counted under: callers must not be able to make up series."""

log = logging.getLogger(__name__)


class Calls:
    """`timeout_s` bounds a call that names no deadline."""

    def __init__(self, telemetry: Telemetry, measures: Measures, clock: Clock, timeout_s: float) -> None:
        self._telemetry = telemetry
        self._measures = measures
        self._clock = clock
        self._timeout_s = timeout_s
        self._traced = telemetry.exporting

    def asked(self, context: Context) -> Asked:
        now = self._clock.monotonic()
        left = context.time_remaining()
        return Asked(now + (self._timeout_s if left is None else min(left, self._timeout_s)), now,
                     lambda: traceparent(context))

    async def answer(self, context: Context, call: str, model: str, work: Work[Reply]) -> Reply:
        """The reply of `work`, or the call ended with the status of what it raised."""
        asked = self.asked(context)
        try:
            return await self.count(asked, call, model, work)
        except Exception as error:  # noqa: BLE001 - `count` has reported it; the caller gets its status
            await end(context, error)

    async def count(self, asked: Asked, call: str, model: str, work: Work[Reply]) -> Reply:
        """Run `work` in its span and count how it ended; what it raises goes on, a bug reported first."""
        outcome, version = "ok", 0
        try:
            if not self._traced:
                reply = await work(asked)
            else:
                with self._telemetry.span_from(asked.traceparent(), call, kind=SpanKind.SERVER):
                    reply = await work(asked)
            version = _version(reply)
            return reply
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except (LeptonError, TimeoutError) as error:
            outcome = type(error).__name__
            raise
        except Exception as error:
            outcome = "bug"
            log.exception("%s failed", call)
            self._telemetry.error("bug", f"{type(error).__name__}: {error}", call)
            raise
        finally:
            self._measures.request(UNKNOWN_MODEL if outcome == "Missing" else model, version, outcome,
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


def _version(reply: object) -> int:
    version: str | int = getattr(reply, "model_version", "") or getattr(reply, "version", 0)
    return int(version)
