"""What runs for one pipeline generation: the accept stage, two segment writers and the summaries, begun and ended."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from lepton.bus.care import Care
from lepton.bus.consumer import Subscription
from lepton.bus.deadletter import DeadLetters, LineStopped
from lepton.bus.producer import Producer
from lepton.bus.records import Broker, Record
from lepton.bus.stage import BatchStage
from lepton.clock import Clock
from lepton.contracts import codec, features, names, topics
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.topics import Topic
from lepton.errors import LeptonError
from lepton.runtime.health import Health
from lepton.runtime.loops import Loop, LoopBody, pause
from lepton.runtime.telemetry import Telemetry
from services.ingest.edge.counters import QualityCounters
from services.ingest.edge.events import AcceptHandler, LineTopics
from services.ingest.edge.segments import Bulk, SegmentWriter, Stream
from services.ingest.flow.accepting import Accepting
from services.ingest.flow.keeping import FEATURES, OUTCOMES, Keeping

AGAIN_S = 2.0
# A rebalance with a dead member takes the session timeout; a broker restart some seconds more.
ACCEPT_DEADLINE_S = 30.0
# The database may be away for a while: rows wait in the log, which keeps them for days.
KEEP_DEADLINE_S = 60.0

Spawn = Callable[[str, LoopBody], Loop]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How much a line takes at once, and how often it speaks."""

    batch_records: int
    summary_interval_s: float
    bulk: Bulk


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every line of this process shares. `dead_letters` counts across lines, topic by topic."""

    instance: str
    pace: Pace
    clock: Clock
    health: Health
    telemetry: Telemetry
    broker: Broker
    producer: Producer
    spawn: Spawn
    dead_letters: DeadLetters


@dataclass(slots=True)
class Line:
    """A `services.ingest.flow.ingest.Line`."""

    loops: list[Loop]
    checks: list[str]
    health: Health

    async def close(self) -> None:
        await asyncio.gather(*(loop.stop() for loop in self.loops))
        for check in self.checks:
            self.health.forget(check)


@dataclass(slots=True)
class _Owned:
    """Partitions the accept stage holds; the segment writers follow it."""

    topic: str
    stage: BatchStage | None = field(default=None)

    def partitions(self) -> frozenset[int]:
        places = self.stage.places if self.stage is not None else ()
        return frozenset(place.partition for place in places if place.topic == self.topic)


def open_line(around: Surroundings, accepting: Accepting, keeping: Keeping) -> Line:
    """Begin the work for a pipeline generation; its topics exist or will soon."""
    spec = accepting.spec
    line = LineTopics.of(spec.name, spec.generation)
    owned = _Owned(line.events)
    cares = {check: Care(around.clock, around.health.check(f"{check} {spec.name}", deadline_s), around.telemetry)
             for check, deadline_s in (("accept", ACCEPT_DEADLINE_S), ("keep features", KEEP_DEADLINE_S),
                                       ("keep outcomes", KEEP_DEADLINE_S))}

    def accept() -> LoopBody:
        owned.stage = _stage(around, accepting, line, cares["accept"])
        return owned.stage.run

    def writer(stream: str) -> Callable[[], LoopBody]:
        return lambda: _writer(around, accepting, line, keeping, owned, stream, cares[f"keep {stream}"]).run

    loops = [around.spawn(f"{what} {spec.name}", _patiently(make, cares[what])) for what, make in (
        ("accept", accept), (f"keep {FEATURES}", writer(FEATURES)), (f"keep {OUTCOMES}", writer(OUTCOMES)))]
    loops.append(around.spawn(f"summarise {spec.name}", _summaries(around, accepting)))
    return Line(loops, [f"{check} {spec.name}" for check in cares], around.health)


def _stage(around: Surroundings, accepting: Accepting, line: LineTopics, care: Care) -> BatchStage:
    handler = AcceptHandler(accepting, line, around.dead_letters, around.telemetry, around.clock)
    group = accepting.spec.group
    client_id = f"{around.instance}.{accepting.spec.name}"
    return BatchStage(around.broker, Subscription([line.events, line.labels], group, client_id), handler, care,
                      writer_prefix=group, max_records=around.pace.batch_records)


def _writer(around: Surroundings, accepting: Accepting, line: LineTopics, keeping: Keeping, owned: _Owned, stream: str,
            care: Care) -> "SegmentWriter[bytes] | SegmentWriter[Outcome]":
    bulk = around.pace.bulk
    counter = around.telemetry.counter(names.SEGMENT_ROWS, "Rows appended to segments")
    client_id = f"{around.instance}.{accepting.spec.name}.{stream}"

    def kept(rows: int) -> None:
        counter.add(rows, {names.PIPELINE: accepting.spec.name, "stream": stream})

    async def next_offset(partition: int) -> int:
        return await keeping.next_offset(stream, partition)

    if stream == FEATURES:
        rows = Stream(line.features, _feature_rows, _count, _schema, next_offset, keeping.keep_features, kept)
        return SegmentWriter(around.broker, rows, bulk, care, client_id=client_id, owned=owned.partitions,
                             dead_letters=around.dead_letters)
    labels = Stream(line.outcomes, _outcome, lambda _: 1, lambda one: one.WhichOneof("label"), next_offset,
                    keeping.keep_outcomes, kept)
    return SegmentWriter(around.broker, labels, bulk, care, client_id=client_id, owned=owned.partitions,
                         dead_letters=around.dead_letters)


def _feature_rows(record: Record) -> bytes:
    features.decode_batch(record.value or b"")
    return record.value or b""


def _count(value: bytes) -> int:
    return int(features.decode_batch(value).num_rows)


def _schema(value: bytes) -> object:
    schema = features.decode_batch(value).schema
    return schema.names, features.spec_version(schema)


def _outcome(record: Record) -> Outcome:
    return codec.decode_as(Topic.OUTCOMES, Outcome, record.value or b"")


def _patiently(make: Callable[[], LoopBody], care: Care) -> LoopBody:
    """A loop that begins anew after an outcome, and stands still after a stopped line; a bug still ends the process.

    A pipeline whose topics are gone, or not there yet, must not take the others down.
    """
    async def body(stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await make()(stop)
            except LineStopped as error:
                care.fail("line_stopped", str(error), error.place or "")
                await stop.wait()
            except LeptonError as error:
                care.fail("line_waits", str(error), error.place or "")
                await pause(stop, AGAIN_S, care.clock)

    return body


def _summaries(around: Surroundings, accepting: Accepting) -> LoopBody:
    counters = QualityCounters(around.telemetry)

    async def send(message: QualitySummary) -> None:
        spec = accepting.spec
        await around.producer.send(Topic.QUALITY, message, key=spec.name, pipeline=spec.name,
                                   generation=spec.generation)
        counters.count(message)

    async def body(stop: asyncio.Event) -> None:
        stopped = False
        while not stopped:
            stopped = await pause(stop, around.pace.summary_interval_s, around.clock)
            try:
                await accepting.summarise(around.instance, send)
            except LeptonError as error:
                # Its counts are in the next one.
                log.warning("no summary of %s: %s", topics.name(Topic.QUALITY, accepting.spec.name), error.message)

    return body
