"""How the trace of one event goes on through a batch: a span for sampled rows, bounded, and its record's header."""

from collections.abc import Callable
from datetime import datetime

import pyarrow as pa
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from lepton.contracts import features, names
from lepton.runtime import tracing
from lepton.runtime.telemetry import Telemetry

MAX_SPANS = 64
"""Rows of a batch that get a span of their own; the rest hand their trace on as it came."""

_NS = 1_000_000_000


class RowSpans:
    """For the rows of one pipeline."""

    def __init__(self, telemetry: Telemetry, pipeline: str) -> None:
        self._telemetry = telemetry
        self._pipeline = pipeline

    def column(self, batch: pa.RecordBatch, version_at: Callable[[int], int], started_at: datetime) -> pa.Array:
        """`of` as a column."""
        column = batch.column(features.TRACEPARENT)
        if column.null_count == batch.num_rows or not self._telemetry.exporting:
            return column
        return pa.array(self.of(batch, version_at, started_at), pa.string())

    def of(self, batch: pa.RecordBatch, version_at: Callable[[int], int], started_at: datetime) -> list[str | None]:
        """The traceparent for each row's prediction; None for rows that are not sampled.

        `version_at` says which version answered a row. The spans reach from `started_at` to now.
        """
        column = batch.column(features.TRACEPARENT)
        if column.null_count == batch.num_rows:
            return [None] * batch.num_rows
        traces: list[str | None] = column.to_pylist()
        if not self._telemetry.exporting:
            return traces
        sampled = [row for row, parent in enumerate(traces) if parent is not None]
        for row in sampled[:MAX_SPANS]:
            traces[row] = self._span(traces[row], batch.column(features.EVENT_ID)[row].as_py(), version_at(row),
                                     started_at)
        return traces

    def _span(self, parent: str | None, event_id: str, version: int, started_at: datetime) -> str | None:
        span = self._telemetry.tracer.start_span(
            names.SPAN_SCORE, tracing.context_from(parent), SpanKind.CONSUMER,
            {names.SPAN_EVENT_ID: event_id, names.SPAN_MODEL: self._pipeline, names.SPAN_VERSION: version},
            start_time=int(started_at.timestamp() * _NS))
        span.end()
        return tracing.traceparent(trace.set_span_in_context(span)) or parent
