"""The accept stage's decision on a batch: each event is a row, a duplicate or a rejection, and what follows from it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pipeline import Pipeline
from services.ingest.core.arrow.originals import with_originals
from services.ingest.core.arrow.reader import Reader
from services.ingest.core.clean.past import Past
from services.ingest.core.clean.policies import BoolMatrix, Bounds
from services.ingest.core.clean.sifting import Sifted, Sifting
from services.ingest.core.counting import summary
from services.ingest.core.counting.schemas import Declared, sampled
from services.ingest.core.counting.summary import Tally
from services.ingest.core.features import Columns
from services.ingest.core.judged import Accepted
from services.ingest.core.labels import Labels
from services.ingest.core.quality import Validator
from services.ingest.core.reading.column import Wholes
from services.ingest.core.reading.intake import RawEvent
from services.ingest.core.reading.lot import Lot, some
from services.ingest.core.steps.notes import with_repairs
from services.ingest.core.withholding import WITHHELD, Withholding, without

# W3C Trace Context version 00, flag `sampled` set.
_SAMPLED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][13579bdf]")

_NONE: Mapping[str, str] = {}


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
        self._declared = Declared.of(pipeline)
        self._categories = frozenset(name for name, spec in pipeline.fields.items() if spec.type == "category")
        self._partitions = partitions or pipeline.partitions
        self._withholding: Withholding | None = None
        self._reader_without = self._reader
        self.labels = Labels(pipeline, spec_version) if pipeline.label_type is not None else None

    def judge(self, events: Sequence[RawEvent], past: Past, bounds: Bounds, quarantined: frozenset[str],
              fields: Mapping[str, str] = _NONE) -> Accepted:
        """What becomes of the events of one partition; `bounds` are the champion's.

        `quarantined` are sources; `fields` are quarantined too, each with its incident, so far as rows can do without.
        `past` learns of it once the batch is committed, from the plans.
        """
        withheld = self._withheld(fields)
        lot = raw = self._reader.read(events, past.partition, quarantined)
        if withheld is not None:
            lot = withheld.filled(self._reader_without.read(events, past.partition, quarantined))
        sifted = self._sifting.sift(lot, events, past, bounds)
        turned = [(one, withheld is not None and withheld.drops(one)) for one in sifted.turned]
        lot.rejections += [lot.rejection(one.index, *(WITHHELD if gone else (one.code, one.message)), one.field)
                           for one, gone in turned]
        tally = Tally(duplicates=sifted.duplicates, content_duplicates=len(sifted.repeated),
                      late=int(sifted.timed.late.sum()), future=int(sifted.timed.future.sum()))
        tally.reject(lot.rejections, self.pipeline.fields)
        tally.samples.extend(sampled(events, self._declared))
        if withheld is not None:
            rows = np.concatenate((sifted.kept, np.array([one.index for one, gone in turned if gone], np.int64)))
            tally.add(withheld.tally(raw, lot, rows, past, bounds))
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
            mask = np.zeros(len(lot), np.bool_)
            mask[kept] = True
            # They are in order, so that what is between two that are not kept is copied at once.
            batch, sources = batch.filter(pa.array(mask)), sources.filter(pa.array(mask))
            outlying = None if outlying is None else outlying[kept]
        first = self._columns.first_field
        values = batch.columns[first:first + len(self._columns.fields)]
        judged.tally.add(self._counted(values, outlying, sources))
        return replace(judged, batch=batch, traces=_traces(lot, kept), outcomes=self._outcomes(lot, sifted))

    def _withheld(self, fields: Mapping[str, str]) -> Withholding | None:
        told = {name: fields[name] for name in sorted(fields) if name in self.pipeline.optional_fields}
        if not told:
            self._withholding = None
        elif self._withholding is None or self._withholding.fields != told:
            self._withholding = Withholding(self.pipeline, told)
            reduced = without(self.pipeline, told)
            self._reader_without = Reader(reduced, Validator(reduced), self._partitions, told)
        return self._withholding

    def _counted(self, values: Sequence[pa.Array], outlying: BoolMatrix | None, sources: pa.StringArray) -> Tally:
        """Of accepted rows, without the fields that were taken from them."""
        names = self._columns.fields
        if self._withholding is None:
            return summary.tally_accepted(names, values, outlying, sources, self._categories)
        left = [place for place, name in enumerate(names) if name not in self._withholding.fields]
        return summary.tally_accepted([names[place] for place in left], [values[place] for place in left],
                                      None if outlying is None else outlying[:, left], sources, self._categories)

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
