"""What ingest does, as verbs: follow pipelines and models, accept events and labels, quarantine sources, keep rows."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from lepton.clock import Clock
from lepton.contracts import features
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.pipeline import Pipeline, compatible, from_json
from lepton.errors import Missing, Refused
from lepton.store.segments import Segments
from services.ingest.core.acceptance import Acceptance, Accepted
from services.ingest.core.cleaning import Bounds, bounds_of
from services.ingest.core.dedupe import StateRecord
from services.ingest.core.features import encoded, with_traces
from services.ingest.core.partition import EventsPartition, LabelsPartition
from services.ingest.core.quality import RawEvent, Rejection
from services.ingest.core.quarantine import Quarantine
from services.ingest.core.summary import Tally

FEATURES, OUTCOMES = "features", "outcomes"
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


@dataclass(frozen=True, slots=True)
class Spec:
    """One announced version of a pipeline."""

    pipeline: Pipeline
    version: int
    generation: int
    partitions: int

    @property
    def name(self) -> str:
        return self.pipeline.name


class Accepting:
    """Events and labels of one pipeline generation, partition by partition."""

    def __init__(self, spec: Spec, quarantine: Quarantine, continue_trace: ContinueTrace, clock: Clock) -> None:
        self.spec = spec
        self.bounds: Bounds = {}
        self._quarantine = quarantine
        self._continue_trace = continue_trace
        self._clock = clock
        self._acceptance = Acceptance(spec.pipeline, spec.version)
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
        self._acceptance = Acceptance(spec.pipeline, spec.version)
        for one in (*self._events.values(), *self._labels.values()):
            one.resize(spec.pipeline.events.dedupe_window)

    def restore_events(self, partition: int, records: Mapping[bytes, bytes]) -> None:
        """Remember what the last committed batch left. Raises Invalid when the state cannot be read."""
        mine = EventsPartition(self.spec.pipeline.events.dedupe_window)
        mine.restore(records)
        self._quarantine.merge(mine.head.decisions)
        self._events[partition] = mine
        self._pending.pop(partition, None)

    def restore_labels(self, partition: int, records: Mapping[bytes, bytes]) -> None:
        mine = LabelsPartition(self.spec.pipeline.events.dedupe_window)
        mine.restore(records)
        self._labels[partition] = mine

    async def accept(self, partition: int, events: Sequence[RawEvent]) -> Results:
        """Judge a batch of events; memory changes with `keep_events` only."""
        mine = self._events[partition]
        accepted = self._acceptance.judge(events, mine.seen, self.bounds, self._quarantine.sources)
        batch, traces = self._traced(accepted)
        self._pending[partition] = accepted.tally
        return Results(
            features=encoded(batch) if batch is not None else [], outcomes=accepted.outcomes, traces=traces,
            rejections=accepted.rejections, state=mine.plan(accepted, self._quarantine.decisions),
            tally=accepted.tally)

    async def label(self, partition: int, records: Sequence[RawEvent]) -> Results:
        """Judge a batch of late labels. The newest label of an event wins; the same one again is a duplicate."""
        labels = self._acceptance.labels
        if labels is None:
            why = [Rejection(position, "no_label", "the pipeline has no label") for position in range(len(records))]
            return Results(rejections=why, tally=Tally(rejected=len(why)))
        mine = self._labels[partition]
        intake = labels.read(records)
        entries = [(outcome.event_id, labels.text_of(outcome)) for outcome in intake.outcomes]
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

    def drop(self, partition: int) -> None:
        """The batch does not count, or nobody knows."""
        self._pending.pop(partition, None)
        for one in (self._events.get(partition), self._labels.get(partition)):
            if one is not None:
                one.drop()

    def release_events(self, partition: int) -> None:
        self._events.pop(partition, None)
        self._pending.pop(partition, None)

    def release_labels(self, partition: int) -> None:
        self._labels.pop(partition, None)

    async def summarise(self, instance: str, send: Callable[[QualitySummary], Awaitable[None]]) -> None:
        """Send what was counted since the last summary, if anything; what could not be sent is in the next one."""
        tally, start, end = self._interval, self._interval_start, self._clock.now()
        self._interval, self._interval_start = Tally(), end
        if not (tally.accepted or tally.rejected or tally.duplicates or tally.quarantined):
            return
        try:
            await send(tally.message(self.spec.name, self.spec.version, instance, start, end))
        except BaseException:
            tally.add(self._interval)
            self._interval, self._interval_start = tally, start
            raise

    def _traced(self, accepted: Accepted) -> tuple[pa.RecordBatch | None, dict[str, str]]:
        if accepted.batch is None or accepted.traces is None:
            return accepted.batch, {}
        ids = accepted.batch.column(features.EVENT_ID)
        traces, found = list(accepted.traces), dict[str, str]()
        for row, trace in enumerate(accepted.traces):
            if trace is not None:
                event_id = ids[row].as_py()
                ours = self._continue_trace(trace, event_id) if len(found) < SAMPLED_SPANS else trace
                traces[row] = found[event_id] = ours
        return with_traces(accepted.batch, traces), found


class Line(Protocol):
    """What runs for one pipeline generation; opened by the app."""

    async def close(self) -> None:
        """Finish the batches in hand, then let go of everything."""


OpenLine = Callable[[Accepting], Awaitable[Line]]


class Ingest:
    """The pipelines this process works for."""

    def __init__(self, open_line: OpenLine, continue_trace: ContinueTrace, clock: Clock) -> None:
        self._open_line = open_line
        self._continue_trace = continue_trace
        self._clock = clock
        self._lines: dict[str, tuple[Accepting, Line]] = {}
        self._bounds: dict[str, Bounds] = {}
        self._quarantines: dict[str, Quarantine] = {}
        self._announced: set[str] = set()

    @property
    def pipelines(self) -> frozenset[str]:
        """Those with work going on."""
        return frozenset(self._lines)

    def announce(self, name: str) -> None:
        """Make a pipeline known before its work begins."""
        self._announced.add(name)

    async def follow_pipeline(self, name: str, state: PipelineState | None) -> None:
        """Start, change or end the work for a pipeline.

        Raises Invalid when its spec cannot be read and Refused when it does not fit the generation; the version
        before goes on in both cases.
        """
        if state is None or state.deleted:
            await self._close(name)
            self._announced.discard(name)
            return
        self._announced.add(name)
        spec = Spec(from_json(state.spec_json), state.version, max(state.generation, 1), state.partitions)
        running = self._lines.get(name)
        if running is not None and running[0].spec.generation == spec.generation:
            if spec.version > running[0].spec.version:
                running[0].adopt(spec)
            return
        await self._close(name)
        accepting = Accepting(spec, self.quarantine_of(name), self._continue_trace, self._clock)
        accepting.bounds = self._bounds.get(name, {})
        self._lines[name] = (accepting, await self._open_line(accepting))

    async def follow_model(self, name: str, state: ModelState | None) -> None:
        """Flag outliers by the statistics of the champion, from the next batch on."""
        champion = next((one for one in state.versions if one.version == state.champion), None) if state else None
        self._bounds[name] = bounds_of(champion.manifest) if champion is not None else {}
        if name in self._lines:
            self._lines[name][0].bounds = self._bounds[name]

    def quarantine_of(self, name: str) -> Quarantine:
        return self._quarantines.setdefault(name, Quarantine())

    async def quarantine(self, name: str, source: str, quarantined: bool, at_ms: int) -> str:
        """Turn a source's events away, or take them again; what was done, for a person. Raises Missing, Refused."""
        if not source:
            raise Refused("the command names no source", field="arguments.source", remedy="give the source")
        if name not in self._announced:
            raise Missing(f"there is no pipeline {name}", field="target", remedy="see `lepton get pipelines`")
        changed = self.quarantine_of(name).decide(source, quarantined, at_ms)
        now = "quarantined" if source in self.quarantine_of(name).sources else "accepted"
        return f"source {source} of pipeline {name} is {now}" + ("" if changed else ", as it was before")

    async def close(self) -> None:
        for name in list(self._lines):
            await self._close(name)

    async def _close(self, name: str) -> None:
        running = self._lines.pop(name, None)
        if running is not None:
            await running[1].close()


