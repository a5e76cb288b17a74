"""Pipelines with windows, accepted rows for them, and windows at work on batches cut in any way."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa

from lepton.contracts import features
from lepton.contracts.pipeline import Pipeline, parse
from services.ingest.core.windows.step import Windows

TEXT = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: taps}
events:
  id: id
  entity: card
  time: at
  fields: {value: {type: float}, items: {type: int}, note: {type: text}, flag: {type: bool}}
features:
  windows:
"""
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
ALL = "count, sum, mean, std, min, max, distinct, last, time_since"


@dataclass(frozen=True)
class Event:
    entity: str
    at: int
    """Microseconds since 1970."""
    value: float | None = None
    note: str | None = None


def at(seconds: float) -> int:
    """Microseconds of a moment so many seconds into 2026."""
    return round((EPOCH + timedelta(seconds=seconds)).timestamp() * 1_000_000)


def pipeline(*windows: str) -> Pipeline:
    return parse(TEXT + "".join(f"    - {{{window}}}\n" for window in windows))


def batch(spec: Pipeline, events: Sequence[Event], first: int = 0) -> pa.RecordBatch:
    """Rows as they come from acceptance: window columns null."""
    size = len(events)
    given: dict[str, Any] = {
        features.EVENT_ID: [f"e-{first + index}" for index in range(size)],
        features.ENTITY: [event.entity for event in events],
        features.OCCURRED_AT: [event.at for event in events], features.SOURCE: ["test"] * size,
        features.SOURCE_OFFSET: list(range(first, first + size)), features.OUTLIERS: [[] for _ in events],
        "value": [event.value for event in events], "note": [event.note for event in events],
        "items": [None if event.value is None or not math.isfinite(event.value) else int(event.value % 2**53)
                  for event in events],
        "flag": [None if event.value is None else event.value > 0 for event in events]}
    schema = features.features_schema(spec)
    return pa.RecordBatch.from_arrays([pa.array(given.get(name, [None] * size), kind)
                                       for name, kind in zip(schema.names, schema.types, strict=True)], schema=schema)


def columns_of(spec: Pipeline, batch: pa.RecordBatch) -> list[dict[str, float | None]]:
    return [{name: row[name] for name in spec.window_columns} for row in batch.to_pylist()]


class Partition:
    """A partition's windows with the state topic beside them."""

    def __init__(self, spec: Pipeline, records: Mapping[bytes, bytes] | None = None) -> None:
        self.spec = spec
        self.windows = Windows(spec)
        self.records = dict(records or {})
        self.rows: list[dict[str, float | None]] = []
        self.written = 0
        self.windows.restore(self.records)

    def accept(self, events: Sequence[Event]) -> list[dict[str, float | None]]:
        given, state = self.windows.plan(batch(self.spec, events, len(self.rows)))
        self.windows.keep()
        self.records.update(state)
        self.written = sum(len(value) for _, value in state)
        found = columns_of(self.spec, given)
        self.rows += found
        return found

    def accept_in(self, batches: Iterable[Sequence[Event]]) -> "Partition":
        for events in batches:
            if events:
                self.accept(events)
        return self

    def restored(self) -> "Partition":
        """Another process that begins from what was written."""
        other = Partition(self.spec, self.records)
        other.rows = list(self.rows)
        return other


def cut(events: Sequence[Event], places: Iterable[int]) -> list[Sequence[Event]]:
    """The events in batches that end at `places`."""
    ends = sorted({min(max(place, 0), len(events)) for place in places} | {0, len(events)})
    return [events[begin:end] for begin, end in pairwise(ends)]
