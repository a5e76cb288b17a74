"""What the accept stage counts of its batches, and how counts of many batches become one summary of an interval."""

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa

from lepton.contracts.pb.quality_pb2 import CodeCount, FieldQuality, QualitySummary, SourceQuality
from services.ingest.core.clean.policies import BoolMatrix, numbers_of
from services.ingest.core.counting import sketches
from services.ingest.core.counting.sketches import Sketch
from services.ingest.core.reading.intake import Rejection

# A producer that names a new source for every event must not fill the memory.
MAX_SOURCES = 200
OTHER_SOURCES = "other"
MAX_SKETCHED = 32
"""Fields of a pipeline that are sketched, the first ones: a summary must fit into a record, and a batch stay quick."""


@dataclass(slots=True)
class FieldTally:
    """Counts of one field; mean, spread and range of its present numbers, so that two tallies add up exactly."""

    present: int = 0
    missing: int = 0
    invalid: int = 0
    outliers: int = 0
    repaired: int = 0
    numbers: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    sketch: Sketch | None = None

    def add(self, other: "FieldTally") -> None:
        self.present += other.present
        self.missing += other.missing
        self.invalid += other.invalid
        self.outliers += other.outliers
        self.repaired += other.repaired
        if other.numbers:
            numbers = self.numbers + other.numbers
            apart = other.mean - self.mean
            self.squares += other.squares + apart * apart * self.numbers * other.numbers / numbers
            self.mean += apart * other.numbers / numbers
            self.numbers = numbers
            self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        if other.sketch is not None:
            if self.sketch is None:
                self.sketch = Sketch(other.sketch.kind)
            self.sketch.add(other.sketch)

    @classmethod
    def of(cls, told: FieldQuality) -> "FieldTally":
        """The inverse of `message`, up to rounding. Raises Invalid when a sketch cannot be read."""
        tally = cls(told.present, told.missing, told.invalid, told.outliers, told.repaired, sketch=sketches.read(told))
        if told.HasField("mean"):
            tally.numbers, tally.mean, tally.low, tally.high = told.present, told.mean, told.min, told.max
            tally.squares = told.std * told.std * told.present
        return tally

    def message(self, name: str) -> FieldQuality:
        told = FieldQuality(field=name, present=self.present, missing=self.missing, invalid=self.invalid,
                            outliers=self.outliers, repaired=self.repaired)
        if self.numbers:
            told.mean, told.std = self.mean, math.sqrt(max(self.squares, 0.0) / self.numbers)
            told.min, told.max = self.low, self.high
        if self.sketch is not None:
            self.sketch.tell(told)
        return told


@dataclass(slots=True)
class SourceTally:
    """Rows of one source; an accepted row counts once as outlying and once as missing, however many fields are."""

    accepted: int = 0
    rejected: int = 0
    outliers: int = 0
    missing: int = 0


@dataclass(slots=True)
class Tally:
    """Counts of a batch, or of all batches of an interval. `rejected` leaves quarantined rows out.

    `duplicates` are by id, `content_duplicates` by content under another id; `late` and `future` count events whatever
    the pipeline then does with them, so that they may be among `accepted` or among `rejected`.
    """

    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    content_duplicates: int = 0
    late: int = 0
    future: int = 0
    quarantined: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    """Rejected events by code."""
    fields: dict[str, FieldTally] = field(default_factory=dict)
    sources: dict[str, SourceTally] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.duplicates += other.duplicates
        self.content_duplicates += other.content_duplicates
        self.late += other.late
        self.future += other.future
        self.quarantined += other.quarantined
        self.codes.update(other.codes)
        for name, tally in other.fields.items():
            self.fields.setdefault(name, FieldTally()).add(tally)
        for name, source in other.sources.items():
            mine = self.source(name)
            mine.accepted += source.accepted
            mine.rejected += source.rejected
            mine.outliers += source.outliers
            mine.missing += source.missing

    @classmethod
    def of(cls, summary: QualitySummary) -> "Tally":
        """What a summary counted. Raises Invalid when a sketch in it cannot be read."""
        return cls(
            summary.accepted, summary.rejected, summary.duplicates, summary.content_duplicates, summary.late,
            summary.future, summary.quarantined, Counter({one.code: one.count for one in summary.rejections}),
            {one.field: FieldTally.of(one) for one in summary.fields},
            {one.source: SourceTally(one.accepted, one.rejected, one.outliers, one.missing)
             for one in summary.sources})

    @property
    def empty(self) -> bool:
        return not (self.accepted or self.rejected or self.duplicates or self.content_duplicates or self.quarantined
                    or self.late or self.future)

    def source(self, name: str) -> SourceTally:
        if name not in self.sources and len(self.sources) >= MAX_SOURCES:
            name = OTHER_SOURCES
        return self.sources.setdefault(name, SourceTally())

    def reject(self, rejections: Iterable[Rejection], known: Mapping[str, object]) -> None:
        """Count rejected events; `known` are the Pipeline's fields."""
        alike: dict[tuple[str, str, str | None], tuple[int, int]] = {}
        for one in rejections:
            why = (one.code, one.source, one.field)
            letters, events = alike.get(why, (0, 0))
            alike[why] = (letters + 1, events + one.events)
        for (code, source, member), (letters, events) in alike.items():
            if code == "quarantined":
                self.quarantined += events
                continue
            self.rejected += events
            self.codes[code] += events
            self.source(source).rejected += events
            if member in known:
                tally = self.fields.setdefault(member or "", FieldTally())
                if code == "outlier":
                    tally.outliers += letters
                else:
                    tally.invalid += events

    def message(self, pipeline: str, spec_version: int, instance: str, start: datetime,
                end: datetime) -> QualitySummary:
        told = QualitySummary(
            pipeline=pipeline, spec_version=spec_version, instance=instance, accepted=self.accepted,
            rejected=self.rejected, duplicates=self.duplicates, content_duplicates=self.content_duplicates,
            late=self.late, future=self.future, quarantined=self.quarantined,
            rejections=[CodeCount(code=code, count=count) for code, count in sorted(self.codes.items())],
            fields=[tally.message(name) for name, tally in self.fields.items()],
            sources=[SourceQuality(source=name, accepted=one.accepted, rejected=one.rejected, outliers=one.outliers,
                                   missing=one.missing) for name, one in self.sources.items()])
        told.interval_start.FromDatetime(start)
        told.interval_end.FromDatetime(end)
        return told


