"""Stream inference: features in, predictions out, single or in batches, in the transaction of their offsets."""

import asyncio
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp

from lepton.bus.care import Care
from lepton.bus.consumer import Subscription
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.records import Broker, Outgoing, Place, Record
from lepton.bus.stage import BatchStage
from lepton.bus.table import StateReader
from lepton.clock import Clock
from lepton.contracts import features, topics
from lepton.contracts.arrow import predictions
from lepton.contracts.envelope import ID, TRACEPARENT, Envelope
from lepton.contracts.pb import predictions_pb2
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, LeptonError
from lepton.runtime import tracing
from lepton.runtime.health import Health
from lepton.runtime.loops import LoopBody, pause
from lepton.runtime.telemetry import Telemetry
from services.predictor.edge.measures import Measures
from services.predictor.edge.rowspans import RowSpans
from services.predictor.flow.beside import Scored
from services.predictor.flow.predictor import Predictor

MAX_RECORDS = 64
"""Features records of one transaction; each may hold thousands of rows, and all their answers are in memory."""

PROGRESS_S = 30.0
"""A backlog of full records is worked through within this time a transaction."""

AGAIN_S = 2.0
"""Until a stage that could not start, because its topic is not there or the bus is away, is tried again."""

INLINE_ROWS = 8192
"""Of as many, batches are compressed within a millisecond; more would hold up the event loop and go to a thread."""

EVENT_TYPE = "lepton.prediction"

