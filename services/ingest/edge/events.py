"""The accept stage's wire: records of the events and labels topics in; features, outcomes, dead letters, state out."""

from collections.abc import Sequence

import pyarrow as pa

from lepton.bus.letters.refusing import DeadLetters, Refusal
from lepton.bus.records import Headers, Outgoing, Place, Record
from lepton.bus.table import StateReader
from lepton.clock import Clock
from lepton.contracts import codec, features, names
from lepton.contracts.envelope import CONTENT_TYPE, SPLIT_FROM, Envelope, with_time
from lepton.contracts.topics import Topic
from lepton.runtime import tracing
from lepton.runtime.telemetry import Telemetry
from services.ingest.edge.topics import LineTopics
from services.ingest.flow.accepting import Accepting, Results

QUARANTINED, DUPLICATE_CONTENT = "quarantined", "duplicate_content"
# Refusals a pipeline asks for; they are no sign of trouble, so the limit of dead letters leaves them out.
ASKED_FOR = frozenset({QUARANTINED, DUPLICATE_CONTENT})
JSON = "application/json"
GIVE_BACK_S = 2.0


class AcceptHandler:
    """A `lepton.bus.stage.Handler`: everything a batch leads to is in what `handle` returns."""

    def __init__(self, accepting: Accepting, line: LineTopics, dead_letters: DeadLetters, telemetry: Telemetry,
                 clock: Clock) -> None:
        self._accepting = accepting
        self._line = line
        self._dead_letters = dead_letters
        self._clock = clock
        self._rows = telemetry.counter(names.INGEST_ROWS, "Rows judged")
        self._labels = telemetry.counter(names.INGEST_LABELS, "Late labels judged")
        self._seconds = telemetry.histogram(names.INGEST_BATCH_SECONDS, "From a polled batch to its transaction's end")
        self._begun: dict[Place, tuple[float, Results]] = {}
        self._gave_back = clock.monotonic()

    async def restore(self, place: Place, state: StateReader) -> None:
        latest = await state.latest(self._line.state, place.partition)
        records = {key: record.value for key, record in latest.items() if record.value is not None}
        if place.topic == self._line.labels:
            self._accepting.restore_labels(place.partition, records)
        else:
            self._accepting.restore_events(place.partition, records)

    async def handle(self, place: Place, records: Sequence[Record]) -> list[Outgoing]:
        begun = self._clock.monotonic()
        judge = self._accepting.label if place.topic == self._line.labels else self._accepting.accept
        results = await judge(place.partition, records)
        self._begun[place] = (begun, results)
        return [*self._features(place, results), *self._outcomes(records, results),
                *self._letters(records, results), *self._strays(records, results),
                *(Outgoing(self._line.state, value, key, (), place.partition) for key, value in results.state)]

    async def committed(self, place: Place) -> None:
        if place.topic == self._line.labels:
            self._accepting.keep_labels(place.partition)
        else:
            self._accepting.keep_events(place.partition)
        begun, results = self._begun.pop(place)
        self._count(place, results)
        now = self._clock.monotonic()
        self._seconds.record(now - begun, {names.PIPELINE: self._accepting.spec.name})
        if now - self._gave_back >= GIVE_BACK_S:
            # Columns of batches come and go in all sizes, and Arrow's allocator holds on to what they leave: resident
            # memory crept up by 5 % in two million events while what was in use stayed the same.
            pa.default_memory_pool().release_unused()
            self._gave_back = now

    async def aborted(self, place: Place) -> None:
        self._begun.pop(place, None)
        if place.topic == self._line.labels:
            self._accepting.drop_labels(place.partition)
        else:
            self._accepting.drop_events(place.partition)

    async def released(self, place: Place) -> None:
        self._begun.pop(place, None)
        if place.topic == self._line.labels:
            self._accepting.release_labels(place.partition)
        else:
            self._accepting.release_events(place.partition)

    def _features(self, place: Place, results: Results) -> list[Outgoing]:
        if not results.features:
            return []
        headers = Envelope(spec_version=self._accepting.spec.version, traceparent=tracing.traceparent(),
                           content_type=features.CONTENT_TYPE).to_headers()
        return [Outgoing(self._line.features, value, None, headers, place.partition) for value in results.features]

    def _outcomes(self, records: Sequence[Record], results: Results) -> list[Outgoing]:
        if not results.outcomes:
            return []
        here = tracing.traceparent()
        version = self._accepting.spec.version
        shared = Envelope(spec_version=version, traceparent=here).to_headers()
        found = []
        for outcome in results.outcomes:
            trace = results.traces.get(outcome.event_id)
            headers: Headers = shared if trace is None else Envelope(
                spec_version=version, traceparent=trace).to_headers()
            found.append(Outgoing(self._line.outcomes, codec.encode(Topic.OUTCOMES, outcome),
                                  outcome.event_id.encode(), headers))
        return found

    def _letters(self, records: Sequence[Record], results: Results) -> list[Outgoing]:
        """Raises LineStopped when too many were refused lately."""
        alone: dict[tuple[int, str], Headers] = {}
        # Once, though many of its rows may be refused: it may be made anew, bytes and all, each time it is asked for.
        refused = {place: records[place] for place in {rejection.position for rejection in results.rejections}}
        found = []
        for one in results.rejections:
            record = refused[one.position]
            headers: Headers = ()
            if one.original is not None:
                media = JSON if one.original.startswith(b"{") else features.CONTENT_TYPE
                headers = alone.get((one.position, media)) or alone.setdefault(
                    (one.position, media), _alone(record, media))
            found.append(Refusal(record, f"{one.code}: {one.message}", one.field, one.row, one.original, headers,
                                 one.code not in ASKED_FOR))
        return self._dead_letters.letters(found) if found else []

    def _strays(self, records: Sequence[Record], results: Results) -> list[Outgoing]:
        """Rows on their way to the partition of their entities, with all that was said of their record."""
        return [Outgoing(self._line.events, stray.data, None, _moved(records[position]), stray.partition)
                for position, stray in results.strays]

    def _count(self, place: Place, results: Results) -> None:
        counter = self._labels if place.topic == self._line.labels else self._rows
        tally = results.tally
        for verdict, count in (("accepted", tally.accepted), ("rejected", tally.rejected),
                               ("duplicate", tally.duplicates), (DUPLICATE_CONTENT, tally.content_duplicates),
                               (QUARANTINED, tally.quarantined)):
            if count:
                counter.add(count, {names.PIPELINE: self._accepting.spec.name, "verdict": verdict})


def _alone(record: Record, media: str) -> Headers:
    """Of the record as if it had held one row only, so that its letter can be read, mended and replayed alone."""
    headers = tuple(pair for pair in record.headers if pair[0] not in (CONTENT_TYPE, SPLIT_FROM))
    return (*headers, (CONTENT_TYPE, media.encode()))


def _moved(record: Record) -> Headers:
    """Its headers, where its rows come from, and when they came: rows without a time have the time of their record."""
    return (*with_time(record.headers, record.timestamp_ms), (SPLIT_FROM, record.place.encode()))