def tally_accepted(names: Sequence[str], values: Sequence[pa.Array], outlying: BoolMatrix | None,
                   sources: "Sequence[str] | pa.StringArray", categories: Container[str] = ()) -> Tally:
    """Counts of accepted rows; `values` by name, all else by accepted row. `categories` name fields of few values."""
    size = len(sources)
    tally = Tally(accepted=size)
    for index, name in enumerate(names):
        outliers = None if outlying is None else int(outlying[:, index].sum())
        one = tally.fields[name] = _counted(values[index], outliers or 0)
        if index < MAX_SKETCHED and one.present:
            one.sketch = _sketched(values[index], name in categories)
    coded = pa.array(sources, pa.string()).dictionary_encode()
    codes, told = coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
    missing = _any_missing(values, size)
    outlier_rows = None if outlying is None else outlying.any(axis=1)
    for source, count in _by_source(codes, told):
        tally.source(source).accepted += count
    for rows, what in ((missing, "missing"), (outlier_rows, "outliers")):
        if rows is not None and rows.any():
            for source, count in _by_source(codes[rows], told):
                mine = tally.source(source)
                setattr(mine, what, getattr(mine, what) + count)
    return tally


def _by_source(codes: "np.ndarray[tuple[int], np.dtype[np.int32]]", told: list[str]) -> list[tuple[str, int]]:
    """How many rows each source has, of those with any."""
    counts = np.bincount(codes, minlength=len(told))
    return [(source, count) for source, count in zip(told, counts.tolist(), strict=True) if count]


def _any_missing(values: Sequence[pa.Array], size: int) -> "np.ndarray[tuple[int], np.dtype[np.bool_]] | None":
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
    for column in values:
        if column.null_count:
            if found is None:
                found = np.zeros(size, np.bool_)
            found |= column.is_null().to_numpy(zero_copy_only=False)
    return found


def _counted(column: pa.Array, outliers: int) -> FieldTally:
    tally = FieldTally(present=len(column) - column.null_count, missing=column.null_count, outliers=outliers)
    if tally.present and _is_number(column):
        numbers = numbers_of(column.drop_null() if column.null_count else column)
        tally.numbers = len(numbers)
        tally.mean = float(numbers.mean())
        # Values near the limits of a double overflow here; the summary then says infinite, which is no error.
        with np.errstate(over="ignore", invalid="ignore"):
            tally.squares = float(np.square(numbers - tally.mean).sum())
        tally.low, tally.high = float(numbers.min()), float(numbers.max())
    return tally


def _sketched(column: pa.Array, counted: bool) -> Sketch | None:
    present = column.drop_null() if column.null_count else column
    if _is_number(column):
        return sketches.of_numbers(numbers_of(present))
    return sketches.of_column(present, counted=counted)


def _is_number(column: pa.Array) -> bool:
    return bool(pa.types.is_floating(column.type) or pa.types.is_integer(column.type))
