"""How accepted rows are counted field by field and source by source, many batches of them at once."""

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lepton.contracts.pb.quality_pb2 import FieldQuality
from services.ingest.core.clean.policies import BoolMatrix, numbers_of
from services.ingest.core.counting import sketches
from services.ingest.core.counting.sketches import Sketch

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
    quarantined: bool = False
    incident_id: str = ""

    def add(self, other: "FieldTally") -> None:
        self.present += other.present
        self.missing += other.missing
        self.invalid += other.invalid
        self.outliers += other.outliers
        self.repaired += other.repaired
        if other.quarantined:
            self.quarantined, self.incident_id = True, other.incident_id
        if other.numbers and not self.numbers:
            self.numbers, self.mean, self.squares = other.numbers, other.mean, other.squares
            self.low, self.high = other.low, other.high
        elif other.numbers:
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
        tally = cls(told.present, told.missing, told.invalid, told.outliers, told.repaired, sketch=sketches.read(told),
                    quarantined=told.quarantined, incident_id=told.incident_id)
        if told.HasField("mean"):
            tally.numbers, tally.mean, tally.low, tally.high = told.present, told.mean, told.min, told.max
            tally.squares = told.std * told.std * told.present
        return tally

    def message(self, name: str) -> FieldQuality:
        told = FieldQuality(field=name, present=self.present, missing=self.missing, invalid=self.invalid,
                            outliers=self.outliers, repaired=self.repaired, quarantined=self.quarantined,
                            incident_id=self.incident_id)
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

    def add(self, other: "SourceTally") -> None:
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.outliers += other.outliers
        self.missing += other.missing


@dataclass(frozen=True, slots=True)
class Rows:
    """Accepted rows whose fields and sources are still to be counted."""

    names: Sequence[str]
    values: Sequence[pa.Array]
    """By name."""
    outlying: BoolMatrix | None
    sources: pa.StringArray
    categories: Container[str]
    """Fields of few values."""

    def __len__(self) -> int:
        return len(self.sources)

    def joins(self, other: "Rows") -> bool:
        """Whether both can be counted as one: not across versions of a Pipeline."""
        return (self.names, self.categories) == (other.names, other.categories) \
            and all(mine.type == theirs.type for mine, theirs in zip(self.values, other.values, strict=True))


def joined(waiting: Sequence[Rows]) -> Iterator[Rows]:
    """The same rows, those that can be counted together in one."""
    start = 0
    for end in range(1, len(waiting) + 1):
        if end < len(waiting) and waiting[start].joins(waiting[end]):
            continue
        first, parts = waiting[start], waiting[start:end]
        start = end
        yield first if len(parts) == 1 else Rows(
            first.names, [pa.concat_arrays(columns) for columns in zip(*(part.values for part in parts), strict=True)],
            _stacked(parts), pa.concat_arrays([part.sources for part in parts]), first.categories)


def _stacked(parts: Sequence[Rows]) -> BoolMatrix | None:
    if all(part.outlying is None for part in parts):
        return None
    return np.concatenate([np.zeros((len(part), len(part.names)), np.bool_) if part.outlying is None else part.outlying
                           for part in parts])


def fields_of(rows: Rows) -> Iterator[tuple[str, FieldTally]]:
    """What there is to count of each field."""
    for index, name in enumerate(rows.names):
        outliers = 0 if rows.outlying is None else int(rows.outlying[:, index].sum())
        one = _counted(rows.values[index], outliers)
        if index < MAX_SKETCHED and one.present:
            one.sketch = _sketched(rows.values[index], name in rows.categories)
        yield name, one


def sources_of(rows: Rows) -> Iterator[tuple[str, SourceTally]]:
    """What there is to count of each source; one may come several times."""
    coded = rows.sources.dictionary_encode()
    codes, told = coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
    missing = _any_missing(rows.values, len(rows))
    outliers = None if rows.outlying is None else rows.outlying.any(axis=1)
    for source, count in _by_source(codes, told):
        yield source, SourceTally(accepted=count)
    if missing is not None and missing.any():
        for source, count in _by_source(codes[missing], told):
            yield source, SourceTally(missing=count)
    if outliers is not None and outliers.any():
        for source, count in _by_source(codes[outliers], told):
            yield source, SourceTally(outliers=count)


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
