"""Decides of each raw event whether it is accepted as typed values, or the one reason why not; no value is coerced."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import msgspec

from lepton.contracts.envelope import CONTENT_TYPE, ID, SOURCE, TIME, TRACEPARENT
from lepton.contracts.pipeline import Pipeline
from services.ingest.core.cloudevents import Envelope, Misfit, Mode, check_version, mode_of, opened
from services.ingest.core.reading.intake import (
    UNKNOWN_SOURCE,
    Intake,
    RawEvent,
    Rejected,
    Rejection,
    source_of,
)
from services.ingest.core.reading.moments import EDGES, epoch_us, no_time
from services.ingest.core.schema import MAX_ID_CHARS, members_of, struct_of

_MEMBER = re.compile(r"(?:at `\$\.([^`]*)`|field `([^`]*)`)")
_HEADERS, _VALUE = attrgetter("headers"), attrgetter("value")
_YEAR = attrgetter("year")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Validator:
    """Reads events of one Pipeline version. The struct it decodes into is made from the spec."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._id_member = pipeline.events.id
        self._entity_member = pipeline.events.entity_member
        self._time_member = pipeline.events.time
        # The struct bounds the length of a name, but not that of a field.
        self._entity_is_field = self._entity_member in pipeline.events.fields
        self._attributes = {member: f"m{index}" for index, member in enumerate(members_of(pipeline))}
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(struct_of(pipeline, self._attributes)).decode
        self._id = self.column(self._id_member)
        self._entity = self.column(self._entity_member)
        self._time = self.column(self._time_member)

    def column(self, member: str) -> Callable[[Any], Any]:
        """How to get a member's value (None when absent) from a decoded row."""
        return attrgetter(self._attributes[member])

    def read(self, events: Sequence[RawEvent], quarantined: frozenset[str] = frozenset()) -> Intake:
        """Every event is in the answer once: as a row, or as a rejection."""
        intake = Intake()
        self._decode_all(events, quarantined, intake)
        self._name_all(intake)
        self._date_all(events, intake)
        return intake

    def _decode_all(self, events: Sequence[RawEvent], quarantined: frozenset[str], intake: Intake) -> None:
        values = _plain_values(events) if not quarantined else None
        if values is None:
            self._decode_each(events, quarantined, intake)
        else:
            self._decode_plain(values, intake)

    def _decode_plain(self, values: list[bytes], intake: Intake) -> None:
        """The same without a step a row: what goes on between two bad ones is left to the interpreter's own loops."""
        rows, bad, left = intake.rows, list[int](), iter(values)
        while True:
            try:
                # A value that cannot be decoded ends this with the rows before it in the list and those after it left.
                rows.extend(map(self.decode, left))
                break
            except (ValueError, RecursionError) as error:
                bad.append(len(rows) + len(bad))
                intake.rejections.append(_because(bad[-1], explain(error), UNKNOWN_SOURCE))
        gone = set(bad)
        intake.positions = [place for place in range(len(values)) if place not in gone]
        intake.envelopes = [None] * len(rows)

    def _decode_each(self, events: Sequence[RawEvent], quarantined: frozenset[str], intake: Intake) -> None:
        decode = self.decode
        rows, positions, envelopes = intake.rows, intake.positions, intake.envelopes
        block_unknown = UNKNOWN_SOURCE in quarantined
        for position, event in enumerate(events):
            envelope = None
            try:
                value = event.value
                if event.headers:
                    envelope, value = self._unwrap(event)
                if quarantined and (envelope.source in quarantined if envelope else block_unknown):
                    raise Rejected("quarantined", "its source is quarantined")
                if value is None:
                    raise Rejected("malformed", "no value")
                if not value.isascii():
                    value.decode()  # msgspec does not look at the text of members it skips
                row = decode(value)
            except (Rejected, ValueError, RecursionError) as error:
                source = envelope.source if envelope is not None else source_of(event.headers)
                intake.rejections.append(_because(position, explain(error), source))
            else:
                rows.append(row)
                positions.append(position)
                envelopes.append(envelope)

    def _unwrap(self, event: RawEvent) -> tuple[Envelope, bytes | None]:
        told = dict(event.headers)
        check_version(told)
        mode = mode_of(told.get(CONTENT_TYPE))
        if mode in (Mode.UNKNOWN, Mode.ARROW):  # a stream is no single event
            shown = told[CONTENT_TYPE].decode("utf-8", "replace")
            raise Rejected("content_type", f"cannot read {shown!r}", CONTENT_TYPE)
        trace, time = told.get(TRACEPARENT), told.get(TIME)
        if mode is Mode.STRUCTURED and event.value is not None:
            envelope, value = opened(event.value, trace)
            # One that says no time says in a header when it first came, if it was carried over since.
            return envelope if envelope.time or time is None else envelope._replace(time=time.decode()), value
        source, event_id = told.get(SOURCE), told.get(ID)
        envelope = Envelope(source.decode() if source else UNKNOWN_SOURCE,
                            trace.decode("ascii", "replace") if trace else None,
                            event_id.decode() if event_id else None, time.decode() if time else None)
        return envelope, event.value

    def _name_all(self, intake: Intake) -> None:
        """Ids and entities as text; the rows without one become rejections."""
        ids = list(map(self._id, intake.rows))
        entities = ids if self._id_member == self._entity_member else list(map(self._entity, intake.rows))
        if set(map(type, ids)) | set(map(type, entities)) <= {str} and not _has_control(ids, entities) \
                and (not self._entity_is_field or set(map(len, entities)).issubset(range(1, MAX_ID_CHARS + 1))):
            intake.ids, intake.entities = ids, entities
            return
        kept: list[int] = []
        for index, envelope in enumerate(intake.envelopes):
            try:
                intake.ids.append(_name(ids[index], envelope.event_id if envelope else None, self._id_member))
                if entities is ids:
                    intake.entities.append(intake.ids[-1])
                else:
                    intake.entities.append(_name(entities[index], None, self._entity_member))
                kept.append(index)
            except Rejected as error:
                del intake.ids[len(kept):]
                source = envelope.source if envelope else UNKNOWN_SOURCE
                intake.rejections.append(_because(intake.positions[index], error, source))
        _keep(intake, kept)

    def _date_all(self, events: Sequence[RawEvent], intake: Intake) -> None:
        """Event times; the broker's where the event says none."""
        times = list(map(self._time, intake.rows))
        if set(map(type, times)) <= {datetime} and EDGES.isdisjoint(map(_YEAR, times)):
            intake.times = times
            return
        kept: list[int] = []
        for index, time in enumerate(times):
            envelope = intake.envelopes[index]
            try:
                if time is None and envelope is not None and envelope.time is not None:
                    time = _header_time(envelope.time)
                time = moment(time, events[intake.positions[index]], self._time_member)
            except Rejected as error:
                source = envelope.source if envelope else UNKNOWN_SOURCE
                intake.rejections.append(_because(intake.positions[index], error, source))
            else:
                intake.times.append(time)
                kept.append(index)
        if len(kept) < len(times):
            intake.ids = [intake.ids[index] for index in kept]
            intake.entities = [intake.entities[index] for index in kept]
            _keep(intake, kept)


