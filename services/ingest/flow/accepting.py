"""Events and labels of one pipeline: judged batch by batch, remembered once a batch is committed, counted."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from lepton.clock import Clock
from lepton.contracts import features
from lepton.contracts.feedback.opinions import is_opinion
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.pipeline import compatible
from lepton.errors import Refused
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.clean.policies import Bounds
from services.ingest.core.counting.summary import Tally
from services.ingest.core.features import encoded, with_traces
from services.ingest.core.keys.state import StateRecord
from services.ingest.core.partition import EventsPartition, LabelsPartition
from services.ingest.core.quarantine import Quarantine
from services.ingest.core.reading.intake import RawEvent, Rejection, Stray
from services.ingest.flow.spec import Spec as Spec

# Spans cost more than rows: past this many a batch, a row keeps its event's trace without a span of its own.
SAMPLED_SPANS = 64

ContinueTrace = Callable[[str, str], str]
"""(traceparent of an event, event id) -> traceparent of a span of ours that continues it."""


@dataclass(frozen=True, slots=True)
class Results:
    """What a batch leads to; all of it is written together with its offset, or none."""

    features: list[bytes] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    traces: dict[str, str] = field(default_factory=dict)
    """Traceparent by event id, of sampled events."""
    rejections: list[Rejection] = field(default_factory=list)
    state: list[StateRecord] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    strays: list[tuple[int, Stray]] = field(default_factory=list)
    """Rows for other partitions of the events topic, and the position of the record each came in."""


class Accepting:
    """Events and labels of one pipeline generation, partition by partition."""

    def __init__(self, spec: Spec, quarantine: Quarantine, continue_trace: ContinueTrace, clock: Clock) -> None:
        self.spec = spec
        self.bounds: Bounds = {}
        self._quarantine = quarantine
        self._continue_trace = continue_trace
        self._clock = clock
        self._acceptance = Acceptance(spec.pipeline, spec.version, spec.partitions)
        self._events: dict[int, EventsPartition] = {}
        self._labels: dict[int, LabelsPartition] = {}
        self._pending: dict[int, Tally] = {}
        self._interval = Tally()
        self._interval_start = clock.now()

    def adopt(self, spec: Spec) -> None:
        """Judge the next batch by another version. Raises Refused when rows of both cannot live in one generation."""
        reasons = compatible(self.spec.pipeline, spec.pipeline)
        if reasons:
            raise Refused(f"version {spec.version} of {spec.name} does not fit its generation: {'; '.join(reasons)}",
                          place=spec.name, remedy="apply it with --new-generation")
        self.spec = spec
        self._acceptance = Acceptance(spec.pipeline, spec.version, spec.partitions)
        for events in self._events.values():
            events.adopt(spec.pipeline)
        for labels in self._labels.values():
            labels.resize(spec.pipeline.events.dedupe_window)

    def restore_events(self, partition: int, records: Mapping[bytes, bytes]) -> None:
        """Remember what the last committed batch left. Raises Invalid when the state cannot be read."""
        mine = EventsPartition(self.spec.pipeline, partition)
        mine.restore(records)
        self._quarantine.merge(mine.head.decisions, mine.head.fields)
        self._events[partition] = mine
        self._pending.pop(partition, None)

    def restore_labels(self, partition: int, records: Mapping[bytes, bytes]) -> None:
        mine = LabelsPartition(self.spec.pipeline.events.dedupe_window)
        mine.restore(records)
        self._labels[partition] = mine

    async def accept(self, partition: int, events: Sequence[RawEvent]) -> Results:
        """Judge a batch of events; memory changes with `keep_events` only."""
        mine = self._events[partition]
        accepted = self._acceptance.judge(events, mine.past, self.bounds, self._quarantine.sources,
                                          self._quarantine.fields.active)
        rows, state = mine.plan(accepted, self._quarantine.decisions, self._quarantine.fields.all)
        batch, traces = self._traced(rows, accepted.traces)
        self._pending[partition] = accepted.tally
        return Results(
            features=encoded(batch) if batch is not None else [], outcomes=accepted.outcomes, traces=traces,
            rejections=accepted.rejections, state=state, tally=accepted.tally, strays=accepted.strays)

    async def label(self, partition: int, records: Sequence[RawEvent]) -> Results:
        """Judge a batch of late labels. The newest label of an event wins; the same one again is a duplicate."""
        labels = self._acceptance.labels
        if labels is None:
            why = [Rejection(position, "no_label", "the pipeline has no label")
                   for position, record in enumerate(records) if not is_opinion(record.headers)]
            return Results(rejections=why, tally=Tally(rejected=len(why)))
        mine = self._labels[partition]
        intake = labels.read(records)
        entries = labels.said(intake)
        again = set(mine.last.duplicates(entries))
        fresh = [index for index in range(len(entries)) if index not in again]
        return Results(
            outcomes=[intake.outcomes[index] for index in fresh], rejections=intake.rejections,
            state=mine.plan([entries[index] for index in fresh]),
            tally=Tally(accepted=len(fresh), rejected=len(intake.rejections), duplicates=len(again)))

    def keep_events(self, partition: int) -> None:
        """The batch counts."""
        self._events[partition].keep()
        tally = self._pending.pop(partition, None)
        if tally is not None:
            self._interval.add(tally)

    def keep_labels(self, partition: int) -> None:
        self._labels[partition].keep()

    def drop_events(self, partition: int) -> None:
        """The batch does not count, or nobody knows."""
        self._pending.pop(partition, None)
        if partition in self._events:
            self._events[partition].drop()

    def drop_labels(self, partition: int) -> None:
        if partition in self._labels:
            self._labels[partition].drop()

    def release_events(self, partition: int) -> None:
        self._events.pop(partition, None)
        self._pending.pop(partition, None)

    def release_labels(self, partition: int) -> None:
        self._labels.pop(partition, None)

    def count_refused(self, rejections: Sequence[Rejection]) -> None:
        """Rows that never were events, refused before they came to the log: the next summary tells of them."""
        tally = Tally()
        tally.reject(rejections, self.spec.pipeline.fields)
        self._interval.add(tally)

    async def summarise(self, instance: str, send: Callable[[QualitySummary], Awaitable[None]]) -> None:
        """Send what was counted since the last summary, if anything; what could not be sent is in the next one."""
        tally, start, end = self._interval, self._interval_start, self._clock.now()
        self._interval, self._interval_start = Tally(), end
        if tally.empty:
            return
        try:
            await send(tally.message(self.spec.name, self.spec.version, instance, start, end))
        except BaseException:
            tally.add(self._interval)
            self._interval, self._interval_start = tally, start
            raise

    def _traced(self, batch: pa.RecordBatch | None,
                parents: Sequence[str | None] | None) -> tuple[pa.RecordBatch | None, dict[str, str]]:
        if batch is None or parents is None:
            return batch, {}
        ids = batch.column(features.EVENT_ID)
        traces, found = list(parents), dict[str, str]()
        for row, trace in enumerate(parents):
            if trace is not None:
                event_id = ids[row].as_py()
                ours = self._continue_trace(trace, event_id) if len(found) < SAMPLED_SPANS else trace
                traces[row] = found[event_id] = ours
        return with_traces(batch, traces), found
