"""How a CloudEvent wraps an event: in headers (binary mode) or around the data (structured mode), by content type."""

from enum import Enum
from typing import Any, NamedTuple

import msgspec

from lepton.contracts.arrow import stream
from lepton.contracts.envelope import CE_SPEC_VERSION

_VERSION = "1.0"
_KNOWN_TYPES = 256


class Mode(Enum):
    PLAIN = "plain"
    """The value is the JSON object; headers may say more of it."""
    STRUCTURED = "structured"
    ARROW = "arrow"
    """An Arrow stream of many events."""
    UNKNOWN = "unknown"


class Envelope(NamedTuple):
    """What is known of an event besides its object."""

    source: str
    traceparent: str | None = None
    event_id: str | None = None
    time: str | None = None


class Misfit(ValueError):
    """The wrapping is not that of a CloudEvent this version reads."""


class _Structured(msgspec.Struct, frozen=True, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    data: msgspec.Raw
    time: str | None = None
    datacontenttype: str | None = None
    traceparent: str | None = None


_decoder = msgspec.json.Decoder(_Structured)
_modes: dict[bytes | None, Mode] = {None: Mode.PLAIN, b"": Mode.PLAIN}


def mode_of(content_type: bytes | None) -> Mode:
    """How a value of this content type (parameters are ignored) is read."""
    mode = _modes.get(content_type)
    if mode is None:
        mode = _mode(content_type or b"")
        if len(_modes) < _KNOWN_TYPES:
            _modes[content_type] = mode
    return mode


def _mode(content_type: bytes) -> Mode:
    media = content_type.partition(b";")[0].strip().lower()
    if media == b"application/cloudevents+json":
        return Mode.STRUCTURED
    if media == stream.CONTENT_TYPE.encode():
        return Mode.ARROW
    is_json = media in (b"application/json", b"text/json") or media.endswith(b"+json")
    return Mode.PLAIN if is_json and not media.startswith(b"application/cloudevents") else Mode.UNKNOWN


def check_version(headers: dict[str, bytes]) -> None:
    """Raises Misfit when headers say they are those of another CloudEvents version."""
    version = headers.get(CE_SPEC_VERSION)
    if version is not None and version != _VERSION.encode():
        raise Misfit(f"CloudEvents version {version.decode('utf-8', 'replace')!r} is not {_VERSION}")


def opened(value: bytes, trace: bytes | None) -> tuple[Envelope, bytes]:
    """Envelope and data of a structured CloudEvent. Raises Misfit, or the decoder's error."""
    if not value.isascii():
        value.decode()
    wrapped: Any = _decoder.decode(value)
    if wrapped.specversion != _VERSION:
        raise Misfit(f"CloudEvents version {wrapped.specversion!r} is not {_VERSION}")
    if wrapped.datacontenttype is not None and mode_of(wrapped.datacontenttype.encode()) is not Mode.PLAIN:
        raise Misfit(f"cannot read data of {wrapped.datacontenttype!r}")
    if not wrapped.id or not wrapped.source:
        raise Misfit("a CloudEvent needs an id and a source")
    parent = trace.decode("ascii", "replace") if trace else wrapped.traceparent
    return Envelope(wrapped.source, parent, wrapped.id, wrapped.time), bytes(wrapped.data)