_NOT_READ = frozenset({features.SOURCE, features.SOURCE_OFFSET, features.OUTLIERS, features.REPAIRS})
"""Columns of a features batch that say nothing to a model."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Desk:
    """What scoring works with, whichever pipeline it is for."""

    predictor: Predictor
    measures: Measures
    telemetry: Telemetry
    clock: Clock
    health: Health
    instance: str


@dataclass(slots=True)
class _Group:
    """Records in a row whose batches have the same columns, so that they can be scored as one."""

    records: list[Record] = field(default_factory=list)
    batches: list[pa.RecordBatch] = field(default_factory=list)


@dataclass(slots=True)
class _Counted:
    """What a batch will count for once it is committed: rows by version, and rows passed over."""

    scored: dict[int, int] = field(default_factory=dict)
    passed_over: int = 0


class Scorer:
    """The handler of one pipeline's stage. It keeps no state but counts, which stand only with the commit."""

    def __init__(self, pipeline: str, generation: int, desk: Desk, dead_letters: DeadLetters, *,
                 batched: bool = False) -> None:
        self._pipeline = pipeline
        self._batched = batched
        self._desk = desk
        self._dead_letters = dead_letters
        self._topic = topics.name(Topic.PREDICTIONS, pipeline, generation)
        self._spans = RowSpans(desk.telemetry, pipeline)
        self._counted: dict[Place, _Counted] = {}

    async def restore(self, place: Place, state: StateReader) -> None:
        """Nothing is remembered from batch to batch."""

    async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
        """Predictions for every row the champion can answer; a record that is no features batch is a dead letter."""
        counted = self._counted[place] = _Counted()
        results: list[Outgoing] = []
        for group in self._groups(records, results):
            results += await self._score(group, counted)
        return results

    async def committed(self, place: Place) -> None:
        counted = self._counted.pop(place, _Counted())
        for version, rows in counted.scored.items():
            self._desk.measures.scored(self._pipeline, version, rows)
        if counted.passed_over:
            self._desk.measures.unscored(self._pipeline, counted.passed_over)

    async def aborted(self, place: Place) -> None:
        self._counted.pop(place, None)

    async def released(self, place: Place) -> None:
        self._counted.pop(place, None)

    def _groups(self, records: Sequence[Record], results: list[Outgoing]) -> list[_Group]:
        groups: list[_Group] = []
        for record in records:
            try:
                batch = features.decode_batch(record.value or b"", _NOT_READ)
            except Invalid as error:
                results.append(self._dead_letters.letter(record, error))
                continue
            if not groups or not batch.schema.equals(groups[-1].batches[-1].schema):
                groups.append(_Group())
            groups[-1].records.append(record)
            groups[-1].batches.append(batch)
        return groups

    async def _score(self, group: _Group, counted: _Counted) -> list[Outgoing]:
        batch = group.batches[0] if len(group.batches) == 1 else pa.concat_batches(group.batches)
        started_at = self._desk.clock.now()
        try:
            scored = await self._desk.predictor.score(self._pipeline, batch)
        except Invalid as error:
            # The rows are good; the version was made for others. The next one is trained on rows like these.
            self._desk.telemetry.error("rows_not_scored", str(error), group.records[0].place)
            scored = None
        if scored is None:
            counted.passed_over += batch.num_rows
            return []
        for version, rows in scored.counts().items():
            counted.scored[version] = counted.scored.get(version, 0) + rows
        if self._batched:
            return await self._batches(group, batch, scored, started_at)
        return list(self._predictions(group, batch, scored, started_at))

    async def _batches(self, group: _Group, batch: pa.RecordBatch, scored: Scored,
                       started_at: datetime) -> list[Outgoing]:
        """As few records as hold all rows, in the partition of their features."""
        now = self._desk.clock.now()
        late_s = np.array([max(0.0, now.timestamp() - record.timestamp_ms / 1000) for record in group.records])
        rows = pa.RecordBatch.from_pydict({
            predictions.EVENT_ID: batch.column(features.EVENT_ID), predictions.ENTITY: batch.column(features.ENTITY),
            predictions.OCCURRED_AT: batch.column(features.OCCURRED_AT),
            predictions.TRACEPARENT: self._spans.column(batch, scored.version_at, started_at),
            predictions.PREDICTED_AT: pa.array(np.full(batch.num_rows, np.datetime64(now.replace(tzinfo=None), "us")),
                                               batch.schema.field(features.OCCURRED_AT).type),
            predictions.LATENCY: np.repeat(late_s, [part.num_rows for part in group.batches])})
        values = scored.batches(rows, self._pipeline, self._desk.instance)
        made = await asyncio.to_thread(list, values) if batch.num_rows > INLINE_ROWS else list(values)
        headers = Envelope(traceparent=tracing.traceparent(), content_type=predictions.CONTENT_TYPE).to_headers()
        return [Outgoing(self._topic, value, None, headers, group.records[0].partition) for value in made]

    def _predictions(self, group: _Group, batch: pa.RecordBatch, scored: Scored,
                     started_at: datetime) -> Iterator[Outgoing]:
        """One record a row, in the partition of its features, which is its entity's in both topics. What all rows of a
        features record share is serialised once and appended to each."""
        headers = Envelope(source=f"lepton/{self._desk.instance}", event_type=EVENT_TYPE).to_headers()
        traces = self._spans.of(batch, scored.version_at, started_at)
        event_ids, entities = _texts(batch, features.EVENT_ID), _texts(batch, features.ENTITY)
        rows = zip(event_ids, entities, traces, scored.written(event_ids, entities), strict=True)
        for record, part in zip(group.records, group.batches, strict=True):
            shared = {version: self._shared(record, version) for version in scored.counts()}
            for event_id, entity, trace, (version, own) in itertools.islice(rows, part.num_rows):
                more = ((ID, event_id), *headers)
                yield Outgoing(self._topic, own + shared[version], entity,
                               more if trace is None else (*more, (TRACEPARENT, trace.encode())), record.partition)

    def _shared(self, record: Record, version: int) -> bytes:
        now = self._desk.clock.now()
        at = Timestamp()
        at.FromDatetime(now)
        return predictions_pb2.PredictionServed(
            model=self._pipeline, version=version, source=predictions_pb2.PREDICTION_SOURCE_STREAM, predicted_at=at,
            latency_s=max(0.0, now.timestamp() - record.timestamp_ms / 1000), instance=self._desk.instance,
        ).SerializeToString()


def _texts(batch: pa.RecordBatch, name: str) -> list[bytes]:
    """A column of texts in UTF-8."""
    texts: list[bytes] = batch.column(name).cast(pa.binary()).to_pylist()
    return texts


def scoring(broker: Broker, desk: Desk, pipeline: str, generation: int, *, batched: bool = False) -> LoopBody:
    """The loop that scores a pipeline, into batches or records: a stage, begun again when it could not start."""
    group = f"predictor.{pipeline}" if generation == 1 else f"predictor.{pipeline}.g{generation}"
    subscription = Subscription([topics.name(Topic.FEATURES, pipeline, generation)], group, desk.instance)

    async def run(stop: asyncio.Event) -> None:
        check = f"score {pipeline}"
        care = Care(desk.clock, desk.health.check(check, PROGRESS_S), desk.telemetry)
        scorer = Scorer(pipeline, generation, desk, DeadLetters("predictor", desk.clock), batched=batched)
        try:
            while not stop.is_set():
                stage = BatchStage(broker, subscription, scorer, care, writer_prefix=group, max_records=MAX_RECORDS)
                try:
                    await stage.run(stop)
                except LeptonError as error:
                    care.fail("scoring_waits", str(error), pipeline)
                    await pause(stop, AGAIN_S, desk.clock)
        finally:
            desk.health.forget(check)

    return run
