"""How the records of a batch, whatever their form, become rows with typed columns in the order of their events."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.arrow.stream import count_rows
from lepton.contracts.envelope import CONTENT_TYPE, SOURCE, SPLIT_FROM, TIME
from lepton.contracts.pipeline import Pipeline
from lepton.errors import Invalid
from services.ingest.core.arrow.record import Opened, RecordReader, Refused, Rows
from services.ingest.core.cloudevents import Envelope, Mode, check_version, mode_of
from services.ingest.core.quality import Validator, explain, header_us
from services.ingest.core.reading.column import Wholes
from services.ingest.core.reading.columnar import odd_of
from services.ingest.core.reading.intake import UNKNOWN_SOURCE, RawEvent, Rejected, Rejection, source_of
from services.ingest.core.reading.lot import Lot, repeated, some
from services.ingest.core.reading.plain import Plain
from services.ingest.core.reading.values import Readings

# Of the columns of records that are read together: mostly all of a fetch, which every step then goes over once.
_TOGETHER_BYTES = 16 * 1024 * 1024


class Reader:
    """Reads records of one Pipeline version. Every event is in the answer once: as a row, a rejection or a stray."""

    def __init__(self, pipeline: Pipeline, validator: Validator, partitions: int,
                 passed_over: Collection[str] = ()) -> None:
        """`passed_over`: what the Pipeline does not name, and events may have all the same."""
        self._validator = validator
        self._plain = Plain.of(pipeline)
        self._readings = Readings(pipeline.fields, validator.column)
        self._records = RecordReader(pipeline, partitions, passed_over)
        label = pipeline.events.label
        with_event = label is not None and label.arrives == "with_event"
        self._label_of = validator.column(label.field) if label is not None and with_event else None

    def read(self, events: Sequence[RawEvent], partition: int, quarantined: frozenset[str] = frozenset()) -> Lot:
        odd = odd_of(events)
        # Once: a record may be made anew each time it is asked for, with its bytes.
        told = list(events) if any(odd) else []
        forms = list(map(_is_arrow, told))
        if not any(forms):
            return self._single(events, odd, quarantined)
        parts: list[Lot] = []
        start = 0
        for is_arrow, run in groupby(forms):
            stop = start + sum(1 for _ in run)
            if is_arrow:
                parts += self._several(told, range(start, stop), partition, quarantined)
            else:
                parts.append(self._single(events[start:stop], odd[start:stop], quarantined).shifted(start))
            start = stop
        return Lot.joined(parts)

    def _single(self, events: Sequence[RawEvent], odd: bytes, quarantined: frozenset[str]) -> Lot:
        """Of records of one event each."""
        if self._plain is None or UNKNOWN_SOURCE in quarantined:
            return self._each(events, quarantined)
        plain, others = self._plain.read(events, odd)
        if not len(others):
            return plain
        rest = self._each([events[place] for place in others.tolist()], quarantined).placed(others)
        if not len(rest):
            plain.rejections += rest.rejections
            return plain
        both = Lot.joined([plain, rest])
        return both.take(np.argsort(both.positions))

    def _each(self, events: Sequence[RawEvent], quarantined: frozenset[str]) -> Lot:
        """Those of them that are rows as Python objects first."""
        intake = self._validator.read(events, quarantined)
        self._readings.read(intake)
        intake.labels = list(map(self._label_of, intake.rows)) if self._label_of is not None else []
        return Lot.of(intake)

    def _several(self, events: Sequence[RawEvent], positions: Iterable[int], partition: int,
                 quarantined: frozenset[str]) -> Iterator[Lot]:
        """Of records of many; those in a row that have the same columns are read together."""
        waiting: list[_Record] = []
        for position in positions:
            record = self._opened(events[position], position, quarantined)
            if waiting and (isinstance(record, Rejection) or not _fits(waiting, record)):
                yield from self._together(waiting, partition)
                waiting = []
            if isinstance(record, Rejection):
                yield self._refused(record)
            else:
                waiting.append(record)
        if waiting:
            yield from self._together(waiting, partition)

    def _opened(self, event: RawEvent, position: int, quarantined: frozenset[str]) -> "_Record | Rejection":
        """What is wrong with the record itself refuses all of its events."""
        told = dict(event.headers)
        envelope = None
        try:
            check_version(told)
            envelope = _envelope(told)
            if (envelope.source if envelope is not None else UNKNOWN_SOURCE) in quarantined:
                raise Rejected("quarantined", "its source is quarantined")
            if event.value is None:
                raise Rejected("malformed", "no value")
            time_us = header_us(envelope.time) if envelope is not None and envelope.time is not None \
                else event.timestamp_ms * 1000
            return _Record(position, event, envelope.source if envelope is not None else UNKNOWN_SOURCE, time_us,
                           SPLIT_FROM in told, self._records.open(event.value))
        except (Invalid, Rejected, ValueError) as error:
            source = envelope.source if envelope is not None else source_of(event.headers)
            return _rejection(position, event, error, source)

    def _together(self, records: "list[_Record]", partition: int) -> "Iterator[Lot]":
        try:
            rows = self._records.read([one.opened for one in records], partition, split_before=records[0].split_before)
        except (Invalid, ValueError) as error:
            if len(records) == 1:
                yield self._refused(_rejection(records[0].position, records[0].event, error, records[0].source))
            else:
                # What one of them cannot be read for is no reason to refuse the others.
                for one in records:
                    yield from self._together([one], partition)
        else:
            yield _lot(records, rows)

    def _refused(self, rejection: Rejection) -> Lot:
        none = pa.array([], pa.string())
        whole = np.zeros(0, np.int64)
        return Lot(none, none, whole, whole, none, self._readings.values([]), [rejection], numbers=whole)


@dataclass(frozen=True, slots=True)
class _Record:
    """A record of several events that could be opened, and what its headers say of all of them."""

    position: int
    event: RawEvent
    source: str
    time_us: int
    split_before: bool
    opened: Opened


def _fits(records: Sequence[_Record], another: _Record) -> bool:
    """Whether it can be read together with these."""
    first = records[0]
    return (first.split_before == another.split_before and first.opened.table.schema.equals(another.opened.table.schema)
            and sum(one.opened.size_bytes for one in records) + another.opened.size_bytes <= _TOGETHER_BYTES)


def _rejection(position: int, event: RawEvent, error: Exception, source: str) -> Rejection:
    why = Rejected("wrong_type" if error.field else "malformed", error.message, error.field) \
        if isinstance(error, Invalid) else explain(error)
    return Rejection(position, why.code, str(why), why.field, source, events=count_rows(event.value or b""))


def _is_arrow(event: RawEvent) -> bool:
    for name, value in event.headers:
        if name == CONTENT_TYPE:
            return mode_of(value) is Mode.ARROW
    return False


def _envelope(told: dict[str, bytes]) -> Envelope | None:
    """What the headers say of all rows. The record's own trace is that of its batch, not of a row."""
    source, time = told.get(SOURCE), told.get(TIME)
    if not source and not time:
        return None
    return Envelope(source.decode() if source else UNKNOWN_SOURCE, None, None, time.decode() if time else None)


