"""What a posted body means: events and labels as records to write, or every reason why not.

Values of fields are not looked at: that is ingest's work. Here an event only needs what its record is keyed by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import msgspec

from lepton.contracts.pipeline import Pipeline, Problem
from lepton.contracts.reading.identity import identifier
from lepton.errors import Invalid

Form = Literal["json", "ndjson", "cloudevent", "cloudevents", "arrow"]
JSON = "application/json"
CLOUDEVENT = "application/cloudevents+json"
MAX_PROBLEMS = 100

Members = Mapping[str, msgspec.Raw]
ReadItem = Callable[["Members", bytes], "NewRecord"]
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Written:
    """A record that is durable on the log: `place` is `topic/partition@offset`."""

    event_id: str
    place: str


class InvalidBody(Invalid):
    """A body of which something can never be accepted; `problems` holds all of it, nothing was written."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        more = f" and {len(problems) - 1} more problems" if len(problems) > 1 else ""
        super().__init__(first.message + more, field=first.path, remedy=first.remedy or None,
                         place=f"line {first.line}" if first.line else None)
        self.problems = list(problems[:MAX_PROBLEMS])


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it was sent. `attributes` are CloudEvents attributes from headers, by name without `ce-`."""

    form: Form
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewRecord:
    """One event or label to write. None: not said by the client."""

    event_id: str
    key: str
    value: bytes
    content_type: str
    source: str | None = None
    event_type: str | None = None
    occurred_at: datetime | None = None


def events(pipeline: Pipeline, body: Body) -> list[NewRecord]:
    """Raises InvalidBody. An event whose id member is missing takes the CloudEvents id, when there is one."""
    structured = body.form in ("cloudevent", "cloudevents")
    read = _structured_event if structured else _plain_event
    return _each(body, lambda members, raw: read(pipeline, body.attributes, members, raw))


def labels(pipeline: Pipeline, body: Body) -> list[NewRecord]:
    """Raises InvalidBody, and Invalid for a pipeline that has no label."""
    if pipeline.label_field is None:
        raise Invalid(f"pipeline {pipeline.name} has no label", field="events.label", remedy="declare one in its spec")
    return _each(body, lambda members, raw: _label(members, raw))


class _Wrong(Exception):
    """One problem of one item, found while reading it."""

    def __init__(self, path: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.problem = (path, message, remedy)


def _each(body: Body, read: ReadItem) -> list[NewRecord]:
    found: list[NewRecord] = []
    problems: list[Problem] = []
    for prefix, line, raw in _items(body, problems):
        try:
            found.append(read(_object(raw), raw))
        except (_Wrong, RecursionError) as wrong:
            path, message, remedy = wrong.problem if isinstance(wrong, _Wrong) else ("", "is nested too deep", "")
            whole = f"{prefix}{path}" if path else prefix.rstrip(".") or "(body)"
            problems.append(Problem(whole, line, message, remedy))
    if not found and not problems:
        problems.append(Problem("(body)", 0, "there is nothing in it", "send at least one"))
    if problems:
        raise InvalidBody(problems)
    return found


def _items(body: Body, problems: list[Problem]) -> list[tuple[str, int, bytes]]:
    """Path prefix, line (0: unknown) and text of each item."""
    if body.form == "ndjson":
        lines = body.data.split(b"\n")
        return [("", number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if body.form == "cloudevent" or not body.data.lstrip().startswith(b"["):
        return [("", 0, body.data)]
    try:
        return [(f"[{index}].", 0, bytes(raw)) for index, raw in enumerate(_array.decode(body.data))]
    except (msgspec.DecodeError, RecursionError) as error:
        problems.append(Problem("(body)", 0, f"not JSON: {error}"))
        return []


def _object(raw: bytes) -> Members:
    try:
        if not raw.isascii():
            # The decoder does not look at the text of members it passes on as they are.
            raw.decode()
        return _members.decode(raw)
    except UnicodeDecodeError as error:
        raise _Wrong("", "not JSON: not UTF-8") from error
    except msgspec.ValidationError as error:
        raise _Wrong("", "must be a JSON object") from error
    except msgspec.DecodeError as error:
        raise _Wrong("", f"not JSON: {error}") from error


def _plain_event(pipeline: Pipeline, attributes: Mapping[str, str], members: Members, raw: bytes) -> NewRecord:
    names = pipeline.events
    event_id = _identifier(members, names.id, attributes.get("id"))
    entity = event_id if names.entity_member == names.id else _identifier(members, names.entity_member)
    return NewRecord(event_id, entity, raw, JSON, attributes.get("source"), attributes.get("type"),
                     _moment(attributes.get("time"), "ce-time"))


def _structured_event(pipeline: Pipeline, attributes: Mapping[str, str], members: Members, raw: bytes) -> NewRecord:
    version = _text(members, "specversion")
    if version != "1.0":
        raise _Wrong("specversion", f"CloudEvents version {version!r} is not 1.0")
    ce_id, source, event_type = _text(members, "id"), _text(members, "source"), _text(members, "type")
    if "data" not in members:
        raise _Wrong("data", "is missing", "put the event's fields into the JSON object `data`")
    try:
        data = _object(bytes(members["data"]))
    except _Wrong as wrong:
        raise _Wrong("data", wrong.problem[1]) from wrong
    names = pipeline.events
    event_id = _identifier(data, names.id, ce_id, prefix="data.")
    same = names.entity_member == names.id
    entity = event_id if same else _identifier(data, names.entity_member, prefix="data.")
    moment = _moment(_text(members, "time"), "time") if "time" in members else None
    return NewRecord(event_id, entity, raw, CLOUDEVENT, source, event_type, moment)


def _label(members: Members, raw: bytes) -> NewRecord:
    event_id = _identifier(members, "event_id")
    if "label" not in members or bytes(members["label"]) == b"null":
        raise _Wrong("label", "is missing", "send the value that turned out to be true")
    return NewRecord(event_id, event_id, raw, JSON)


def _identifier(members: Members, name: str, instead: str | None = None, *, prefix: str = "") -> str:
    """Text or whole number that names something. A number stands for its digits."""
    value = msgspec.json.decode(members[name]) if name in members else None
    try:
        return identifier(instead if value is None else value)
    except Invalid as error:
        missing = value is None and instead is None
        raise _Wrong(prefix + name, error.message, f"send `{name}` with each one" if missing else "") from error


def _text(members: Members, name: str) -> str:
    value = msgspec.json.decode(members[name]) if name in members else None
    if not isinstance(value, str) or not value:
        raise _Wrong(name, "must be text that is not empty", "CloudEvents 1.0 requires it")
    return value


def _moment(text: str | None, path: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _Wrong(path, "must be an RFC 3339 time") from error
    if moment.tzinfo is None:
        raise _Wrong(path, "has no time zone", "add one, as in 2026-01-31T12:00:00Z")
    return moment
