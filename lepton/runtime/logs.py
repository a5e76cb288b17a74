"""The form of a log line: JSON or text on stderr, with service, instance and the trace it was written in; and how
often a library may say the same."""

import json
import logging
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType

from opentelemetry import trace

from lepton.contracts.pb import telemetry_pb2
from lepton.runtime.settings import LeptonSettings

# What a Restraint leaves on a record: how many it held back before it, and in how many seconds.
_HELD = "held_back"
# Member of a line that tells the kind of failure it reports.
EVENT = "event"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", _HELD}
# These tell of every request or poll at info; what they have to say of failures we report ourselves.
_CHATTY = ("aiokafka", "httpx", "httpcore", "pymongo", "uvicorn", "asyncio", "faust", "mode", "opentelemetry")
# First parts of the names of our loggers; `root` and `__main__` are where programs of ours log.
_OURS = frozenset({"lepton", "lepton_ai", "services", "deploy", "root", "__main__"})
REPEAT_EVERY_S = 10.0
# A library may put a changing part into its template; kinds beyond this many are forgotten, the oldest first.
MAX_KINDS = 1000
# Patterns counted between two heartbeats; lines of all others are one.
MAX_PATTERNS = 100
OTHERS = "others"
_MAX_PATTERN = 160
# What changes from line to line where a library has filled it in itself.
_FILLED_IN = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8,}\b|\d+")


def install(settings: LeptonSettings) -> None:
    """Make stderr the one place log lines go to, in the form the settings ask for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(settings.service, settings.instance, as_json=settings.log_format == "json"))
    handler.addFilter(Restraint())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class Restraint(logging.Filter):
    """Of each kind of line a library writes, passes the first and then one every ten seconds; ours always pass.

    While a broker is away its client repeats one line many times a second. The next line that passes tells how many of
    its kind were held back; for use on handlers, each with one of its own. Time is that of the records.
    """

    def __init__(self) -> None:
        super().__init__()
        # By kind: when one passed last, and how many were held back since. Handlers are called from many threads.
        self._passed: dict[tuple[str, ...], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in _OURS:
            return True
        kind = _kind(record)
        with self._lock:
            passed_at, held = self._passed.get(kind, (float("-inf"), 0))
            elapsed_s = record.created - passed_at
            # Either way: a wall clock that was set back must not silence a kind until it has caught up.
            if abs(elapsed_s) < REPEAT_EVERY_S:
                self._passed[kind] = passed_at, held + 1
                return False
            self._passed.pop(kind, None)
            self._passed[kind] = record.created, 0
            if len(self._passed) > MAX_KINDS:
                del self._passed[next(iter(self._passed))]
        setattr(record, _HELD, (held, abs(elapsed_s)) if held else None)
        return True


class Patterns(logging.Handler):
    """Counts warnings and errors by what they have in common, for heartbeats; what was filled in is not kept."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._counted: dict[str, telemetry_pb2.LogPattern] = {}
        self._levels: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        span = trace.get_current_span().get_span_context()
        one = telemetry_pb2.LogPattern(pattern=pattern_of(record), count=1, level=record.levelname.lower(),
                                       trace_id=f"{span.trace_id:032x}" if span.is_valid else "")
        self._add(one, record.levelno)

    def take(self) -> list[telemetry_pb2.LogPattern]:
        """What was counted since the last call."""
        with self._held():
            taken = list(self._counted.values())
            self._counted, self._levels = {}, {}
        return taken

    def put_back(self, unsent: Iterable[telemetry_pb2.LogPattern]) -> None:
        with self._held():
            for one in unsent:
                self._add(one, logging.getLevelNamesMapping().get(one.level.upper(), logging.WARNING))

    def _add(self, one: telemetry_pb2.LogPattern, level: int) -> None:
        # `emit` is called with the handler's lock held.
        if one.pattern not in self._counted and len(self._counted) >= MAX_PATTERNS:
            one.pattern = OTHERS
        known = self._counted.setdefault(one.pattern, one)
        if known is not one:
            known.count += one.count
            known.trace_id = one.trace_id or known.trace_id
        if level >= self._levels.get(one.pattern, 0):
            self._levels[one.pattern], known.level = level, one.level

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()


def pattern_of(record: logging.LogRecord) -> str:
    """What lines like it have in common: the kind of a failure, else logger and template, or an exception's place."""
    kind = getattr(record, EVENT, None)
    if kind is not None:
        return str(kind)[:_MAX_PATTERN]
    logger, *rest = _kind(record)
    if len(rest) == 2:
        type_name, place = rest
        return f"{logger}: {type_name} at {place.rpartition('/')[2] or 'an unknown place'}"[:_MAX_PATTERN]
    # One line of it is enough to know it by.
    template = rest[0].partition("\n")[0]
    return f"{logger}: {_FILLED_IN.sub('#', template)}"[:_MAX_PATTERN]


def message_of(record: logging.LogRecord) -> str:
    """What a record says, with how many more like it a Restraint held back before it."""
    message = record.getMessage()
    held = getattr(record, _HELD, None)
    return f"{message} … ({held[0]} more like it in {held[1]:.0f} s)" if held else message


def _kind(record: logging.LogRecord) -> tuple[str, ...]:
    """Lines of one logger are alike by their template, or, where they tell of an exception, by its type and place."""
    error = record.exc_info[1] if record.exc_info else record.msg
    if isinstance(error, BaseException):
        return record.name, type(error).__qualname__, _place(error.__traceback__)
    return record.name, str(record.msg)


def _place(trace_back: TracebackType | None) -> str:
    """Where it was raised, since two failures of one type may have nothing else in common."""
    if trace_back is None:
        return ""
    while trace_back.tb_next is not None:
        trace_back = trace_back.tb_next
    return f"{trace_back.tb_frame.f_code.co_filename}:{trace_back.tb_lineno}"


class LineFormatter(logging.Formatter):
    """One record as one line; what was given as `extra` becomes members of its own."""

    def __init__(self, service: str, instance: str, *, as_json: bool) -> None:
        super().__init__()
        self._service = service
        self._instance = instance
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "instance": self._instance,
            "logger": record.name,
            "message": message_of(record),
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            line |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        line |= extras(record)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False) if self._as_json else _text(line)


def extras(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(value) for name, value in vars(record).items() if name not in _STANDARD}


def _text(line: dict[str, str]) -> str:
    head = f"{line['at']} {line['level']:<7} {line['instance']} {line['message']}"
    shown = ("at", "level", "service", "instance", "logger", "message", "error")
    rest = " ".join(f"{name}={value}" for name, value in line.items() if name not in shown)
    return "\n".join(part for part in (f"{head} {rest}".rstrip(), line.get("error", "")) if part)
