"""How traces, metrics and logs leave the process: OTLP over gRPC, and the Prometheus registry behind /metrics."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest

from lepton.runtime.logs import Restraint, extras, message_of
from lepton.runtime.settings import LeptonSettings

# A collector that is away costs a stop this long and no more.
FLUSH_MS = 2000
METRICS_EVERY_MS = 10_000
_SEVERITIES = {
    logging.DEBUG: SeverityNumber.DEBUG, logging.INFO: SeverityNumber.INFO, logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR, logging.CRITICAL: SeverityNumber.FATAL,
}


@dataclass(frozen=True, slots=True)
class Meters:
    """Metrics of one process, in a registry of its own so that two in one process never mix."""

    provider: MeterProvider
    registry: CollectorRegistry

    def exposition(self) -> bytes:
        return bytes(generate_latest(self.registry))


def meters(resource: Resource, extra_readers: Sequence[MetricReader]) -> Meters:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    prometheus = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    provider = MeterProvider([prometheus, *extra_readers], resource, shutdown_on_exit=False)
    return Meters(provider, registry)


class Exporters:
    """The OTLP pipelines; they send from threads of their own and drop, counted by the SDK, when they cannot."""

    def __init__(self, settings: LeptonSettings, resource: Resource) -> None:
        # Imported here because they cost a start 0.2 s that a process without an endpoint need not pay.
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

        endpoint = settings.otlp_endpoint
        insecure = not endpoint.startswith("https://")
        timeout_s = FLUSH_MS / 1000
        self._traces = TracerProvider(ParentBasedTraceIdRatio(settings.trace_ratio), resource, shutdown_on_exit=False)
        self._traces.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint, insecure, timeout=timeout_s), schedule_delay_millis=500))
        self._logs = LoggerProvider(resource, shutdown_on_exit=False)
        self._logs.add_log_record_processor(
            BatchLogRecordProcessor(OTLPLogExporter(endpoint, insecure, timeout=timeout_s)))
        self.metric_readers: Sequence[MetricReader] = (PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint, insecure, timeout=timeout_s), METRICS_EVERY_MS),)
        self.tracer: Tracer = self._traces.get_tracer("lepton")
        self.log_handler: logging.Handler = _OtlpHandler(self._logs)

    def shutdown(self) -> None:
        self._traces.force_flush(FLUSH_MS)
        self._traces.shutdown()
        self._logs.shutdown()


class _OtlpHandler(logging.Handler):
    """Hands log records to the OTLP pipeline, except those about that pipeline."""

    def __init__(self, provider: object) -> None:
        super().__init__()
        from opentelemetry.sdk._logs import LoggerProvider
        if not isinstance(provider, LoggerProvider):
            raise TypeError("an OTLP handler needs the SDK's LoggerProvider")
        self._logger = provider.get_logger("lepton")
        self.addFilter(Restraint())

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("opentelemetry", "grpc")):
            return
        error = record.exc_info[1] if record.exc_info else None
        self._logger.emit(
            timestamp=int(record.created * 1e9), severity_text=record.levelname, body=message_of(record),
            severity_number=_SEVERITIES.get(record.levelno, SeverityNumber.UNSPECIFIED),
            attributes={"logger": record.name, **extras(record)}, exception=error,
        )
