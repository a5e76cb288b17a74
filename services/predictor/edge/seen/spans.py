"""The spans of requests that are traced: the call, its steps, and the batches it ran in, linked both ways.

Only requests whose trace is sampled get here; all others pay for one look at a field that is None.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, set_span_in_context

from lepton.clock import Clock
from lepton.contracts import names
from lepton.runtime.telemetry import Telemetry

MAX_LINKS = 128
"""Requests of one batch that its span is linked to; OpenTelemetry keeps no more."""

_NS = 1_000_000_000
_INFER = "infer"

BatchSeen = Callable[[Sequence[object], float, float, Mapping[str, int], Exception | None], None]


@dataclass(slots=True)
class Followed:
    """One traced request: its span, and what it went through; times are monotonic seconds."""

    span: SpanContext
    open_span: Span
    steps: list[tuple[str, float, float, SpanContext | None]] = field(default_factory=list)
    batch: SpanContext | None = None

    def step(self, name: str, began: float, ended: float) -> None:
        """A step is over; the model's run is that of the batch told of last."""
        self.steps.append((name, began, ended, self.batch if name == _INFER else None))


class Spans:
    """Of calls. Belongs to the event loop."""

    def __init__(self, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock

    def call(self, name: str, parent: str | None) -> AbstractContextManager[Span]:
        """The span of a call, continuing the caller's trace."""
        return self._telemetry.span_from(parent, name, kind=SpanKind.SERVER)

    def follow(self, span: Span) -> Followed | None:
        """None when the trace is not sampled."""
        return Followed(span.get_span_context(), span) if span.is_recording() else None

    def end(self, one: Followed, model: str, version: str) -> None:
        """Make a child of each step; to be called while the request's own span is open."""
        one.open_span.set_attribute(names.SPAN_MODEL, model)
        if version:
            one.open_span.set_attribute(names.SPAN_VERSION, int(version))
        ahead_ns, inside = _ahead_ns(self._clock), _within(one.span)
        for name, began, ended, batch in one.steps:
            child = self._telemetry.tracer.start_span(
                name, inside, links=[Link(batch)] if batch else [], start_time=_wall_ns(began, ahead_ns))
            child.end(_wall_ns(ended, ahead_ns))


class BatchSpans:
    """Of batches with traced requests. The span is a child of the first of those, since a span of no trace might not be
    sampled, and linked to all.
    """

    def __init__(self, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock

    def of(self, model: str, version: int) -> BatchSeen:
        """What is called after each batch of a version that holds traced requests, on the event loop."""
        def seen(courses: Sequence[object], began: float, ended: float, sizes: Mapping[str, int],
                 error: Exception | None) -> None:
            requests = [one for one in courses if isinstance(one, Followed)]
            if not requests:
                return
            ahead_ns = _ahead_ns(self._clock)
            span = self._telemetry.tracer.start_span(
                names.SPAN_BATCH, _within(requests[0].span),
                links=[Link(one.span) for one in requests[:MAX_LINKS]], start_time=_wall_ns(began, ahead_ns),
                attributes={names.SPAN_MODEL: model, names.SPAN_VERSION: version,
                            names.SPAN_ROWS: sizes["rows"], names.SPAN_REQUESTS: sizes["requests"]})
            if error is not None:
                span.set_status(StatusCode.ERROR, type(error).__name__)
            span.end(_wall_ns(ended, ahead_ns))
            for one in requests:
                one.batch = span.get_span_context()

        return seen


def _within(span: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(span), Context())


def _ahead_ns(clock: Clock) -> int:
    """What must be added to a monotonic time for nanoseconds since the epoch."""
    return int((clock.now().timestamp() - clock.monotonic()) * _NS)


def _wall_ns(at: float, ahead_ns: int) -> int:
    return int(at * _NS) + ahead_ns
