"""How a trace crosses a wire: W3C traceparent to and from headers, and the span that continues it."""

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADER = "traceparent"
Headers = tuple[tuple[str, bytes], ...]

_propagator = TraceContextTextMapPropagator()


def traceparent(context: Context | None = None) -> str | None:
    """The current span (or that of `context`) as a traceparent; None outside any trace."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context)
    return carrier.get(HEADER)


def context_from(parent: str | None) -> Context:
    """The context a traceparent names; an empty one when it is absent or malformed."""
    return _propagator.extract({HEADER: parent} if parent else {}, Context())


def inject(headers: Headers) -> Headers:
    """`headers` with the current span as their traceparent; as they were outside any trace."""
    current = traceparent()
    if current is None:
        return headers
    return (*((name, value) for name, value in headers if name != HEADER), (HEADER, current.encode()))


def extract(headers: Headers) -> Context:
    """The context the headers of a record carry."""
    value = next((value for name, value in headers if name == HEADER), b"")
    return context_from(value.decode("ascii", "replace"))


def links_to(parents: Sequence[str | None]) -> list[Link]:
    """Links to the spans of a batch's members: distinct, valid and sampled ones."""
    contexts: dict[int, SpanContext] = {}
    for parent in parents:
        span = trace.get_current_span(context_from(parent)).get_span_context()
        if span.is_valid and span.trace_flags.sampled:
            contexts.setdefault(span.span_id, span)
    return [Link(context) for context in contexts.values()]
