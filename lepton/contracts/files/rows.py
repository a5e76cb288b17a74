"""Which event a row of a file is: columns as members, text as typed values, and an id that is always the same."""

import base64
import csv
import hashlib
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from lepton.contracts.files.naming import plain_name
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import FieldSpec
from lepton.errors import Invalid

ORIGIN: Final = "lepton-row"
"""Header of an event that came from a file: `name:row`, rows counted from 1."""

MISSING_TEXTS: Final = frozenset({"NA", "N/A", "NaN", "nan", "null", "NULL", "None"})
"""Beside nothing at all, what stands for a missing value in a CSV column that is no text."""

MAX_ID_CHARACTERS: Final = 256
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_TRUTHS: Final = {"true": True, "false": False, "1": True, "0": False}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_encode: Final = msgspec.json.Encoder()
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileEvent:
    """A row as an event: `key` is its entity, `value` its JSON. The id is not in the value where the file has none.

    `label`: what goes to the labels topic, where the pipeline's labels come later and the row has one.
    """

    event_id: str
    key: str
    value: bytes
    label: bytes | None = None


class Rows:
    """Turns rows of one file into events of one Pipeline version. `file_id` begins the ids of rows that have none."""

    def __init__(self, pipeline: Pipeline, file_id: str) -> None:
        events = pipeline.events
        self._id, self._entity = events.id, events.entity_member
        self._file_id = file_id
        self._specs: dict[str, FieldSpec] = dict(events.fields)
        label = events.label
        if label is not None and label.field not in self._specs and pipeline.label_type is not None:
            self._specs[label.field] = FieldSpec(type=pipeline.label_type)  # type: ignore[arg-type]
        self._later = label.field if label is not None and label.arrives == "later" else None
        self._time = events.time
        self._known = {self._id, self._entity, self._time, *self._specs}

    def columns(self, names: Sequence[str]) -> list[str | None]:
        """The member each column is; None for one that is no member of the pipeline.

        A column is a member of its name, else of its `plain_name`.

        Raises Invalid when two columns are one member, or when the entity is none of them.
        """
        found: list[str | None] = [name if name in self._known else None for name in names]
        for index, name in enumerate(names):
            plain = plain_name(name)
            if found[index] is None and plain in self._known and plain not in found:
                found[index] = plain
        members = [member for member in found if member is not None]
        if len(set(members)) < len(members):
            twice = next(member for member in members if members.count(member) > 1)
            raise Invalid(f"two columns are called {twice}", field=twice, remedy="rename or remove one of them")
        if self._entity != self._id and self._entity not in members:
            raise Invalid(f"no column is the entity `{self._entity}`", field=self._entity,
                          remedy=f"the columns are {', '.join(names[:50])}; rename one, or change events.entity")
        if not set(members) & set(self._specs):
            raise Invalid("no column is a field of the pipeline", field="columns",
                          remedy=f"the columns are {', '.join(names[:50])}")
        return found

    def from_csv(self, record: bytes, columns: Sequence[str | None], number: int, delimiter: str = ",") -> FileEvent:
        """The event of a CSV record, row `number` (from 1). Raises Invalid when it cannot be one."""
        values = split(record, delimiter)
        if len(values) != len(columns):
            raise Invalid(f"malformed: {len(values)} values for {len(columns)} columns")
        row = {member: self._typed(member, text) for member, text in zip(columns, values, strict=True)
               if member is not None and text != ""}
        return self.from_row({name: value for name, value in row.items() if value is not None}, number)

    def from_json(self, record: bytes, number: int) -> FileEvent:
        """The event of a JSON line, its text unchanged unless members are spelt otherwise. Raises Invalid."""
        try:
            members = _members.decode(record)
        except msgspec.ValidationError as error:
            raise Invalid("malformed: not a JSON object") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(f"malformed: not JSON: {error}") from error
        if not self._known.issuperset(members):
            members, record = self._renamed(members, record)
        named = {name: _read(members[name]) for name in (self._id, self._entity, self._later) if name in members}
        return self._event(named, number, record)

    def from_row(self, row: Row, number: int) -> FileEvent:
        """The event of a row of values as JSON, Arrow or Python know them; None counts as missing."""
        plain = {name: self._fitted(name, as_json(value)) for name, value in row.items() if value is not None}
        return self._event(plain, number, _encode.encode(plain))

    def _renamed(self, members: dict[str, msgspec.Raw], record: bytes) -> tuple[dict[str, msgspec.Raw], bytes]:
        """The same with members called as the pipeline calls them, where only the spelling differs."""
        new = {name: plain for name in members if name not in self._known
               and (plain := plain_name(name)) in self._known and plain not in members}
        if not new or len(set(new.values())) < len(new):
            return members, record
        members = {new.get(name, name): value for name, value in members.items()}
        return members, _encode.encode(members)

    def _event(self, named: Row, number: int, value: bytes) -> FileEvent:
        given = named.get(self._id)
        event_id = f"{self._file_id}-{number}" if given is None else _identifier(given, self._id)
        if self._entity != self._id and named.get(self._entity) is None:
            raise Invalid("missing: is missing", field=self._entity)
        key = event_id if self._entity == self._id else _identifier(named[self._entity], self._entity)
        truth = named.get(self._later) if self._later is not None else None
        label = None if truth is None else _encode.encode({"event_id": event_id, "entity": key, "label": truth})
        return FileEvent(event_id, key, value, label)

    def _fitted(self, member: str, value: Any) -> Any:
        """Whole numbers that a program kept as floats, for want of a missing int, are ints where an int belongs."""
        spec = self._specs.get(member)
        return _whole(value) if spec is not None and spec.type == "int" and isinstance(value, float) else value

    def _typed(self, member: str, text: str) -> Any:
        """What a text of a CSV column stands for; what fits no better stays text, and ingest says what is wrong."""
        spec = self._specs.get(member)
        kind = "time" if spec is None and member == self._time else spec.type if spec is not None else "text"
        return typed(kind, text)


