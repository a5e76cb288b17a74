"""Which file is which across rotation, and where its complete lines end; by inode and by what was read already."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from services.ingest.core.pulling.state import Cursor

HEAD_BYTES = 1024
TAIL_BYTES = 256
MAX_LINE_BYTES = 1 << 20
MAX_FILES = 1000
MAX_GONE = 100
"""Files that are away whose places are kept: one that comes back is read on, not again."""
SETTLED_S = 10.0
"""A new file that is, byte for byte, the beginning of another may be a copy under way; so long it is left alone."""


class Mark(msgspec.Struct, frozen=True):
    """How far a file was read, and how it is known again: digests of the first and the last bytes that were read."""

    ident: str
    device: int
    inode: int
    path: str
    offset: int = 0
    head: str = ""
    tail: str = ""
    size: int = 0
    skipping: bool = False
    """Inside a line too long to be one; its rest is passed over."""
    gone: bool = False
    """Not there at the last look."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is there. `wanted`: the source's path matches it; the others are where wanted ones are moved to."""

    path: str
    device: int
    inode: int
    size: int
    quiet_s: float
    wanted: bool


@dataclass(frozen=True, slots=True)
class Census:
    """Marks of files to read on, and of those that vanished with bytes nobody read; `begun`: files so far."""

    marks: list[Mark]
    begun: int
    lost: list[Mark] = field(default_factory=list)


Same = Callable[[Found, Mark], bool]
"""Whether the file begins, up to the mark's offset, with what was read under the mark."""
Beginning = Callable[[Found, Found], bool]
"""Whether all of the first file is, as it stands, the beginning of the second."""
Ident = Callable[[Found, int], str]
"""What a file's lines are called by; the number, which no other of the source has, tells apart what looks alike."""


def recognise(marks: Iterable[Mark], begun: int, found: Sequence[Found], same: Same, beginning: Beginning,
              ident: Ident) -> Census:
    """Files to read: those known, wherever they were moved or copied to, and those that are new.

    A file was truncated or replaced when its inode no longer begins with what was read; what of the old content was
    copied away first (copytruncate) is found by content, and read to its end before its place is forgotten. `begun`:
    how many files were, over all restarts.
    """
    by_inode = {(one.device, one.inode): one for one in found}
    kept: list[Mark] = []
    astray: list[Mark] = []
    for mark in marks:
        there = by_inode.get((mark.device, mark.inode))
        if there is not None and there.size >= mark.offset and same(there, mark):
            kept.append(_at(mark, there))
        else:
            astray.append(mark)
    claimed = {(mark.device, mark.inode) for mark in kept}
    lost: list[Mark] = []
    gone: list[Mark] = []
    for mark in astray:
        copy = None if mark.gone else next(
            (one for one in found if (one.device, one.inode) not in claimed and one.size >= mark.offset > 0
             and same(one, mark)), None)
        if copy is not None:
            claimed.add((copy.device, copy.inode))
            kept.append(_at(mark, copy))
            continue
        if not mark.gone and mark.size > mark.offset:
            lost.append(mark)
        if (mark.device, mark.inode) not in by_inode:
            gone.append(msgspec.structs.replace(mark, gone=True))
    known = [by_inode[(mark.device, mark.inode)] for mark in kept]
    for one in found:
        # An empty file may be about to receive a copy.
        if not one.wanted or one.size == 0 or (one.device, one.inode) in claimed:
            continue
        if one.quiet_s < SETTLED_S and any(beginning(one, other) for other in known if other.size >= one.size):
            continue
        begun += 1
        kept.append(Mark(ident(one, begun), one.device, one.inode, one.path, size=one.size))
    return Census(gone[-MAX_GONE:] + kept, begun, lost)


def lines_of(chunk: bytes, mark: Mark, at_most: int) -> tuple[list[tuple[int, bytes]], int, bool]:
    """Complete lines of what follows the mark's offset, each with its place; then the next offset and whether that is
    inside a line too long to be one. Such a line is given once, by its beginning."""
    found: list[tuple[int, bytes]] = []
    position, skipping = 0, mark.skipping
    while len(found) < at_most:
        end = chunk.find(b"\n", position)
        if end < 0:
            if skipping or len(chunk) - position > MAX_LINE_BYTES:
                if not skipping:
                    found.append((mark.offset + position, chunk[position:position + MAX_LINE_BYTES + 1]))
                position, skipping = len(chunk), True
            break
        if skipping:
            skipping = False
        elif line := chunk[position:end].rstrip(b"\r"):
            found.append((mark.offset + position, line))
        position = end + 1
    return found, mark.offset + position, skipping


def advanced(mark: Mark, offset: int, head: str, tail: str, skipping: bool) -> Mark:
    """The mark after reading up to `offset`; the digests are of the first and last bytes before it."""
    return msgspec.structs.replace(mark, offset=offset, head=head, tail=tail, skipping=skipping,
                                   size=max(mark.size, offset))


def to_cursor(marks: Sequence[Mark], begun: int) -> Cursor:
    return {"files": msgspec.to_builtins(list(marks)), "begun": begun}


def from_cursor(cursor: Cursor) -> list[Mark]:
    return msgspec.convert(cursor.get("files", []), list[Mark])


def begun_of(cursor: Cursor) -> int:
    return msgspec.convert(cursor.get("begun", 0), int)


def _at(mark: Mark, found: Found) -> Mark:
    return msgspec.structs.replace(mark, device=found.device, inode=found.inode, path=found.path,
                                   size=max(found.size, mark.offset), gone=False)
