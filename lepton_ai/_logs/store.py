"""A log store that speaks LogsQL over HTTP (VictoriaLogs), holding what services sent over OpenTelemetry."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

from lepton.errors import Invalid, Refused, Unavailable
from lepton_ai._logs.entries import Entry, Level, Wanted, moment, stamp

# OpenTelemetry's severity numbers, the least of each level.
_SEVERITIES: Final = {Level.DEBUG: 5, Level.INFO: 9, Level.WARNING: 13, Level.ERROR: 17, Level.CRITICAL: 21}
# Where the text of an entry lies: its message, and the exception logged with it.
_TEXTS: Final = ("_msg", "exception.message", "exception.stacktrace")
_SERVICE, _INSTANCE, _TRACE = "service.name", "service.instance.id", "trace_id"
# What OpenTelemetry and the store add to each entry, and says nothing of it.
_LEFT_OUT: Final = ("_", "scope.", "telemetry.", "exception.", "severity_number", "severity_text", "service.")
_CONNECT_S, _ANSWER_S = 5.0, 60.0
_TOLD: Final = 300


@dataclass(frozen=True, slots=True)
class Source:
    """Of whom: processes by instance, and services."""

    instances: Sequence[str] = ()
    services: Sequence[str] = ()


def query(wanted: Wanted, source: Source) -> str:
    """The filter in LogsQL; a pattern is the store's to read, which knows RE2's syntax."""
    filters = []
    of_whom = [_either(name, values) for name, values in ((_INSTANCE, source.instances), (_SERVICE, source.services))
               if values]
    if of_whom:
        filters.append(f"({' or '.join(of_whom)})")
    if wanted.level is not None:
        filters.append(f"severity_number:>={_SEVERITIES[wanted.level]}")
    if wanted.trace:
        filters.append(f"{_TRACE}:={_quoted(wanted.trace)}")
    if wanted.pattern is not None:
        found = " or ".join(f"{_quoted(name)}:~{_quoted(wanted.pattern.pattern)}" for name in _TEXTS)
        filters.append(f"({found})")
    return " ".join(filters) or "*"


class Store:
    """`url` may hold a user and a password; they are never repeated."""

    def __init__(self, url: str) -> None:
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL:
            self._url = httpx.URL()
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise Invalid("the log store's address is no URL", field="--store", remedy="give http://HOST:PORT")
        self._place = str(self._url.copy_with(username=None, password=None)).rstrip("/")

    def newest(self, wanted: Wanted, source: Source, limit: int) -> list[Entry]:
        """The newest `limit` entries, the oldest of them first.

        Raises Invalid (a pattern that the store does not understand), Refused, Unavailable.
        """
        form = {"query": query(wanted, source), "limit": str(limit)}
        if wanted.since is not None:
            form["start"] = stamp(wanted.since)
        with self._asked("query", form, _ANSWER_S) as lines:
            return sorted((self._read(line) for line in lines), key=lambda entry: entry.at or 0.0)

    def follow(self, wanted: Wanted, source: Source) -> Iterator[Entry]:
        """What comes from now on, some seconds after it came; until the caller leaves off."""
        with self._asked("tail", {"query": query(wanted, source)}, None) as lines:
            for line in lines:
                yield self._read(line)

    @contextmanager
    def _asked(self, verb: str, form: dict[str, str], answer_s: float | None) -> Iterator[Iterator[str]]:
        timeout = httpx.Timeout(_CONNECT_S, read=answer_s)
        url = self._url.copy_with(path=f"{self._url.path.rstrip('/')}/select/logsql/{verb}")
        try:
            with httpx.Client(timeout=timeout) as client, client.stream("POST", url, data=form) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refused(answer)
                yield (line for line in answer.iter_lines() if line.strip())
        except httpx.HTTPError as failure:
            raise Unavailable(f"the log store does not answer ({type(failure).__name__})", place=self._place,
                              remedy="start it, or read the files with --home") from failure

    def _refused(self, answer: httpx.Response) -> Invalid | Refused | Unavailable:
        told = " ".join(answer.text.split())[:_TOLD]
        if answer.status_code == httpx.codes.BAD_REQUEST:
            return Invalid(f"the log store does not understand what is asked: {told}", field="--grep",
                           place=self._place, remedy="its patterns are RE2's, which has no look-around")
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return Refused(f"the log store answers {answer.status_code}", place=self._place,
                           remedy="give a user and a password in its address")
        return Unavailable(f"the log store answers {answer.status_code}: {told}", place=self._place)

    def _read(self, line: str) -> Entry:
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise Unavailable("what answers is no log store: it wrote something else than JSON lines",
                              place=self._place, remedy="give the address of VictoriaLogs")
        return _entry(told)


def _entry(told: dict[str, Any]) -> Entry:
    def text(name: str) -> str:
        return str(told.get(name, ""))

    error = text("exception.stacktrace") or text("exception.message")
    more = {name: value for name, value in told.items()
            if name not in (_TRACE,) and not name.startswith(_LEFT_OUT)}
    return Entry(text(_INSTANCE) or text(_SERVICE), text("_msg"), moment(text("_time")), text("severity_text").lower(),
                 text(_SERVICE), text(_INSTANCE), error.rstrip("\n"), text(_TRACE), more, structured=True)


def _either(name: str, values: Sequence[str]) -> str:
    return f"{_quoted(name)}:in({', '.join(map(_quoted, values))})"


def _quoted(text: str) -> str:
    """As a string of LogsQL: Go's quoted strings, of which JSON's are some."""
    return json.dumps(text, ensure_ascii=False)
