"""What the accept stage counts of its batches, and how counts of many batches become one summary of an interval."""

from collections import Counter, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from lepton.contracts.pb.quality_pb2 import CodeCount, QualitySummary, SourceQuality
from services.ingest.core.clean.policies import BoolMatrix
from services.ingest.core.counting.joint import Joint, joint_of
from services.ingest.core.counting.rows import FieldTally, Rows, SourceTally, fields_of, joined, sources_of
from services.ingest.core.counting.schemas import PER_INTERVAL, Sample, looked_at
from services.ingest.core.reading.intake import Rejection

# A producer that names a new source for every event must not fill the memory.
MAX_SOURCES = 200
OTHER_SOURCES = "other"
AT_ONCE = 2_000
"""Accepted rows that are counted together. Counting costs a small batch as much as a large one, so small ones wait."""


@dataclass(slots=True)
class Tally:
    """Counts of a batch, or of all batches of an interval. `rejected` leaves quarantined rows out.

    `duplicates` are by id, `content_duplicates` by content under another id; `late` and `future` count events whatever
    the pipeline then does with them, so that they may be among `accepted` or among `rejected`. The fields and sources
    of accepted rows are counted once there are `AT_ONCE` rows, or somebody looks.
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
    _fields: dict[str, FieldTally] = field(default_factory=dict)
    _sources: dict[str, SourceTally] = field(default_factory=dict)
    _joint: Joint = field(default_factory=Joint)
    _waiting: list[Rows] = field(default_factory=list)
    _rows: int = 0
    """That wait since the last time they were counted, those of a batch's own tally left out."""
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=PER_INTERVAL))
    """The newest events that were put by to be looked at."""

    @property
    def fields(self) -> dict[str, FieldTally]:
        self._count()
        return self._fields

    @property
    def sources(self) -> dict[str, SourceTally]:
        self._count()
        return self._sources

    def add(self, other: "Tally") -> None:
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.duplicates += other.duplicates
        self.content_duplicates += other.content_duplicates
        self.late += other.late
        self.future += other.future
        self.quarantined += other.quarantined
        self.codes.update(other.codes)
        for name, tally in other._fields.items():
            self._fields.setdefault(name, FieldTally()).add(tally)
        for name, source in other._sources.items():
            self.source(name).add(source)
        if other._joint.rows:
            self._joint.add(other._joint)
        self.samples += other.samples
        self._waiting += other._waiting
        self._rows += sum(map(len, other._waiting))
        if self._rows >= AT_ONCE:
            self._count()

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
        """Counts of one source so far, without the rows that wait."""
        if name not in self._sources and len(self._sources) >= MAX_SOURCES:
            name = OTHER_SOURCES
        return self._sources.setdefault(name, SourceTally())

    def tell(self, name: str, counted: FieldTally) -> None:
        """What was counted of a field besides the accepted rows."""
        self._fields.setdefault(name, FieldTally()).add(counted)

    def repair(self, counts: Mapping[str, int]) -> None:
        """Count values that were changed, by field."""
        for name, count in counts.items():
            self._fields.setdefault(name, FieldTally()).repaired += count

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
                tally = self._fields.setdefault(member or "", FieldTally())
                if code == "outlier":
                    tally.outliers += letters
                else:
                    tally.invalid += events

    def _count(self) -> None:
        """Count the rows that wait."""
        waiting, self._waiting, self._rows = self._waiting, [], 0
        for rows in joined(waiting):
            for name, one in fields_of(rows):
                self._fields.setdefault(name, FieldTally()).add(one)
            for name, source in sources_of(rows):
                self.source(name).add(source)
            self._joint.add(joint_of(rows.names, rows.values, rows.categories))

    def message(self, pipeline: str, spec_version: int, instance: str, start: datetime,
                end: datetime) -> QualitySummary:
        told = QualitySummary(
            pipeline=pipeline, spec_version=spec_version, instance=instance, accepted=self.accepted,
            rejected=self.rejected, duplicates=self.duplicates, content_duplicates=self.content_duplicates,
            late=self.late, future=self.future, quarantined=self.quarantined,
            rejections=[CodeCount(code=code, count=count) for code, count in sorted(self.codes.items())],
            fields=[tally.message(name) for name, tally in self.fields.items()],
            sources=[SourceQuality(source=name, accepted=one.accepted, rejected=one.rejected, outliers=one.outliers,
                                   missing=one.missing) for name, one in self.sources.items()],
            joint=self._joint.message(), schemas=looked_at(self.samples))
        told.interval_start.FromDatetime(start)
        told.interval_end.FromDatetime(end)
        return told


def tally_accepted(names: Sequence[str], values: Sequence[pa.Array], outlying: BoolMatrix | None,
                   sources: "Sequence[str] | pa.StringArray", categories: Container[str] = ()) -> Tally:
    """Counts of accepted rows; `values` by name, all else by accepted row. `categories` name fields of few values."""
    rows = Rows(names, values, outlying, pa.array(sources, pa.string()), categories)
    return Tally(accepted=len(rows), _waiting=[rows])