def typed(kind: str, text: str) -> Any:
    """A CSV text as a value of a field type (`time`: the event time); None where it says that nothing is there."""
    if kind in ("text", "category", "image"):
        return text or None
    text = text.strip()
    if not text or text in MISSING_TEXTS:
        return None
    if kind == "bool":
        return _TRUTHS.get(text.lower(), text)
    if kind in ("timestamp", "time"):
        return _moment(text)
    if kind in ("vector", "sequence") or text[0] in "[{":
        return _json(text)
    return _whole(_number(text)) if kind == "int" else _number(text)


def split(record: bytes, delimiter: str = ",") -> list[str]:
    """Values of a CSV record. Raises Invalid when it is no text, or its quotes do not close."""
    try:
        text = record.decode()
    except UnicodeDecodeError as error:
        raise Invalid("malformed: not UTF-8") from error
    if '"' not in text:
        return text.split(delimiter)
    try:
        found = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise Invalid(f"malformed: {error}") from error
    if len(found) != 1:
        raise Invalid("malformed: its quotes do not close")
    return found[0]


def origin(name: str, number: int) -> str:
    """Where a row came from, as the header says it and people read it."""
    return f"{name}:{number}"


def file_id(pipeline: str, generation: int, sha256: str) -> str:
    """Names the rows of a file in a pipeline generation: the same file again has the same id, under any name."""
    return hashlib.sha256(f"{pipeline}/{generation}/{sha256}".encode()).hexdigest()[:32]


def column_names(record: bytes, delimiter: str = ",") -> list[str]:
    """The header of a CSV file. Raises Invalid when it cannot be one."""
    names = [name.strip() for name in split(record, delimiter)]
    if not all(names):
        raise Invalid("the first line does not name every column", field="columns", place="row 0",
                      remedy="begin the file with a line of column names")
    return names


def _identifier(value: Any, member: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise Invalid("wrong_type: must be text that is not empty, or a whole number", field=member)
    text = str(value)
    if len(text) > MAX_ID_CHARACTERS:
        raise Invalid(f"out_of_range: longer than {MAX_ID_CHARACTERS} characters", field=member)
    if _CONTROL.search(text):
        raise Invalid("malformed: holds control characters", field=member)
    return text


def _read(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"malformed: not JSON: {error}") from error


def _number(text: str) -> Any:
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        value = float(text)
        return value if math.isfinite(value) else text
    return text


def _whole(value: Any) -> Any:
    """A float that is a whole number as an int, where floats tell all of them apart; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _moment(text: str) -> Any:
    """A time without a zone is taken as UTC, as in Parquet; a number stays one."""
    try:
        moment = datetime.fromisoformat(text) if "-" in text[1:] else None
    except ValueError:
        moment = None
    if moment is None:
        return _number(text)
    return moment.replace(tzinfo=UTC).isoformat() if moment.tzinfo is None else text


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text


def as_json(value: Any) -> Any:
    """A value as JSON can hold it: times with their zone (UTC where they have none), bytes as base64, no NaN."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
        case date():
            return datetime(value.year, value.month, value.day, tzinfo=UTC).isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(name): as_json(one) for name, one in value.items()}
        case Iterable():
            return [as_json(one) for one in value]
    return str(value)