def _lot(records: Sequence[_Record], rows: Rows) -> Lot:
    sizes = [one.opened.table.num_rows for one in records]
    starts = np.concatenate(([0], np.cumsum(sizes)))
    # Which of the records each row is of.
    mine = np.repeat(np.arange(len(records)), sizes)[rows.numbers]
    positions = np.array([one.position for one in records], np.int64)
    times = pc.if_else(rows.times.is_valid(), rows.times, pa.array(np.array([one.time_us for one in records])[mine]))
    sources = repeated(records[0].source, len(mine)) if len({one.source for one in records}) == 1 \
        else pa.array([one.source for one in records], pa.string()).take(pa.array(mine))
    return Lot(
        rows.ids, rows.entities, times.to_numpy(), positions[mine], sources, rows.values,
        _rejections(records, starts, rows.refused), rows.repairs, rows.labels,
        some(rows.traces or []), rows.numbers - starts[mine],
        {one.position: one.opened.table for one in records},
        [(records[number].position, stray) for number, stray in rows.strays])


def _rejections(records: Sequence[_Record], starts: Wholes, refused: Sequence[Refused]) -> list[Rejection]:
    numbers = np.searchsorted(starts, [one.row for one in refused], "right") - 1
    firsts = starts[numbers].tolist()
    return [Rejection(records[number].position, one.code, one.message, one.field, records[number].source,
                      one.row - first)
            for number, first, one in zip(numbers.tolist(), firsts, refused, strict=True)]
