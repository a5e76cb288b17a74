"""The accept stage's decision on a batch: each event is a row, a duplicate or a rejection, and what follows from it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pipeline import Pipeline
from services.ingest.core.counting import summary
from services.ingest.core.arrow.reader import Reader, with_originals
from services.ingest.core.cleaning import BoolMatrix, Bounds, Cleaning
from services.ingest.core.dedupe import Plan, Seen, keys_of
from services.ingest.core.features import Columns
from services.ingest.core.labels import Labels
from services.ingest.core.quality import Validator
from services.ingest.core.reading.intake import Intake, RawEvent, Rejection, Stray
from services.ingest.core.counting.summary import Tally

# W3C Trace Context version 00, flag `sampled` set.
_SAMPLED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][13579bdf]")


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a batch leads to. Nothing of it has happened yet."""

    batch: pa.RecordBatch | None
    """Accepted rows, in the order of their events; None when there is none."""
    traces: list[str | None] | None
    """Traceparent of each row's event where that is sampled; None when none is."""
    outcomes: list[Outcome]
    rejections: list[Rejection]
    plan: Plan[str]
    tally: Tally
    strays: list[tuple[int, Stray]] = field(default_factory=list)
    """Rows of entities of other partitions, and the position of the record each came in."""


class Acceptance:
    """Judges batches by one version of a Pipeline."""

    def __init__(self, pipeline: Pipeline, spec_version: int, partitions: int | None = None) -> None:
        """`partitions`: how many the events topic really has; as many as the Pipeline says unless given."""
        self.pipeline = pipeline
        self.spec_version = spec_version
        validator = Validator(pipeline)
        self._columns = Columns(pipeline, spec_version, validator)
        self._reader = Reader(pipeline, validator, self._columns, partitions or pipeline.partitions)
        self._cleaning = Cleaning(pipeline)
        self._categories = frozenset(name for name, spec in pipeline.fields.items() if spec.type == "category")
        self.labels = Labels(pipeline, spec_version) if pipeline.label_type is not None else None

    def judge(self, events: Sequence[RawEvent], seen: Seen, bounds: Bounds, quarantined: frozenset[str],
              partition: int = 0) -> Accepted:
        """Changes nothing: `seen` learns the plan once the batch is committed. `partition`: where the events lie."""
        intake = self._reader.read(events, partition, quarantined)
        values = intake.values
        outlying = self._cleaning.outlying(values, bounds)
        kept = self._turn_away(intake, values, outlying)
        keys = keys_of(intake.ids, intake.entities)
        if len(kept) < len(keys):
            keys = [keys[index] for index in kept]
        duplicates = seen.duplicates(keys)
        if duplicates:
            again = set(duplicates)
            kept = [row for index, row in enumerate(kept) if index not in again]
            keys = [key for index, key in enumerate(keys) if index not in again]
        tally = Tally(duplicates=len(duplicates))
        tally.reject(intake.rejections, self.pipeline.fields)
        with_originals(intake)
        intake.rejections.sort(key=lambda rejection: (rejection.position, rejection.row or 0))
        judged = Accepted(None, None, [], intake.rejections, seen.plan(keys), tally, intake.strays)
        return self._accept(events, intake, _Rows(kept, values, outlying), judged) if kept else judged

    def _turn_away(self, intake: Intake, values: Sequence[pa.Array], outlying: BoolMatrix | None) -> list[int]:
        turned = set[int]()
        for one in self._cleaning.turned_away(values, outlying):
            turned.add(one.index)
            intake.rejections.append(intake.rejection(one.index, one.code, one.message, one.field))
        return [index for index in range(len(intake.ids)) if index not in turned]

    def _accept(self, events: Sequence[RawEvent], intake: Intake, rows: "_Rows", judged: Accepted) -> Accepted:
        batch = self._columns.batch(intake, rows.values, events, rows.outlying)
        outlying = rows.outlying
        if len(rows.kept) < len(intake.ids):
            batch = batch.take(pa.array(rows.kept, pa.int64()))
            outlying = None if outlying is None else outlying[rows.kept]
        first = self._columns.first_field
        values = batch.columns[first:first + len(self._columns.fields)]
        judged.tally.add(summary.tally_accepted(self._columns.fields, values, outlying, intake.sources(rows.kept),
                                                self._categories))
        return Accepted(batch, _traces(intake, rows.kept), self._outcomes(intake, rows.kept), judged.rejections,
                        judged.plan, judged.tally, judged.strays)

    def _outcomes(self, intake: Intake, kept: Sequence[int]) -> list[Outcome]:
        if not intake.labels or self.labels is None:
            return []
        found = []
        for index in kept:
            label = intake.labels[index]
            if label is not None:
                found.append(self.labels.outcome(intake.ids[index], intake.entities[index], label, intake.times[index],
                                                 with_event=True))
        return found


@dataclass(frozen=True, slots=True)
class _Rows:
    kept: list[int]
    values: list[pa.Array]
    outlying: BoolMatrix | None


def _traces(intake: Intake, kept: Sequence[int]) -> list[str | None] | None:
    if not any(intake.envelopes):
        return None
    traces = [_sampled(envelope.traceparent) if (envelope := intake.envelopes[index]) is not None else None
              for index in kept]
    return traces if any(traces) else None


def _sampled(traceparent: str | None) -> str | None:
    return traceparent if traceparent is not None and _SAMPLED.fullmatch(traceparent) else None
