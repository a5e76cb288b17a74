"""How the records of a batch, whatever their form, become rows with typed columns in the order of their events."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

import numpy as np

from lepton.contracts.arrow.stream import count_rows
from lepton.contracts.envelope import CONTENT_TYPE, SOURCE, SPLIT_FROM, TIME
from lepton.contracts.pipeline import Pipeline
from lepton.errors import Invalid
from services.ingest.core.arrow.record import RecordReader, Rows, originals
from services.ingest.core.cloudevents import Envelope, Mode, check_version, mode_of
from services.ingest.core.quality import Validator, explain, header_us, source_of
from services.ingest.core.reading.intake import UNKNOWN_SOURCE, Intake, RawEvent, Rejected, Rejection
from services.ingest.core.reading.values import Readings

_HEADERS = attrgetter("headers")


class Reader:
    """Reads records of one Pipeline version. Every event is in the answer once: as a row, a rejection or a stray."""

    def __init__(self, pipeline: Pipeline, validator: Validator, partitions: int) -> None:
        self._validator = validator
        self._readings = Readings(pipeline.fields, validator.column)
        self._records = RecordReader(pipeline, partitions)
        label = pipeline.events.label
        with_event = label is not None and label.arrives == "with_event"
        self._label_of = validator.column(label.field) if label is not None and with_event else None

    def read(self, events: Sequence[RawEvent], partition: int, quarantined: frozenset[str] = frozenset()) -> Intake:
        forms = [_is_arrow(event) for event in events] if any(map(_HEADERS, events)) else []
        if not any(forms):
            return self._single(events, quarantined)
        whole = Intake(row_numbers=[])
        parts: list[Intake] = []
        start = 0
        for is_arrow, run in groupby(forms):
            stop = start + sum(1 for _ in run)
            if is_arrow:
                parts += [self._several(events[at], at, partition, quarantined) for at in range(start, stop)]
            else:
                part = self._single(events[start:stop], quarantined)
                part.shift(start)
                parts.append(part)
            start = stop
        whole.join(parts)
        return whole

    def _single(self, events: Sequence[RawEvent], quarantined: frozenset[str]) -> Intake:
        """Of records of one event each."""
        intake = self._validator.read(events, quarantined)
        self._readings.read(intake)
        intake.labels = list(map(self._label_of, intake.rows)) if self._label_of is not None else []
        return intake

    def _several(self, event: RawEvent, position: int, partition: int, quarantined: frozenset[str]) -> Intake:
        """Of a record of many. What is wrong with the record itself refuses all of them."""
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
            rows = self._records.read(event.value, partition, split_before=SPLIT_FROM in told)
        except Invalid as error:
            why = Rejected("wrong_type" if error.field else "malformed", error.message, error.field)
        except (Rejected, ValueError) as error:
            why = explain(error)
        else:
            return _intake(rows, position, envelope, time_us)
        source = envelope.source if envelope is not None else source_of(event.headers)
        return Intake(values=self._readings.values([]), row_numbers=[], rejections=[
            Rejection(position, why.code, str(why), why.field, source, events=count_rows(event.value or b""))])


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


def _intake(rows: Rows, position: int, envelope: Envelope | None, time_us: int) -> Intake:
    size = len(rows.ids)
    source = envelope.source if envelope is not None else UNKNOWN_SOURCE
    envelopes: list[Envelope | None] = [envelope] * size
    if rows.traces is not None and any(rows.traces):
        envelopes = [envelope if trace is None else Envelope(source, trace) for trace in rows.traces]
    times = np.asarray(rows.times.fill_null(time_us)).tolist()
    return Intake(
        positions=[position] * size, envelopes=envelopes, ids=rows.ids, entities=rows.entities, times=times,
        rejections=[Rejection(position, one.code, one.message, one.field, source, one.row) for one in rows.refused],
        values=rows.values, repairs=rows.repairs, labels=rows.labels, row_numbers=rows.numbers.tolist(),
        tables={position: rows.table},
        strays=[(position, stray) for stray in rows.strays])


def with_originals(intake: Intake) -> None:
    """Give each rejection of a single row the values of that row as they came."""
    rows: dict[int, list[tuple[int, int]]] = {}
    for index, rejection in enumerate(intake.rejections):
        if rejection.row is not None:
            rows.setdefault(rejection.position, []).append((index, rejection.row))
    for position, mine in rows.items():
        for (index, _), original in zip(mine, originals(intake.tables[position], [row for _, row in mine]),
                                        strict=True):
            intake.rejections[index] = replace(intake.rejections[index], original=original)
