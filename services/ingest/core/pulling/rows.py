"""What a row of a foreign source becomes: an event with id, entity and JSON value, or why it cannot be one."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from lepton.contracts.pipeline import Pipeline
from lepton.contracts.reading.identity import MAX_ID_CHARACTERS, identifier
from lepton.contracts.source_blocks import LogSource, SourceSpec
from lepton.errors import Invalid

MAX_EVENT_BYTES = 1 << 20
"""The events topic takes more; a row beyond this is no event but a document."""
MAX_RAW_BYTES = 65_536
_DEEPEST = 32
_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the source gave it. `mark` says where it stood; with the source's name it is unique and stays so."""

    values: Mapping[str, Any]
    mark: str
    event_id: str | None = None
    """Said beside the values; the id member wins."""
    time: datetime | None = None
    traceparent: str | None = None
    textual: bool = False
    """Values are text that stands for what the field's type says."""


@dataclass(frozen=True, slots=True)
class Bad:
    """What stood where a row should have been."""

    raw: bytes
    reason: str
    mark: str


Item = Row | Bad


@dataclass(frozen=True, slots=True)
class PulledEvent:
    """`value` is a JSON object; `time` None: nothing is said beside the value."""

    event_id: str
    entity: str
    value: bytes
    time: datetime | None = None
    traceparent: str | None = None


class Rows:
    """Rows of one source under one version of its pipeline."""

    def __init__(self, pipeline: Pipeline, source: SourceSpec) -> None:
        events = pipeline.events
        self._name = source.name
        self._rename = source.rename
        self._id, self._entity, self._time = events.id, events.entity_member, events.time
        self._types = {name: spec.type for name, spec in events.fields.items()}
        if pipeline.label_field is not None and pipeline.label_type is not None:
            self._types[pipeline.label_field] = pipeline.label_type  # type: ignore[assignment]
        self._time_format = source.time_format if isinstance(source, LogSource) else None

    def event(self, row: Row) -> PulledEvent:
        """Raises Invalid, naming the member, for a row that cannot be an event at all."""
        values = self._members(row)
        given = values.get(self._id)
        event_id = _named(self._id, row.event_id if given is None else given) if given is not None or row.event_id \
            else self.made_id(row.mark)
        entity = event_id if self._entity == self._id else _named(self._entity, values.get(self._entity))
        try:
            value = msgspec.json.encode(values)
        except (ValueError, OverflowError, RecursionError) as error:
            raise Invalid(f"cannot be JSON: {error}") from error
        if len(value) > MAX_EVENT_BYTES:
            raise Invalid(f"is larger than {MAX_EVENT_BYTES} bytes as JSON")
        return PulledEvent(event_id, entity, value, row.time, row.traceparent)

    def made_id(self, mark: str) -> str:
        """The id of an event that has none: the same whenever the row is read again."""
        made = f"{self._name}/{mark}"
        if len(made) <= MAX_ID_CHARACTERS and made.isprintable():
            return made
        return f"{self._name}/{hashlib.sha256(mark.encode('utf-8', 'surrogatepass')).hexdigest()}"

    def _members(self, row: Row) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for column, value in row.values.items():
            member = self._rename.get(column, column)
            try:
                values[member] = self._typed(member, value) if row.textual else plain(value)
            except Invalid as error:
                raise Invalid(error.message, field=member, remedy=error.remedy) from error
        return values

    def _typed(self, member: str, text: Any) -> Any:
        """What the text stands for; what fits no better stays text, and the accept stage says what is wrong with it."""
        if not isinstance(text, str):
            return text
        if member == self._time and self._time_format is not None:
            return _moment(text, self._time_format)
        kind = self._types.get(member)
        if kind == "bool" and text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        try:
            if kind == "int":
                return int(text)
            if kind == "float" and math.isfinite(number := float(text)):
                return number
        except ValueError:
            return text
        return text


def plain(value: Any, depth: int = 0) -> Any:
    """A value of a database or decoder as JSON has it.

    Times are RFC 3339; without a zone they are taken as UTC, and a date is its midnight. Raises Invalid.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid(f"{value} is no JSON number", remedy="make it NULL in the source")
        return value
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, date):
        return rfc3339(datetime(value.year, value.month, value.day))
    if isinstance(value, time | UUID):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        raise Invalid("holds bytes, for which JSON has no form", remedy="leave the column out, or encode it in a query")
    return _nested(value, depth)


def _nested(value: Any, depth: int) -> Any:
    if depth >= _DEEPEST:
        raise Invalid(f"is nested deeper than {_DEEPEST}")
    if isinstance(value, Mapping):
        return {str(key): plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        ordered: Iterable[Any] = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [plain(one, depth + 1) for one in ordered]
    raise Invalid(f"is a {type(value).__name__}, for which JSON has no form", remedy="convert it in a query")


def rfc3339(moment: datetime) -> str:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.isoformat().replace("+00:00", "Z")


def _number(value: Decimal) -> int | float:
    if not value.is_finite():
        raise Invalid(f"{value} is no JSON number", remedy="make it NULL in the source")
    if value == value.to_integral_value() and value.adjusted() < 30:
        return int(value)
    return float(value)


def _moment(text: str, layout: str) -> str:
    try:
        return rfc3339(datetime.strptime(text, layout))
    except ValueError as error:
        raise Invalid(f"{text[:60]!r} is no time as time_format has it") from error


def _named(member: str, value: object) -> str:
    try:
        return identifier(value)
    except Invalid as error:
        raise Invalid(error.message, field=member) from error
