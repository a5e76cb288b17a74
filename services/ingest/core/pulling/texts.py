"""What a line of a log or a record of a foreign topic says: a row, or why it is none."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from lepton.contracts.envelope import CONTENT_TYPE, ID, TIME, TRACEPARENT
from lepton.contracts.reading.patterns import Pattern
from lepton.errors import Invalid
from services.ingest.core.cloudevents import Mode, check_version, mode_of, opened
from services.ingest.core.pulling.files import MAX_LINE_BYTES
from services.ingest.core.pulling.rows import MAX_RAW_BYTES, Bad, Item, Row

_objects = msgspec.json.Decoder(dict[str, Any])


class Lines:
    """Lines as JSON objects, or taken apart by a regular expression. Raises Invalid for an expression that is none."""

    def __init__(self, pattern: str | None) -> None:
        try:
            self._pattern = Pattern(pattern) if pattern is not None else None
        except Invalid as error:
            raise Invalid(error.message, field="pattern", remedy=error.remedy) from error

    def read(self, lines: Iterable[tuple[str, bytes]]) -> list[Item]:
        """Of each mark and line its row, or why it is none; in their order."""
        if self._pattern is None:
            return [_too_long(line, mark) or _object(line, mark) for mark, line in lines]
        told = [(line, mark, _too_long(line, mark) or _no_text(line, mark)) for mark, line in lines]
        matches = iter(self._pattern.search([line for line, _, bad in told if bad is None]))
        return [bad or _row(next(matches), line, mark) for line, mark, bad in told]


def _too_long(line: bytes, mark: str) -> Bad | None:
    if len(line) <= MAX_LINE_BYTES:
        return None
    return Bad(line[:MAX_RAW_BYTES], f"a line of more than {MAX_LINE_BYTES} bytes", mark)


def _no_text(line: bytes, mark: str) -> Bad | None:
    try:
        line.decode()
    except UnicodeDecodeError:
        return Bad(line[:MAX_RAW_BYTES], "the line is not UTF-8", mark)
    return None


def _row(match: dict[str, str] | None, line: bytes, mark: str) -> Item:
    if match is None:
        return Bad(line[:MAX_RAW_BYTES], "the line does not match the pattern", mark)
    return Row(match, mark, textual=True)


def record(value: bytes | None, headers: Sequence[tuple[str, bytes]], timestamp_ms: int, mark: str) -> Item:
    """A record of a topic: a JSON object, bare or as a CloudEvent in binary or structured mode, by its content type."""
    if value is None:
        return Bad(b"", "the record has no value", mark)
    told = dict(headers)
    parent = told.get(TRACEPARENT)
    trace = parent.decode("ascii", "replace") if parent else None
    event_id, stamp = told.get(ID), told.get(TIME)
    try:
        check_version(told)
        mode = mode_of(told.get(CONTENT_TYPE))
        if mode is Mode.UNKNOWN:
            return Bad(value[:MAX_RAW_BYTES], f"cannot read {told[CONTENT_TYPE]!r}", mark)
        name, when = event_id.decode() if event_id else None, stamp.decode() if stamp else None
        if mode is Mode.STRUCTURED:
            envelope, value = opened(value, parent)
            name, when, trace = envelope.event_id, envelope.time, envelope.traceparent
        moment = datetime.fromisoformat(when) if when else datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError, RecursionError) as error:
        return Bad(value[:MAX_RAW_BYTES], f"cannot be read: {error}", mark)
    found = _object(value, mark)
    if isinstance(found, Bad):
        return found
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return Row(found.values, mark, event_id=name, time=aware, traceparent=trace)


def _object(text: bytes, mark: str) -> Item:
    try:
        return Row(_objects.decode(text), mark)
    except msgspec.ValidationError:
        return Bad(text[:MAX_RAW_BYTES], "is no JSON object", mark)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return Bad(text[:MAX_RAW_BYTES], f"not JSON: {error}", mark)
