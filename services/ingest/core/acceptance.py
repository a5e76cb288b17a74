"""The accept stage's decision on a batch: each event is a row, a duplicate or a rejection, and what follows from it."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pipeline import Pipeline
from services.ingest.core.arrow.originals import with_originals
from services.ingest.core.arrow.reader import Reader
from services.ingest.core.clean.past import Past
from services.ingest.core.clean.policies import Bounds
from services.ingest.core.clean.sifting import Sifted, Sifting
from services.ingest.core.counting import summary
from services.ingest.core.counting.summary import Tally
from services.ingest.core.features import Columns
from services.ingest.core.judged import Accepted
from services.ingest.core.labels import Labels
from services.ingest.core.quality import Validator
from services.ingest.core.reading.column import Wholes
from services.ingest.core.reading.intake import RawEvent
from services.ingest.core.reading.lot import Lot, some
from services.ingest.core.steps.notes import with_repairs

# W3C Trace Context version 00, flag `sampled` set.
_SAMPLED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][13579bdf]")


class Acceptance:
    """Judges batches by one version of a Pipeline."""

    def __init__(self, pipeline: Pipeline, spec_version: int, partitions: int | None = None) -> None:
        """`partitions`: how many the events topic really has; as many as the Pipeline says unless given."""
        self.pipeline = pipeline
        self.spec_version = spec_version
        validator = Validator(pipeline)
        self._columns = Columns(pipeline, spec_version)
        self._reader = Reader(pipeline, validator, partitions or pipeline.partitions)
        self._sifting = Sifting(pipeline)
        self._categories = frozenset(name for name, spec in pipeline.fields.items() if spec.type == "category")
        self.labels = Labels(pipeline, spec_version) if pipeline.label_type is not None else None

    def judge(self, events: Sequence[RawEvent], past: Past, bounds: Bounds, quarantined: frozenset[str]) -> Accepted:
        """What becomes of the events of one partition; `bounds` are the champion's.

        `past` learns of it once the batch is committed, from the plans.
        """
        lot = self._reader.read(events, past.partition, quarantined)
        sifted = self._sifting.sift(lot, events, past, bounds)
        lot.rejections += [lot.rejection(one.index, one.code, one.message, one.field) for one in sifted.turned]
        tally = Tally(duplicates=sifted.duplicates, content_duplicates=len(sifted.repeated),
                      late=int(sifted.timed.late.sum()), future=int(sifted.timed.future.sum()))
        tally.reject(lot.rejections, self.pipeline.fields)
        lot.rejections += [lot.rejection(one.index, one.code, one.message) for one in sifted.repeated]
        rejections = with_originals(lot)
        rejections.sort(key=lambda rejection: (rejection.position, rejection.row or 0))
        judged = Accepted(None, None, [], rejections, past.seen.plan(sifted.keys),
                          past.contents.plan(sifted.contents), sifted.timed.watermark, tally, lot.strays)
        return self._accept(events, lot, sifted, judged) if len(sifted.kept) else judged

    def _accept(self, events: Sequence[RawEvent], lot: Lot, sifted: Sifted, judged: Accepted) -> Accepted:
        kept, outlying, sources = sifted.kept, sifted.outlying, lot.sources
        batch = self._columns.batch(lot, events, outlying, sifted.occurred)
        if sifted.moved.rows:
            batch = with_repairs(batch, [sifted.moved])
        if len(kept) < len(lot):
            rows = pa.array(kept)
            batch, sources = batch.take(rows), sources.take(rows)
            outlying = None if outlying is None else outlying[kept]
        first = self._columns.first_field
        values = batch.columns[first:first + len(self._columns.fields)]
        judged.tally.add(summary.tally_accepted(self._columns.fields, values, outlying, sources, self._categories))
        return replace(judged, batch=batch, traces=_traces(lot, kept), outcomes=self._outcomes(lot, sifted))

    def _outcomes(self, lot: Lot, sifted: Sifted) -> list[Outcome]:
        if not lot.labels or self.labels is None:
            return []
        ids, entities = lot.ids.to_pylist(), lot.entities.to_pylist()
        found = []
        for index in sifted.kept.tolist():
            label = lot.labels[index]
            if label is not None:
                found.append(self.labels.outcome(ids[index], entities[index], label, int(sifted.timed.times[index]),
                                                 with_event=True))
        return found


def _traces(lot: Lot, kept: Wholes) -> list[str | None] | None:
    if lot.traces is None:
        return None
    return some([_sampled(lot.traces[index]) for index in kept.tolist()])


def _sampled(traceparent: str | None) -> str | None:
    return traceparent if traceparent is not None and _SAMPLED.fullmatch(traceparent) else None
