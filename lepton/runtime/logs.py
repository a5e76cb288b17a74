"""The form of a log line: JSON or text on stderr, with service, instance and the trace it was written in."""

import json
import logging
import sys
from datetime import UTC, datetime

from opentelemetry import trace

from lepton.runtime.settings import LeptonSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# These tell of every request or poll at info; what they have to say of failures we report ourselves.
_CHATTY = ("aiokafka", "httpx", "httpcore", "pymongo", "uvicorn", "asyncio", "faust", "opentelemetry")


def install(settings: LeptonSettings) -> None:
    """Make stderr the one place log lines go to, in the form the settings ask for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(settings.service, settings.instance, as_json=settings.log_format == "json"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


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
            "message": record.getMessage(),
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
