import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from lepton.clock import SystemClock
from lepton.runtime import tracing
from lepton.runtime.health import Health
from lepton.runtime.logs import LineFormatter
from lepton.runtime.settings import LeptonSettings
from lepton.runtime.telemetry import Telemetry

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Collector(trace_service_pb2_grpc.TraceServiceServicer, logs_service_pb2_grpc.LogsServiceServicer,
                metrics_service_pb2_grpc.MetricsServiceServicer):
    """Receives OTLP over gRPC and keeps it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.spans: list[Any] = []
        self.logs: list[Any] = []
        self.metrics: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:
        with self.lock:
            if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
                self.spans += [span for one in request.resource_spans for scope in one.scope_spans
                               for span in scope.spans]
                return trace_service_pb2.ExportTraceServiceResponse()
            if isinstance(request, logs_service_pb2.ExportLogsServiceRequest):
                self.logs += [line for one in request.resource_logs for scope in one.scope_logs
                              for line in scope.log_records]
                return logs_service_pb2.ExportLogsServiceResponse()
            self.metrics += [metric for one in request.resource_metrics for scope in one.scope_metrics
                             for metric in scope.metrics]
            return metrics_service_pb2.ExportMetricsServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    received = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(received, server)  # type: ignore[no-untyped-call]
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(received, server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(received, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield received, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def telemetry_with(**settings: Any) -> Telemetry:
    clock = SystemClock()
    return Telemetry("kiln", "kiln-0", LeptonSettings(instance="kiln-0", **settings), clock, Health(clock))


async def test_without_an_endpoint_nothing_is_recorded_but_a_trace_that_came_in_travels_on() -> None:
    telemetry = telemetry_with()
    with telemetry.span("alone") as span:
        assert not span.is_recording()
        assert tracing.inject((("ce_id", b"1"),)) == (("ce_id", b"1"),)
    with telemetry.span_from(SAMPLED, "fire") as span:
        assert not span.is_recording()
        assert tracing.traceparent() == SAMPLED
        assert tracing.inject((("traceparent", b"old"),)) == (("traceparent", SAMPLED.encode()),)
    await telemetry.stop()


async def test_with_an_endpoint_spans_metrics_and_logs_reach_the_collector(collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    telemetry = telemetry_with(otlp_endpoint=endpoint)
    await telemetry.start()
    telemetry.counter("lepton_kiln_pots").add(2)
    with telemetry.span_from(SAMPLED, "accept", links=[SAMPLED, UNSAMPLED, None, "garbage"], pipeline="p"):
        child = tracing.traceparent()
        with telemetry.span("clean"):
            logging.getLogger("lepton.kiln").warning("it is hot", extra={"place": "top"})
        assert child is not None and child != SAMPLED and child.startswith(SAMPLED[:35])
    await telemetry.stop()
    spans = {span.name: span for span in received.spans}
    assert spans["accept"].trace_id.hex() == SAMPLED[3:35]
    assert spans["accept"].parent_span_id.hex() == SAMPLED[36:52]
    assert [link.span_id.hex() for link in spans["accept"].links] == [SAMPLED[36:52]]
    assert spans["clean"].parent_span_id == spans["accept"].span_id
    (line,) = [one for one in received.logs if one.body.string_value == "it is hot"]
    assert line.span_id == spans["clean"].span_id
    assert "lepton_kiln_pots" in {metric.name for metric in received.metrics}


async def test_what_a_library_repeats_is_held_back_from_the_collector_too(collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    telemetry = telemetry_with(otlp_endpoint=endpoint)
    await telemetry.start()
    for at in range(11):
        logging.getLogger().handle(logging.makeLogRecord(
            {"name": "aiokafka", "msg": "no node", "created": float(at), "levelno": logging.ERROR}))
    await telemetry.stop()
    assert [one.body.string_value for one in received.logs] == ["no node", "no node … (9 more like it in 10 s)"]


async def test_a_caller_that_did_not_sample_is_followed(collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    telemetry = telemetry_with(otlp_endpoint=endpoint)
    with telemetry.span_from(UNSAMPLED, "accept") as span:
        assert not span.is_recording()
    await telemetry.stop()
    assert received.spans == []


async def test_the_ratio_decides_over_traces_that_begin_here(collector: tuple[Collector, str]) -> None:
    _, endpoint = collector
    telemetry = telemetry_with(otlp_endpoint=endpoint, trace_ratio=0.0)
    with telemetry.span_from(None, "alone") as span:
        assert not span.is_recording()
    with telemetry.span_from(SAMPLED, "called") as span:
        assert span.is_recording()
    await telemetry.stop()


async def test_a_collector_that_is_away_does_not_hold_up_a_stop() -> None:
    telemetry = telemetry_with(otlp_endpoint="http://127.0.0.1:1")
    await telemetry.start()
    with telemetry.span("lost"):
        logging.getLogger("lepton.kiln").warning("lost too")
    async with asyncio.timeout(10):
        await telemetry.stop()


async def test_instruments_of_one_name_are_one_instrument_and_errors_are_counted() -> None:
    telemetry = telemetry_with()
    telemetry.counter("lepton_pots").add(1)
    telemetry.counter("lepton_pots").add(1)
    telemetry.histogram("lepton_firing_seconds").record(0.2, {"zone": "top"})
    telemetry.gauge("lepton_heat", lambda: 900)
    telemetry.error("decode", "not JSON")
    text = telemetry.exposition().decode()
    assert "lepton_pots_total 2.0" in text
    assert 'lepton_firing_seconds_bucket{le="0.25",zone="top"} 1.0' in text
    assert "lepton_heat 900.0" in text
    assert 'lepton_errors_total{kind="decode"} 1.0' in text
    await telemetry.stop()


def test_a_line_of_log_is_json_with_service_instance_and_trace() -> None:
    telemetry = telemetry_with()
    record = logging.makeLogRecord({"name": "lepton.kiln", "levelno": logging.INFO, "levelname": "INFO",
                                    "msg": "fired %d pots", "args": (3,), "pipeline": "p"})
    with telemetry.span_from(SAMPLED, "fire"):
        line = json.loads(LineFormatter("kiln", "kiln-0", as_json=True).format(record))
        text = LineFormatter("kiln", "kiln-0", as_json=False).format(record)
    del line["at"]
    assert line == {"level": "info", "service": "kiln", "instance": "kiln-0", "logger": "lepton.kiln",
                    "message": "fired 3 pots", "pipeline": "p",
                    "trace_id": SAMPLED[3:35], "span_id": SAMPLED[36:52]}
    assert "kiln-0 fired 3 pots" in text and "pipeline=p" in text


def test_an_error_in_a_line_of_log_keeps_its_traceback() -> None:
    try:
        raise ValueError("cold")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (ValueError, error, error.__traceback__)})
    assert "ValueError: cold" in json.loads(LineFormatter("kiln", "kiln-0", as_json=True).format(record))["error"]
    assert LineFormatter("kiln", "kiln-0", as_json=False).format(record).endswith("ValueError: cold")