def _plain_values(events: Sequence[RawEvent]) -> list[bytes] | None:
    """The values of events that are no more than UTF-8 text, as most are; None when one of them is."""
    if any(map(_HEADERS, events)):
        return None
    values = list(map(_VALUE, events))
    try:
        if not all(map(bytes.isascii, values)):
            # msgspec does not look at the text of members it skips.
            for value in values:
                value.decode()
    except (TypeError, AttributeError, UnicodeDecodeError):
        return None
    return values


def moment(time: datetime | float | None, event: RawEvent, member: str) -> datetime | int:
    """When something was: a datetime, or microseconds since the epoch; the broker's time where nothing is said."""
    if time is None:
        return event.timestamp_ms * 1000
    if not isinstance(time, datetime):
        return epoch_us(time, member)
    if time.year in EDGES:
        raise no_time(time, member)
    return time


def explain(error: Exception) -> Rejected:
    """The rejection behind an error of the decoder."""
    if isinstance(error, Rejected):
        return error
    if isinstance(error, UnicodeDecodeError):
        return Rejected("malformed", "not JSON: not UTF-8")
    if isinstance(error, Misfit):
        return Rejected("malformed", str(error))
    if isinstance(error, RecursionError):
        return Rejected("malformed", "nested too deep")
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Rejected("malformed", f"not JSON: {text.removeprefix('JSON is malformed: ')}")
    found = _MEMBER.search(text)
    member = (found.group(1) or found.group(2)) if found else None
    if member is not None and "[" in member:  # inside a list: it is the field as a whole that is not accepted
        code = "out_of_range" if "out of range" in text else "wrong_type"
        return Rejected(code, _said(text), member.partition("[")[0])
    return Rejected(_code(text), _said(text), member)


def _said(text: str) -> str:
    if text.startswith("Expected `str` of length >= 1"):
        return "is empty"
    return "is missing" if "missing required field" in text else text.partition(" - at `")[0]


def _code(text: str) -> str:
    if "missing required field" in text or "got `null` - at" in text:
        return "missing"
    if text.startswith("Invalid enum value"):
        return "unknown_category"
    if "out of range" in text or re.search(r"` [<>]=|length [<>]=", text):
        return "out_of_range"
    return "wrong_type"


def _because(position: int, error: Rejected, source: str) -> Rejection:
    return Rejection(position, error.code, str(error), error.field, source)


def _name(value: Any, fallback: str | None, member: str) -> str:
    name = fallback if value is None else str(value)
    if name is None:
        raise Rejected("missing", "is missing", member)
    if not name:
        raise Rejected("out_of_range", "is empty", member)
    if len(name) > MAX_ID_CHARS:
        raise Rejected("out_of_range", f"longer than {MAX_ID_CHARS} characters", member)
    if _CONTROL.search(name):
        raise Rejected("malformed", "holds control characters", member)
    return name


def _has_control(*columns: list[str]) -> bool:
    joined = ["".join(column) for column in columns]
    # The first test is fast and right nearly always; it also says no to some letters that are allowed.
    return any(not text.isprintable() and _CONTROL.search(text) for text in joined)


def header_us(text: str) -> int:
    """Microseconds since the epoch of a time in a header."""
    time = _header_time(text)
    if time.year in EDGES:
        raise Rejected("out_of_range", f"{text} is no time between the years 2 and 9998", TIME)
    return (time - _EPOCH) // timedelta(microseconds=1)


def _header_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Rejected("wrong_type", f"{text!r} is no RFC 3339 time", TIME) from None
    if time.tzinfo is None:
        raise Rejected("wrong_type", f"{text!r} has no time zone", TIME)
    return time


def _keep(intake: Intake, kept: list[int]) -> None:
    if len(kept) < len(intake.rows):
        for name in ("rows", "positions", "envelopes"):
            column = getattr(intake, name)
            setattr(intake, name, [column[index] for index in kept])
