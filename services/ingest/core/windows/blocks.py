"""Which entities share a record of state, and the bytes of such a record.

Entities are spread over blocks by a hash of their name. There are as many blocks as give each about `ENTITIES`
entities; one more splits one block in two and leaves the others as they are (linear hashing, Litwin 1980). A batch so
writes few and small records whether it touches twenty of a hundred thousand entities or all of a thousand.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from lepton.errors import Invalid
from services.ingest.core.windows import distinct, partials
from services.ingest.core.windows.cells import SET, Cells
from services.ingest.core.windows.runs import Array, Ints

ENTITIES = 64
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode


@dataclass(frozen=True, slots=True)
class Entities:
    """What is remembered of entities beside their panes; columns of equal length."""

    name: Array
    number: Ints
    """Unlike that of any other life of an entity in the partition."""
    hash: Ints
    seen: Ints
    """Where the watermark stood at its newest event."""
    latest: Ints
    """Newest event time."""

    def __len__(self) -> int:
        return len(self.name)

    def take(self, which: Array) -> "Entities":
        return Entities(self.name[which], self.number[which], self.hash[which], self.seen[which], self.latest[which])

    @classmethod
    def of(cls, names: list[str], number: Ints, seen: Ints, latest: Ints) -> "Entities":
        held = np.empty(len(names), object)
        held[:] = names
        hashes = np.fromiter(map(zlib.crc32, map(str.encode, names)), np.int64, len(names))
        return cls(held, number, hashes, seen, latest)

    @classmethod
    def joined(cls, parts: "list[Entities]") -> "Entities":
        return parts[0] if len(parts) == 1 else cls(*(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("name", "number", "hash", "seen", "latest")))


@dataclass(frozen=True, slots=True)
class Block:
    """Entities of one block and, by window, their panes."""

    entities: Entities
    cells: Mapping[str, Cells] = field(default_factory=dict)


def nobody() -> Entities:
    none = np.empty(0, np.int64)
    return Entities.of([], none, none, none)


def place(hashes: Ints, blocks: int) -> Ints:
    """Block of each hash where there are `blocks` of them."""
    whole = 1 << (blocks.bit_length() - 1)
    wide = hashes & (2 * whole - 1)
    return np.where(wide < blocks, wide, hashes & (whole - 1))


def parents(before: int, after: int) -> set[int]:
    """Blocks out of `before` that are split when there come to be `after`."""
    found = set()
    for block in range(before, after):
        while block >= before:
            block -= 1 << (block.bit_length() - 1)
        found.add(block)
    return found


def write(entities: Entities, cells: Mapping[str, Cells]) -> bytes:
    return _pack([entities.name.tolist(), _bytes(entities.number), _bytes(entities.seen), _bytes(entities.latest),
                  {window: _cells(one) for window, one in cells.items()}])


def write_cells(cells: Cells) -> bytes:
    return _pack(_cells(cells))


def read(data: bytes) -> tuple[Entities, dict[str, Cells]]:
    """Raises Invalid on anything but what `write` gave."""
    try:
        names, number, seen, latest, cells = _unpack(data)
        entities = Entities.of(names, _whole(number), _whole(seen), _whole(latest))
        if len({len(names), len(entities.number), len(entities.seen), len(entities.latest)}) != 1:
            raise ValueError("columns of different lengths")
        return entities, {window: _read_cells(one) for window, one in cells.items()}
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError) as error:
        raise Invalid(f"a block of the windows' state cannot be read: {error}") from error


def read_cells(data: bytes) -> Cells:
    """Raises Invalid on anything but what `write_cells` gave."""
    try:
        return _read_cells(_unpack(data))
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError) as error:
        raise Invalid(f"panes of the windows' state cannot be read: {error}") from error


def _cells(cells: Cells) -> list[Any]:
    columns = {name: _sets(one) if name == SET else _bytes(one) for name, one in cells.columns.items()}
    return [_bytes(cells.owner), _bytes(cells.pane), columns]


def _read_cells(data: list[Any]) -> Cells:
    owner, pane, columns = data
    cells = Cells(_whole(owner), _whole(pane), {
        name: _read_sets(one) if name == SET else np.frombuffer(one, partials.kind_of(name).newbyteorder("<"))
        for name, one in columns.items()})
    if {len(cells.pane), *map(len, cells.columns.values())} - {len(cells)}:
        raise ValueError("columns of different lengths")
    return cells


def _bytes(column: Array) -> bytes:
    return column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes()


def _whole(data: bytes) -> Ints:
    return np.frombuffer(data, np.dtype("<i8"))


def _sets(column: Array) -> list[bytes]:
    """Lengths, then all hashes one after the other."""
    lengths = np.fromiter(map(len, column), np.int64, len(column))
    return [_bytes(lengths), _bytes(np.frombuffer(b"".join(column), np.uint64))]


def _read_sets(data: list[bytes]) -> Array:
    lengths, words = _whole(data[0]), np.frombuffer(data[1], np.dtype("<u8")).astype(np.uint64)
    if int(lengths.sum()) != len(words) or (lengths < 0).any():
        raise ValueError("hashes and their lengths do not agree")
    found = np.empty(len(lengths), object)
    ends = np.cumsum(lengths)
    for index, (begin, end) in enumerate(zip((ends - lengths).tolist(), ends.tolist(), strict=True)):
        found[index] = distinct.kept(words[begin:end].tobytes())
    return found
