"""How large a message of an Arrow stream would be once read, told from its metadata before anything is decompressed.

The metadata is a flatbuffer (Arrow's `Message.fbs`), which Arrow has verified by then; only the few members that say
sizes are looked at here.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

# Members of the tables of Message.fbs, by their number there.
_VERSION, _HEADER = 0, 2
_DICTIONARY_DATA, _DICTIONARY_IS_DELTA = 1, 2
_BATCH_LENGTH, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 2, 3
_BUFFER_BYTES = 16
_V5 = 4
_LONG = struct.Struct("<q")

Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Misshapen(ValueError):
    """The metadata says what cannot be, or what is not read here."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one message: rows it says it has, and bytes of its buffers after decompression."""

    rows: int
    data_bytes: int


def sizes_of(message: pa.ipc.Message) -> Sizes:
    """Sizes of a record batch or dictionary; nothing for a schema. Raises Misshapen."""
    if message.type == "schema":
        return Sizes(0, 0)
    try:
        root = _Table.root(message.metadata.to_pybytes())
        if root.number(_VERSION, "<h", 0) != _V5:
            raise Misshapen("its metadata is of a version before 5")
        batch = root.table(_HEADER)
        if message.type == "dictionary":
            if batch.number(_DICTIONARY_IS_DELTA, "<B", 0):
                raise Misshapen("dictionaries that grow are not read")
            batch = batch.table(_DICTIONARY_DATA)
        elif message.type != "record batch":
            raise Misshapen(f"it holds a {message.type}")
        rows = int(batch.number(_BATCH_LENGTH, "<q", 0))
        compressed = batch.has(_BATCH_COMPRESSION)
        body = memoryview(b"" if message.body is None else message.body)
        data_bytes = _sizes(body, batch.buffers(_BATCH_BUFFERS), compressed)
    except struct.error as error:
        raise Misshapen("its metadata points outside itself") from error
    if rows < 0:
        raise Misshapen("it says it has less than no rows")
    return Sizes(rows, data_bytes)


def _sizes(body: memoryview, buffers: Numbers, compressed: bool) -> int:
    """Bytes of all buffers once read; a compressed one begins with how long it is, -1 meaning it is not."""
    offsets, lengths = buffers[:, 0], buffers[:, 1]
    if len(buffers) and (buffers.min() < 0 or (offsets > len(body) - lengths).any()):
        raise Misshapen("a buffer lies outside its body")
    if not compressed:
        return sum(lengths.tolist())
    filled = lengths > 0
    offsets, lengths = offsets[filled], lengths[filled]
    if not len(lengths):
        return 0
    if lengths.min() < _LONG.size:
        raise Misshapen("a compressed buffer does not say how long it is")
    told = _told(body, offsets)
    if told.min() < -1:
        raise Misshapen("a compressed buffer says it is shorter than nothing")
    # Added up as Python's numbers, which do not wrap.
    return sum(np.where(told == -1, lengths - _LONG.size, told).tolist())


def _told(body: memoryview, offsets: Numbers) -> Numbers:
    """The number that stands at each of these places of a body."""
    if (offsets % _LONG.size).any():
        return np.array([_LONG.unpack_from(body, offset)[0] for offset in offsets.tolist()], "<i8")
    # Where writers align buffers, as Arrow's do.
    return np.frombuffer(body, "<i8", len(body) // _LONG.size)[offsets // _LONG.size]


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a flatbuffer: where it is, and its members by number. Reading outside raises struct.error."""

    data: bytes
    position: int

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def _at(self, member: int) -> int | None:
        """Where a member's value lies; None when it is absent, and so has its default."""
        vtable = self.position - int(struct.unpack_from("<i", self.data, self.position)[0])
        if vtable < 0:
            raise struct.error("before the beginning")
        if 4 + 2 * member >= int(struct.unpack_from("<H", self.data, vtable)[0]):
            return None
        offset = int(struct.unpack_from("<H", self.data, vtable + 4 + 2 * member)[0])
        return self.position + offset if offset else None

    def has(self, member: int) -> bool:
        return self._at(member) is not None

    def number(self, member: int, form: str, default: int) -> int:
        at = self._at(member)
        return default if at is None else int(struct.unpack_from(form, self.data, at)[0])

    def _follow(self, member: int) -> int | None:
        at = self._at(member)
        return None if at is None else at + int(struct.unpack_from("<I", self.data, at)[0])

    def table(self, member: int) -> "_Table":
        at = self._follow(member)
        if at is None:
            raise Misshapen("its metadata lacks a part")
        return _Table(self.data, at)

    def buffers(self, member: int) -> Numbers:
        """[buffers, 2]: offset and length of each of a vector of `Buffer`."""
        at = self._follow(member)
        if at is None:
            return np.empty((0, 2), "<i8")
        count = int(struct.unpack_from("<I", self.data, at)[0])
        if at + 4 + count * _BUFFER_BYTES > len(self.data):
            raise struct.error("past the end")
        # Structs lie on 8 bytes, which the 4 of the count come before.
        return np.frombuffer(self.data, "<i8", 2 * count, at + 4).reshape(count, 2)
