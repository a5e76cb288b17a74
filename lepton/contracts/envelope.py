"""What rides in a record's headers, and under which names: identity, time, origin, version, trace and attempt."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from lepton.errors import Invalid

Headers = tuple[tuple[str, bytes], ...]

ID: Final = "ce_id"
TIME: Final = "ce_time"
SOURCE: Final = "ce_source"
TYPE: Final = "ce_type"
CE_SPEC_VERSION: Final = "ce_specversion"
SPEC_VERSION: Final = "lepton-spec-version"
TRACEPARENT: Final = "traceparent"
ATTEMPT: Final = "lepton-attempt"
CONTENT_TYPE: Final = "content-type"
SPLIT_FROM: Final = "lepton-split-from"
"""Place of the record these rows were in before they were sent on to the partition of their entities."""
ARRIVED: Final = "lepton-arrived"
"""When the broker took the label that this record is a copy of: milliseconds since the epoch, by the broker's clock."""

_CLOUDEVENTS = b"1.0"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known of a record besides its value; None: not said.

    `spec_version` is the pipeline's, `attempt` counts deliveries from 1, `occurred_at` is timezone-aware.
    """

    event_id: str | None = None
    occurred_at: datetime | None = None
    source: str | None = None
    event_type: str | None = None
    spec_version: int | None = None
    traceparent: str | None = None
    attempt: int | None = None
    content_type: str | None = None

    def to_headers(self) -> Headers:
        """Only what is said; a CloudEvents version goes with any CloudEvents attribute."""
        pairs: list[tuple[str, str]] = []
        for header, value in ((ID, self.event_id), (SOURCE, self.source), (TYPE, self.event_type)):
            if value is not None:
                pairs.append((header, value))
        if self.occurred_at is not None:
            pairs.append((TIME, _rfc3339(self.occurred_at)))
        headers = [(header, value.encode()) for header, value in pairs]
        if headers:
            headers.append((CE_SPEC_VERSION, _CLOUDEVENTS))
        for header, number in ((SPEC_VERSION, self.spec_version), (ATTEMPT, self.attempt)):
            if number is not None:
                headers.append((header, str(number).encode()))
        for header, text in ((TRACEPARENT, self.traceparent), (CONTENT_TYPE, self.content_type)):
            if text is not None:
                headers.append((header, text.encode()))
        return tuple(headers)

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes]]) -> "Envelope":
        """Read what is there, the last of headers that repeat. Raises Invalid naming the header that cannot be read.

        A traceparent that does not follow W3C Trace Context is dropped: a trace is never worth a record.
        """
        texts = {header: _text(header, value) for header, value in headers if header in _KNOWN}
        if texts.get(CE_SPEC_VERSION, "1.0") != "1.0":
            raise Invalid(f"CloudEvents version {texts[CE_SPEC_VERSION]!r} is not 1.0", field=CE_SPEC_VERSION)
        traceparent = texts.get(TRACEPARENT)
        return cls(
            event_id=texts.get(ID), occurred_at=_time(texts.get(TIME)), source=texts.get(SOURCE),
            event_type=texts.get(TYPE), spec_version=_number(SPEC_VERSION, texts),
            traceparent=traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None,
            attempt=_number(ATTEMPT, texts), content_type=texts.get(CONTENT_TYPE),
        )


_KNOWN = frozenset({ID, TIME, SOURCE, TYPE, CE_SPEC_VERSION, SPEC_VERSION, TRACEPARENT, ATTEMPT, CONTENT_TYPE})


def with_time(headers: Headers, timestamp_ms: int) -> Headers:
    """Headers of a record that is written anew, for somewhere else, with the time it had.

    An event that says no time happened when its record came: `timestamp_ms`, the broker's of the first one, since the
    epoch. A time that is said stays as it is, also one that cannot be read: whoever reads it refuses it.
    """
    if any(name == TIME for name, _ in headers):
        return headers
    then = datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return (*headers, (TIME, then.encode()))


def _rfc3339(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("occurred_at has no time zone")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _text(header: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as failure:
        raise Invalid(f"header {header} is not UTF-8", field=header) from failure


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as failure:
        raise Invalid(f"header {TIME} is no RFC 3339 time: {text!r}", field=TIME) from failure
    if moment.tzinfo is None:
        raise Invalid(f"header {TIME} has no time zone: {text!r}", field=TIME)
    try:
        return moment.astimezone(UTC)
    except OverflowError as failure:
        raise Invalid(f"header {TIME} is out of range: {text!r}", field=TIME) from failure


def _number(header: str, texts: dict[str, str]) -> int | None:
    text = texts.get(header)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Invalid(f"header {header} is no whole number: {text!r}", field=header)
    return int(text)
