"""What runs for one pipeline generation: the accept stage, two segment writers and the summaries, begun and ended."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from lepton.bus.care import Care
from lepton.bus.consumer import Subscription
from lepton.bus.letters.refusing import DeadLetters, LineStopped
from lepton.bus.producer import Producer
from lepton.bus.records import Broker, Record
from lepton.bus.stage import BatchStage, Handler
from lepton.clock import Clock
from lepton.contracts import codec, features, names, topics
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.topics import Topic
from lepton.errors import LeptonError
from lepton.runtime.health import Health
from lepton.runtime.loops import Loop, LoopBody, pause
from lepton.runtime.telemetry import Telemetry
from services.ingest.edge.carrying import CarryHandler
from services.ingest.edge.counters import QualityCounters
from services.ingest.edge.events import AcceptHandler
from services.ingest.edge.segments import Bulk, SegmentWriter, Stream
from services.ingest.edge.topics import LineTopics
from services.ingest.flow.accepting import Accepting
from services.ingest.flow.keeping import FEATURES, OUTCOMES, Keeping
from services.ingest.flow.spec import Spec

AGAIN_S = 2.0
# Nobody makes the topics of a former generation anew.
GONE_LOOK_S = 15.0
STANDING_LOOK_S = 0.25
PAUSED_NOTE = "paused by command: events wait on their topic until `lepton pipelines resume {}`"
# A rebalance with a dead member takes the session timeout; a broker restart some seconds more.
ACCEPT_DEADLINE_S = 30.0
# The database may be away for a while: rows wait in the log, which keeps them for days.
KEEP_DEADLINE_S = 60.0

Spawn = Callable[[str, LoopBody], Loop]
Keep = Callable[[Callable[[], Spec]], Keeping]
"""How rows of a version, asked for each time, get into the store."""

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
    standstill: "Standstill"
    name: str

    async def resume(self) -> bool:
        return self.standstill.end()

    def hold(self, held: bool) -> None:
        self.standstill.hold(held)
        self.health.note(f"pipeline {self.name}", PAUSED_NOTE.format(self.name) if held else "")

    async def close(self) -> None:
        await asyncio.gather(*(loop.stop() for loop in self.loops))
        for check in self.checks:
            self.health.forget(check)
        self.health.note(f"pipeline {self.name}", "")


@dataclass(slots=True)
class Standstill:
    """What stands still once too much was refused, and how it goes on when somebody has looked."""

    dead_letters: DeadLetters
    topics: list[str] = field(default_factory=list)
    owned: "list[_Owned]" = field(default_factory=list)
    standing: int = 0
    held: bool = False
    """Nothing is taken in, by command."""
    ended: int = 0
    """How often it was ended: loops that wait for that compare."""

    def end(self) -> bool:
        """For a minute refusals do not count, so that what waits gets through; False where nothing stood still."""
        for topic in self.topics:
            self.dead_letters.lift(topic)
        moved = [one.stage.resume() for one in self.owned if one.stage is not None]
        self.ended += 1
        return any(moved) or self.standing > 0

    def hold(self, held: bool) -> None:
        """Take no more in, or take in again; a stage that is made later asks for it."""
        self.held = held
        for one in self.owned:
            if one.stage is not None:
                one.stage.hold(held)

    async def wait(self, stop: asyncio.Event, clock: Clock) -> None:
        """Until it is ended, or `stop`."""
        before = self.ended
        self.standing += 1
        while not stop.is_set() and self.ended == before:
            await pause(stop, STANDING_LOOK_S, clock)
        self.standing -= 1


@dataclass(slots=True)
class _Owned:
    """Partitions the accept stage holds; the segment writers follow it."""

    topic: str
    stage: BatchStage | None = field(default=None)

    def partitions(self) -> frozenset[int]:
        places = self.stage.places if self.stage is not None else ()
        return frozenset(place.partition for place in places if place.topic == self.topic)


def open_line(around: Surroundings, accepting: Accepting, keep: Keep) -> Line:
    """Begin the work for a pipeline generation; its topics exist or will soon."""
    spec = accepting.spec
    line = LineTopics.of(spec.name, spec.generation)
    handler = AcceptHandler(accepting, line, around.dead_letters, around.telemetry, around.clock)
    opened = _Opened(around, spec.name, Standstill(around.dead_letters, [line.events, line.labels, line.features,
                                                                         line.outcomes]))
    owned = opened.stage("accept", spec, line, lambda: handler)
    opened.writers("", line, keep(lambda: accepting.spec), owned)
    opened.loops.append(around.spawn(f"summarise {spec.name}", _summaries(around, accepting, opened.standstill)))
    # Of all that were, however close together they came: what the one before carried here is not all there is.
    later = spec
    while (former := later.former) is not None:
        _carry_over(opened, former, line, keep if later.keeps_rows else None)
        later = former
    return Line(opened.loops, opened.checks, around.health, opened.standstill, spec.name)


def _carry_over(opened: "_Opened", former: Spec, present: LineTopics, keep: Keep | None) -> None:
    """Take along what still arrives for a former generation, and store what that has accepted but not stored yet."""
    before = LineTopics.of(former.name, former.generation)
    owned = opened.stage(f"carry.g{former.generation}", former, before,
                         lambda: CarryHandler(former.name, before, present, opened.around.telemetry), former=True)
    if keep is not None:
        opened.writers(f".g{former.generation}", before, keep(lambda: former), owned)


@dataclass(slots=True)
class _Opened:
    """The loops of a line while it is put together, and their health checks."""

    around: Surroundings
    name: str
    standstill: Standstill
    loops: list[Loop] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)

    def stage(self, what: str, spec: Spec, line: LineTopics, handler: Callable[[], Handler], *,
              former: bool = False) -> _Owned:
        """A stage over events and labels in the name of a generation; who reads what it owns follows."""
        owned = _Owned(line.events)
        self.standstill.owned.append(owned)
        care = self._care(what, ACCEPT_DEADLINE_S)
        around, group = self.around, spec.group

        def make() -> LoopBody:
            subscription = Subscription([line.events, line.labels], group, f"{around.instance}.{spec.name}")
            owned.stage = BatchStage(around.broker, subscription, handler(), care, writer_prefix=group,
                                     max_records=around.pace.batch_records)
            owned.stage.hold(self.standstill.held)
            return owned.stage.run

        self._spawn(what, make, care, line.events if former else None)
        return owned

    def writers(self, suffix: str, line: LineTopics, keeping: Keeping, owned: _Owned) -> None:
        """What keeps features and outcomes."""
        for stream in (FEATURES, OUTCOMES):
            what = f"keep {stream}{suffix}"
            care = self._care(what, KEEP_DEADLINE_S)
            self._spawn(what, partial(self._writer, line, keeping, owned, stream, care), care,
                        line.features if suffix else None)

    def _writer(self, line: LineTopics, keeping: Keeping, owned: _Owned, stream: str, care: Care) -> LoopBody:
        return _writer(self.around, self.name, line, keeping, owned, stream, care).run

    def _spawn(self, what: str, make: Callable[[], LoopBody], care: Care, needs: str | None) -> None:
        made = make if needs is None else partial(_while_there, self.around, needs, make, care)
        waits = _patiently(made, care, self.standstill)
        self.loops.append(self.around.spawn(f"{what} {self.name}", waits))

    def _care(self, what: str, deadline_s: float) -> Care:
        check = f"{what} {self.name}"
        self.checks.append(check)
        return Care(self.around.clock, self.around.health.check(check, deadline_s), self.around.telemetry)


def _writer(around: Surroundings, name: str, line: LineTopics, keeping: Keeping, owned: _Owned, stream: str,
            care: Care) -> "SegmentWriter[bytes] | SegmentWriter[Outcome]":
    bulk = around.pace.bulk
    counter = around.telemetry.counter(names.SEGMENT_ROWS, "Rows appended to segments")
    client_id = f"{around.instance}.{name}.{stream}"

    def kept(rows: int) -> None:
        counter.add(rows, {names.PIPELINE: name, "stream": stream})

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


def _while_there(around: Surroundings, topic: str, make: Callable[[], LoopBody], care: Care) -> LoopBody:
    """What works on a topic that people may delete once they no longer need it: without it nothing is to be done."""
    async def body(stop: asyncio.Event) -> None:
        if await around.broker.describe_topics([topic]):
            await make()(stop)
            return
        care.beat()
        await pause(stop, GONE_LOOK_S, around.clock)

    return body


def _patiently(make: Callable[[], LoopBody], care: Care, standstill: Standstill) -> LoopBody:
    """A loop that begins anew after an outcome, and stands still while its line is stopped; a bug ends the process.

    A pipeline whose topics are gone, or not there yet, must not take the others down.
    """
    async def body(stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await make()(stop)
            except LineStopped as error:
                care.fail("line_stopped", str(error), error.place or "")
                await standstill.wait(stop, care.clock)
            except LeptonError as error:
                care.fail("line_waits", str(error), error.place or "")
                await pause(stop, AGAIN_S, care.clock)

    return body


def _summaries(around: Surroundings, accepting: Accepting, standstill: Standstill) -> LoopBody:
    counters = QualityCounters(around.telemetry)

    async def send(message: QualitySummary) -> None:
        spec = accepting.spec
        await around.producer.send(Topic.QUALITY, message, key=spec.name, pipeline=spec.name,
                                   generation=spec.generation)
        counters.count(message)

    async def body(stop: asyncio.Event) -> None:
        stopped = was_held = False
        while not stopped:
            stopped = await pause(stop, around.pace.summary_interval_s, around.clock)
            was_held = was_held or standstill.held
            if was_held:
                around.telemetry.measure(names.PAUSED, float(standstill.held), pipeline=accepting.spec.name)
            try:
                await accepting.summarise(around.instance, send)
            except LeptonError as error:
                # Its counts are in the next one.
                log.warning("no summary of %s: %s", topics.name(Topic.QUALITY, accepting.spec.name), error.message)

    return body
