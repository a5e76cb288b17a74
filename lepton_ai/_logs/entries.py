"""A log line as a value, whatever form it was written in, and which lines are wanted."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from lepton.errors import Invalid


class Level(StrEnum):
    """How severe a line is, the least first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


_RANKS: Final = {level.value: rank for rank, level in enumerate(Level)} | {"trace": 0, "warn": 2, "fatal": 4}
_OWN: Final = ("at", "level", "service", "instance", "logger", "message", "error")
# Our own text form, and what log4j and supervisor write: a moment, perhaps in brackets, then the level.
_TEXT: Final = re.compile(
    r"\[?(?P<day>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d:\d\d)[.,](?P<ms>\d{3,6})(?P<zone>Z?)\]?,? "
    r"(?P<level>TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)\b", re.IGNORECASE)
_SPAN: Final = re.compile(r"(?:(?P<count>\d+(?:\.\d+)?)(?P<unit>[smhd]))")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TRACE: Final = re.compile(r"(?:[0-9a-f]{2}-)?(?P<trace>[0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?")


@dataclass(slots=True)
class Entry:
    """One line, with those after it that have no head of their own (a stack trace). `at`: seconds since the epoch, UTC;
    None where the line does not say. `more`: its other members."""

    source: str
    message: str
    at: float | None = None
    level: str = ""
    service: str = ""
    instance: str = ""
    error: str = ""
    trace_id: str = ""
    more: dict[str, Any] = field(default_factory=dict)
    structured: bool = False

    def text(self) -> str:
        """For people: one line, and the error below it."""
        if not self.structured:
            return "\n".join(part for part in (self.message, self.error) if part)
        head = f"{stamp(self.at)} {self.level:<7} {self.instance or self.source} {self.message}"
        shown = {"trace_id": self.trace_id} if self.trace_id else {}
        rest = " ".join(f"{name}={value}" for name, value in (shown | self.more).items())
        return "\n".join(part for part in (f"{head} {rest}".rstrip(), self.error) if part)

    def as_json(self) -> str:
        """For programs: one line, members as the services write them; those that are not known are left out."""
        told = {"at": stamp(self.at) if self.at is not None else "", "level": self.level, "service": self.service,
                "instance": self.instance or self.source, "message": self.message, "error": self.error,
                "trace_id": self.trace_id}
        return json.dumps({name: value for name, value in told.items() if value} | self.more, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines: all that hold. `pattern` is searched for in message and error; `level` is the least severe."""

    since: float | None = None
    pattern: re.Pattern[str] | None = None
    level: Level | None = None
    trace: str = ""

    @property
    def everything(self) -> bool:
        return self == Wanted()

    def takes(self, entry: Entry) -> bool:
        # What does not say when it was written, or how severe it is, is not known to be wanted.
        if self.since is not None and (entry.at is None or entry.at < self.since):
            return False
        if self.level is not None and _RANKS.get(entry.level, -1) < _RANKS[self.level]:
            return False
        if self.trace and entry.trace_id != self.trace:
            return False
        return self.pattern is None or any(self.pattern.search(text) for text in (entry.message, entry.error) if text)


def read_line(source: str, line: str) -> Entry | None:
    """What a line says; None when it has no head of its own and belongs to the line before it."""
    if line.startswith("{"):
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if isinstance(told, dict) and "message" in told:
            return _structured(source, told)
    head = _TEXT.match(line)
    if head is None:
        return None
    at = datetime.fromisoformat(f"{head['day']}T{head['time']}.{head['ms']}{'+00:00' if head['zone'] else ''}")
    trace = re.search(r"\btrace_id=([0-9a-f]{32})\b", line)
    return Entry(source, line, at.timestamp(), _level(head["level"]), trace_id=trace[1] if trace else "")


def _structured(source: str, told: dict[str, Any]) -> Entry:
    more = {name: value for name, value in told.items() if name not in (*_OWN, "trace_id")}
    if told.get("logger"):
        more = {"logger": told["logger"], **more}
    return Entry(source, str(told["message"]), moment(str(told.get("at", ""))), _level(str(told.get("level", ""))),
                 str(told.get("service", "")), str(told.get("instance", "")), str(told.get("error", "")),
                 str(told.get("trace_id", "")), more, structured=True)


def _level(word: str) -> str:
    return {"warn": "warning", "fatal": "critical", "trace": "debug"}.get(word.lower(), word.lower())


def moment(text: str) -> float | None:
    """Seconds since the epoch of an ISO 8601 time, taken as UTC where it names no zone; None when it is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def stamp(at: float | None) -> str:
    """As the services write it."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def since(text: str, now: datetime) -> float:
    """Seconds since the epoch of `10m`, `1h30m`, `2d` ago, or of a time. Raises Invalid for anything else."""
    parts = list(_SPAN.finditer(text))
    if parts and "".join(part[0] for part in parts) == text:
        back_s = sum(float(part["count"]) * _UNITS[part["unit"]] for part in parts)
        try:
            return (now - timedelta(seconds=back_s)).timestamp()
        except OverflowError:
            raise Invalid(f"{text!r} is too long ago", field="--since", remedy="name a shorter time") from None
    at = moment(text)
    if at is None:
        raise Invalid(f"{text!r} is neither a length of time nor a time", field="--since",
                      remedy="write 30s, 10m, 2h, 1d or 2026-11-22T10:00:00Z")
    return at


def pattern(text: str) -> re.Pattern[str]:
    """Raises Invalid that says what is wrong with the expression, and where."""
    try:
        return re.compile(text)
    except re.error as failure:
        place = f"character {failure.pos + 1} of {text!r}" if failure.pos is not None else repr(text)
        raise Invalid(f"not a regular expression: {failure.msg}", field="--grep", place=place,
                      remedy=r"put \ before a character that stands for itself") from None


def trace_id(text: str) -> str:
    """The id in a trace id or traceparent. Raises Invalid."""
    found = _TRACE.fullmatch(text.strip().lower())
    if found is None:
        raise Invalid(f"{text!r} is no trace id", field="--trace", remedy="give its 32 hexadecimal digits")
    return found["trace"]
