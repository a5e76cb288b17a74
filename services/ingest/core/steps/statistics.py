"""What a partition knows of the values of its fields: streaming statistics, frozen now and then for judging outliers.

Sums, extremes and frequent values change with every row; the sample behind the quantiles ever more rarely. So a batch
writes one small record, the rows that entered the sample, and now and then the sample as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import NUMERIC, Outliers
from lepton.errors import Invalid
from services.ingest.core.keys.state import StateRecord
from services.ingest.core.steps.frequent import Frequent
from services.ingest.core.steps.frozen import Frozen, next_freeze
from services.ingest.core.steps.moments import Moments
from services.ingest.core.steps.sample import Sample, tickets

Array = np.ndarray[Any, np.dtype[Any]]
Bounds = dict[str, tuple[float, float]]
# Records of newcomers, or newcomers as a share of the sample, after which the sample is written as a whole.
_MAX_NEWS, _NEWS_SHARE = 64, 0.5
_RECORD_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the rows of one partition, or of several after `merge`. `numbers` and `categories` are names of fields."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    rows: int
    moments: Moments
    sample: Sample
    frequent: dict[str, Frequent]
    frozen: Frozen | None = None

    @classmethod
    def none(cls, pipeline: Pipeline) -> "Statistics":
        numbers, categories = fields_of(pipeline)
        return cls(numbers, categories, 0, Moments.none(len(numbers)), Sample.none(len(numbers)),
                   {name: Frequent() for name in categories})

    def fed(self, partition: int, rows: Array) -> "Statistics":
        """With rows [n, numbers] of the partition added, and frozen where that is due; frequent values stay."""
        state = self
        while len(rows):
            take = min(len(rows), next_freeze(state.rows) - state.rows)
            drawn = state.sample.drawn(tickets(partition, state.rows, take), rows[:take])
            state = replace(state, rows=state.rows + take, moments=state.moments.fed(rows[:take]),
                            sample=state.sample.joined(*drawn))
            if next_freeze(state.rows - 1) == state.rows:
                state = replace(state, frozen=Frozen.of(state.rows, state.moments, state.sample))
            rows = rows[take:]
        return state

    def merge(self, other: "Statistics") -> "Statistics":
        """Of the rows of both, of the fields of this one; nothing is frozen, for that is a partition's own."""
        if (other.numbers, other.categories) != (self.numbers, self.categories):
            other = other.of_fields(self.numbers, self.categories)
        return Statistics(self.numbers, self.categories, self.rows + other.rows, self.moments.merge(other.moments),
                          self.sample.merge(other.sample),
                          {name: one.merge(other.frequent[name]) for name, one in self.frequent.items()})

    def summary(self) -> Frozen:
        """What would be frozen now."""
        return Frozen.of(self.rows, self.moments, self.sample)

    def of_fields(self, numbers: tuple[str, ...], categories: tuple[str, ...]) -> "Statistics":
        """The same rows under another version's fields: new ones were missing so far."""
        places = [self.numbers.index(name) if name in self.numbers else None for name in numbers]
        return Statistics(numbers, categories, self.rows, self.moments.columns(places, self.rows),
                          self.sample.columns(places),
                          {name: self.frequent.get(name, Frequent()) for name in categories},
                          self.frozen.columns(places) if self.frozen is not None else None)


@dataclass(frozen=True, slots=True)
class Outlook:
    """By which bounds the next rows are judged, and for how many kept rows that holds."""

    frozen: Frozen | None
    bounds: Bounds
    until: int


class _Head(msgspec.Struct, frozen=True):
    numbers: tuple[str, ...]
    rows: int
    moments: bytes
    frequent: dict[str, tuple[dict[str, int], int]]
    frozen_rows: int
    frozen: bytes
    epoch: int
    """Counts how often the sample was written as a whole; records of other epochs have no meaning any more."""
    base: int
    news: int


class _Rows(msgspec.Struct, frozen=True):
    epoch: int
    tickets: bytes
    rows: bytes


@dataclass(frozen=True, slots=True)
class _Written:
    """What of the sample is in the state topic, and how. `fresh`: rows written since it was written as a whole."""

    numbers: tuple[str, ...] = ()
    epoch: int = 0
    base: int = 0
    news: int = 0
    fresh: int = 0


_encode = msgspec.msgpack.Encoder().encode
_head = msgspec.msgpack.Decoder(_Head).decode
_rows = msgspec.msgpack.Decoder(_Rows).decode