class Keeping:
    """Rows of a pipeline's features and outcomes into segments, each offset once."""

    def __init__(self, segments: Segments, spec: Callable[[], Spec]) -> None:
        self._segments = segments
        self._spec = spec

    async def next_offset(self, stream: str, partition: int) -> int:
        """Where to read on. Raises Unavailable."""
        spec = self._spec()
        return await self._segments.next_offset(stream, spec.name, spec.generation, partition)

    async def keep_features(self, partition: int, first: int, next_offset: int, values: Sequence[bytes]) -> int:
        """Rows kept. The values are feature records of one schema. Raises Refused when somebody else was faster."""
        if len(values) == 1:
            rows, data = int(features.decode_batch(values[0]).num_rows), values[0]
        else:
            table = pa.Table.from_batches([features.decode_batch(value) for value in values]).combine_chunks()
            rows, data = int(table.num_rows), features.encode_table(table)
        await self._append(FEATURES, partition, (first, next_offset), rows, data)
        return rows

    async def keep_outcomes(self, partition: int, first: int, next_offset: int, outcomes: Sequence[Outcome]) -> int:
        table = features.outcome_table(self._spec().pipeline, outcomes)
        await self._append(OUTCOMES, partition, (first, next_offset), len(outcomes), features.encode_table(table))
        return len(outcomes)

    async def _append(self, stream: str, partition: int, offsets: tuple[int, int], rows: int, data: bytes) -> None:
        spec = self._spec()
        await self._segments.append(stream, spec.name, spec.generation, partition, offsets[0], offsets[1], rows, data,
                                    hashlib.sha256(data).hexdigest())
