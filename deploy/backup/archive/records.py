"""Records of a topic as bytes in a backup."""

import struct
from collections.abc import Sequence

from lepton.bus.records import Record
from lepton.errors import Invalid

_HEAD = struct.Struct(">IqqiiH")  # partition, offset, milliseconds, lengths of key and value (-1: none), headers
_NAMED = struct.Struct(">HI")


def encode(records: Sequence[Record]) -> bytes:
    return b"".join(_encode(record) for record in records)


def account(record: Record, *, with_offset: bool) -> bytes:
    """What must be the same of a record that was brought back: all but the broker's time."""
    return _encode(record._replace(topic="", timestamp_ms=0, offset=record.offset if with_offset else 0))


def decode(topic: str, data: bytes) -> list[Record]:
    """Raises Invalid when the bytes are no records."""
    found, at = [], 0
    try:
        while at < len(data):
            partition, offset, milliseconds, key_size, value_size, count = _HEAD.unpack_from(data, at)
            key, at = _taken(data, at + _HEAD.size, key_size)
            value, at = _taken(data, at, value_size)
            headers = []
            for _ in range(count):
                name_size, size = _NAMED.unpack_from(data, at)
                name, at = _taken(data, at + _NAMED.size, name_size)
                told, at = _taken(data, at, size)
                headers.append(((name or b"").decode(), told or b""))
            found.append(Record(topic, partition, offset, key, value, tuple(headers), milliseconds))
    except (struct.error, UnicodeDecodeError) as error:
        raise Invalid("not records of a topic", place=topic) from error
    return found


def _encode(record: Record) -> bytes:
    key, value = record.key, record.value
    parts = [_HEAD.pack(record.partition, record.offset, record.timestamp_ms, -1 if key is None else len(key),
                        -1 if value is None else len(value), len(record.headers)), key or b"", value or b""]
    for name, told in record.headers:
        raw = name.encode()
        parts += [_NAMED.pack(len(raw), len(told)), raw, told]
    return b"".join(parts)


def _taken(data: bytes, at: int, size: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, at
    if at + size > len(data):
        raise Invalid("not records of a topic")
    return data[at:at + size], at + size
