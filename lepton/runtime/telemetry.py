"""How this process is observed: OpenTelemetry traces, metrics and logs, and its pulse on the bus.

Metrics are always kept for /metrics. Spans and log records exist only while an OTLP endpoint is set; without one a span
costs next to nothing, and a traceparent that came in still travels on.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NoOpTracer, Span, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from lepton.clock import Clock
from lepton.runtime import pulse, tracing
from lepton.runtime.calls.sums import Calls
from lepton.runtime.exporters import Exporters, meters
from lepton.runtime.health import Health
from lepton.runtime.logs import EVENT
from lepton.runtime.settings import LeptonSettings

# Latencies from a model call (0.1 ms) to a stuck dependency (10 s).
SECONDS_BUCKETS = (0.0001, 0.0003, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Reading = float | Iterable[tuple[float, Mapping[str, str]]]

log = logging.getLogger(__name__)


class Telemetry:
    """One process's instruments. Instruments of one name are one instrument; nothing here raises in the caller."""

    def __init__(self, service: str, instance: str, settings: LeptonSettings, clock: Clock, health: Health) -> None:
        self.pulse = pulse.Pulse(service, settings, clock, health)
        resource = Resource.create({
            "service.name": service, "service.instance.id": instance, "service.namespace": "lepton",
        })
        self._exporters = Exporters(settings, resource) if settings.otlp_endpoint else None
        extra_readers = self._exporters.metric_readers if self._exporters else ()
        self._meters = meters(resource, extra_readers)
        self._meter = self._meters.provider.get_meter("lepton")
        self.tracer: Tracer = self._exporters.tracer if self._exporters else NoOpTracer()
        self.admin_address = ""
        self._exposed: list[Callable[[], bytes]] = []
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._errors = self.counter("lepton_errors", "Failures reported by this process, by kind")

    @property
    def boot_id(self) -> str:
        return self.pulse.boot_id

    @property
    def calls(self) -> Calls:
        """Whom this process calls: heartbeats tell sums of it, whether spans go anywhere or not."""
        return self.pulse.calls

    @property
    def exporting(self) -> bool:
        """Whether spans go anywhere; where they do not, a hot path need not make them."""
        return self._exporters is not None

    def counter(self, name: str, description: str = "") -> Counter:
        """Use: `counter.add(1, {"pipeline": name})`; exposed with the suffix `_total`."""
        if name not in self._counters:
            self._counters[name] = self._meter.create_counter(name, description=description)
        return self._counters[name]

    def histogram(self, name: str, description: str = "", buckets: Sequence[float] = SECONDS_BUCKETS) -> Histogram:
        """Use: `histogram.record(elapsed_s, {"model": name})`; buckets fit seconds unless given."""
        if name not in self._histograms:
            self._histograms[name] = self._meter.create_histogram(
                name, description=description, explicit_bucket_boundaries_advisory=buckets)
        return self._histograms[name]

    def gauge(self, name: str, read: Callable[[], Reading], description: str = "") -> None:
        """Expose what `read` returns when asked: a number, or (number, attributes) pairs. May run in another thread."""
        def observe(_: CallbackOptions) -> list[Observation]:
            reading = read()
            if isinstance(reading, int | float):
                return [Observation(reading)]
            return [Observation(value, dict(attributes)) for value, attributes in reading]
        self._meter.create_observable_gauge(name, [observe], description=description)

    def measure(self, name: str, value: float, **attributes: str) -> None:
        """Put a value into the next heartbeat, for the watchdog; the last one of a name and its attributes counts."""
        self.pulse.measure(name, value, attributes)

    def count(self, name: str, amount: float, **attributes: str) -> None:
        """Add to a value of the next heartbeat, for the watchdog: it says how many there were since the one before."""
        self.pulse.count(name, amount, attributes)

    def error(self, kind: str, message: str, place: str = "") -> None:
        """Report a failure: a log line, a count, and a line in the next heartbeat. `message` must hold no secret."""
        log.error("%s: %s", kind, message, extra={EVENT: kind} | ({"place": place} if place else {}))
        self._errors.add(1, {"kind": kind})
        self.pulse.error(kind, message, place)

    @contextmanager
    def span(self, name: str, *, parent: Context | str | None = None, kind: SpanKind = SpanKind.INTERNAL,
             links: Sequence[str | None] = (), **attributes: AttributeValue) -> Iterator[Span]:
        """A span that is current inside the block, child of `parent` (a Context or a traceparent), else of the current.

        `links` are traceparents of what a batch was made of. An exception marks the span and goes on.
        """
        context = parent if isinstance(parent, Context) else tracing.context_from(parent) if parent else None
        to = tracing.links_to(links) if links and self._exporters else None
        with self.tracer.start_as_current_span(name, context, kind, attributes, to) as span:
            yield span

    @contextmanager
    def span_from(self, parent: str | None, name: str, *, kind: SpanKind = SpanKind.CONSUMER,
                  links: Sequence[str | None] = (), **attributes: AttributeValue) -> Iterator[Span]:
        """`span` for what arrived over a wire: never a child of whatever happens to be current here."""
        with self.span(name, parent=tracing.context_from(parent), kind=kind, links=links, **attributes) as span:
            yield span

    def current_span(self) -> Span:
        return trace.get_current_span()

    async def heartbeat_loop(self, stop: asyncio.Event, send: pulse.SendTelemetry) -> None:
        """A loop for `Service.spawn` at stage BUS."""
        await self.pulse.beat_until(stop, send)

    async def announce_loop(self, stop: asyncio.Event, send: pulse.SendInstance, describe: pulse.Describe) -> None:
        """A loop for `Service.spawn` at stage BUS: `describe` adds address, models, load and provider."""
        await self.pulse.announce_until(stop, send, describe, lambda: self.admin_address)

    def exposition(self) -> bytes:
        """All metrics in Prometheus text format."""
        return b"".join((self._meters.exposition(), *(text() for text in self._exposed)))

    def expose(self, text: Callable[[], bytes]) -> None:
        """Have /metrics end with what `text` returns: whole families whose names and suffixes are not ours to choose.

        Called on the event loop for each look at /metrics, so that the figures are of that moment.
        """
        self._exposed.append(text)

    async def start(self) -> None:
        logging.getLogger().addHandler(self.pulse.lines)
        if self._exporters:
            logging.getLogger().addHandler(self._exporters.log_handler)

    async def stop(self) -> None:
        """Flush what is waiting, for two seconds at most."""
        logging.getLogger().removeHandler(self.pulse.lines)
        if self._exporters:
            logging.getLogger().removeHandler(self._exporters.log_handler)
            await asyncio.to_thread(self._exporters.shutdown)
        await asyncio.to_thread(cast(Callable[[], None], self._meters.provider.shutdown))