class StatisticsStep:
    """A `services.ingest.core.steps.step.Step`; adds nothing to the rows."""

    prefix = "statistics"

    def __init__(self, pipeline: Pipeline, partition: int) -> None:
        self._partition = partition
        self._ahead: Statistics | None = None
        self.adopt(pipeline)
        self._state = Statistics.none(pipeline)
        self._written = _Written()
        self._pending: tuple[Statistics, _Written] | None = None

    @property
    def state(self) -> Statistics:
        """Of all rows kept so far."""
        if (self._state.numbers, self._state.categories) == self._fields:
            return self._state
        return self._state.of_fields(*self._fields)

    @property
    def bounds(self) -> Bounds:
        """Of ordinary numbers, by field, as they were frozen last; empty before."""
        state = self.state
        return state.frozen.bounds(state.numbers, self._outliers) if state.frozen is not None else {}

    def begin(self) -> None:
        """Before the rows of a batch are judged."""
        self._ahead = self.state

    def outlook(self, rows: Array) -> Outlook:
        """After these rows [n, numbers] more of the batch were kept; they are the next ones that `plan` is given."""
        state = self._ahead = (self.state if self._ahead is None else self._ahead).fed(self._partition, rows)
        bounds = state.frozen.bounds(state.numbers, self._outliers) if state.frozen is not None else {}
        return Outlook(state.frozen, bounds, next_freeze(state.rows) - state.rows)

    def adopt(self, pipeline: Pipeline) -> None:
        self._ahead = None
        self._fields = fields_of(pipeline)
        self._outliers: Outliers = pipeline.clean.outliers

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        self._pending, self._ahead, self._written = None, None, _Written()
        self._state = Statistics(*self._fields, 0, Moments.none(len(self._fields[0])),
                                 Sample.none(len(self._fields[0])), {name: Frequent() for name in self._fields[1]})
        head = records.get(b"statistics/head")
        if head is None:
            return
        try:
            self._read(_head(head), records)
        except (msgspec.MsgspecError, ValueError, KeyError) as error:
            raise Invalid(f"the statistics of a partition cannot be read: {error}") from error

    def plan(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[StateRecord]]:
        before = self.state
        rows = matrix([batch.column(name) for name in before.numbers], batch.num_rows)
        # What was looked ahead at is not added up again.
        ahead, self._ahead = self._ahead or before, None
        state = ahead.fed(self._partition, rows[ahead.rows - before.rows:])
        state = replace(state, frequent={name: one.fed(batch.column(name)) for name, one in before.frequent.items()})
        written, records = self._sampled(before, state, rows)
        self._pending = (state, written)
        frozen = state.frozen
        head = _Head(state.numbers, state.rows, state.moments.to_bytes(),
                     {name: (one.counts, one.error) for name, one in state.frequent.items()},
                     frozen.rows if frozen is not None else 0, frozen.to_bytes() if frozen is not None else b"",
                     written.epoch, written.base, written.news)
        return batch, [(b"statistics/head", _encode(head)), *records]

    def keep(self) -> None:
        if self._pending is not None:
            self._state, self._written = self._pending
            self._pending = None

    def drop(self) -> None:
        self._pending = self._ahead = None

    def _sampled(self, before: Statistics, state: Statistics, rows: Array) -> tuple[_Written, list[StateRecord]]:
        """How the sample is remembered: the newcomers alone, or once in a while all of it."""
        drawn, values = before.sample.drawn(tickets(self._partition, before.rows, len(rows)), rows)
        old = self._written
        if not len(drawn) and old.numbers == state.numbers:
            return old, []
        fresh = old.fresh + len(drawn)
        if old.numbers == state.numbers and old.news < _MAX_NEWS and fresh <= _NEWS_SHARE * state.sample.size:
            record = _encode(_Rows(old.epoch, drawn.astype("<u8").tobytes(), values.astype("<f8").tobytes()))
            return replace(old, news=old.news + 1, fresh=fresh), [(f"statistics/new/{old.news}".encode(), record)]
        sample, step = state.sample, max(1, _RECORD_BYTES // (8 * (len(state.numbers) + 1)))
        chunks = [_encode(_Rows(old.epoch + 1, sample.tickets[start:start + step].astype("<u8").tobytes(),
                                sample.rows[start:start + step].astype("<f8").tobytes()))
                  for start in range(0, len(sample.tickets), step)]
        return (_Written(state.numbers, old.epoch + 1, len(chunks)),
                [(f"statistics/base/{place}".encode(), chunk) for place, chunk in enumerate(chunks)])

    def _read(self, head: _Head, records: Mapping[bytes, bytes]) -> None:
        columns = len(head.numbers)
        sample, fresh = Sample.none(columns), 0
        names = [f"base/{place}" for place in range(head.base)] + [f"new/{place}" for place in range(head.news)]
        for name in names:
            found = _rows(records[f"statistics/{name}".encode()])
            if found.epoch != head.epoch:
                raise ValueError(f"{name} is of another time")
            drawn = np.frombuffer(found.tickets, "<u8")
            sample = sample.joined(drawn, np.frombuffer(found.rows, "<f8").reshape(len(drawn), columns))
            fresh += len(drawn) if name.startswith("new") else 0
        self._state = Statistics(
            head.numbers, tuple(head.frequent), head.rows, Moments.from_bytes(head.moments, columns), sample,
            {name: Frequent(counts, error) for name, (counts, error) in head.frequent.items()},
            Frozen.from_bytes(head.frozen_rows, head.frozen, columns) if head.frozen_rows else None)
        self._written = _Written(head.numbers, head.epoch, head.base, head.news, fresh)


def fields_of(pipeline: Pipeline) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Fields statistics are kept of: numbers, and categories."""
    return (tuple(name for name, spec in pipeline.fields.items() if spec.type in NUMERIC),
            tuple(name for name, spec in pipeline.fields.items() if spec.type == "category"))


def matrix(columns: list[pa.Array], rows: int) -> Array:
    """Numeric columns as float64 [rows, columns], NaN where missing."""
    found = np.empty((rows, len(columns)), order="F")
    for place, column in enumerate(columns):
        found[:, place] = column.to_numpy(zero_copy_only=False)
    return found
