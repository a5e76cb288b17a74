"""Files on this machine: which ones a path means, inside the folders that are allowed, and their new lines."""

import glob
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from lepton.clock import Clock
from lepton.contracts.source_blocks import LogSource
from lepton.errors import Invalid, Refused, Unavailable
from services.ingest.edge.sources.thread import OwnThread
from services.ingest.flow.pulling.origin import Cursor, FileFound, FileMark, Item, Lines, Pulled, files

BATCH_LINES = 2000
CHUNK_BYTES = 4 << 20
READ_WITHIN_S = 60.0


class LogOrigin:
    """A `services.ingest.flow.pulling.origin.Origin`. Files are opened for each look and never kept open."""

    unit = "bytes"

    def __init__(self, source: LogSource, roots: Sequence[Path], clock: Clock) -> None:
        self._source = source
        self._roots = [root.resolve() for root in roots]
        self._clock = clock
        self._lines = Lines(source.pattern)
        self._thread = OwnThread(f"log {source.name}")

    async def open(self, cursor: Cursor) -> None:
        if not self._roots:
            raise Refused("no folder is allowed for logs", field="LEPTON_INGEST_LOG_ROOTS",
                          remedy="set it for ingest to the folders its sources may read, separated by colons")
        if not await self._thread.call(lambda: self._inside(_fixed_part(self._source.path).resolve()), READ_WITHIN_S):
            raise Refused("the path leads out of the folders that are allowed", field="path", place=self._source.path,
                          remedy="name a path inside LEPTON_INGEST_LOG_ROOTS, or add its folder there")

    async def read(self, cursor: Cursor) -> Pulled:
        return await self._thread.call(lambda: self._read(files.from_cursor(cursor), files.begun_of(cursor)),
                                       READ_WITHIN_S)

    async def close(self) -> None:
        self._thread.leave()

    # -- in the thread ------------------------------------------------------------------------------------------

    def _read(self, marks: list[FileMark], begun: int) -> Pulled:
        try:
            found = self._look(marks)
            census = files.recognise(marks, begun, found, _same, _beginning, _ident)
            items: list[Item] = []
            after: list[FileMark] = []
            for mark in census.marks:
                read, mark = self._advance(mark, BATCH_LINES - len(items))
                items += read
                after.append(mark)
        except OSError as error:
            place = str(error.filename or self._source.path)
            raise Unavailable(f"cannot read: {error.strerror}", place=place) from error
        there = [mark for mark in after if not mark.gone]
        lag = sum(mark.size - mark.offset for mark in there)
        losses = [f"{mark.path} went with {mark.size - mark.offset} bytes unread" for mark in census.lost]
        shown = ", ".join(f"{Path(mark.path).name} {mark.offset}/{mark.size}" for mark in there[:5])
        shown = (shown or "no file matches yet") + (" …" if len(there) > 5 else "")
        return Pulled(items, files.to_cursor(after, census.begun), shown,
                      more=len(items) >= BATCH_LINES, lag=lag, losses=losses)

    def _look(self, marks: Sequence[FileMark]) -> list[FileFound]:
        """Files the path means, and all others in their folders, oldest first."""
        now_s = self._clock.now().timestamp()
        # The standard library's pathlib cannot follow an absolute pattern from its root.
        wanted = {Path(name).resolve() for name in glob.iglob(self._source.path, recursive=True)}  # noqa: PTH207
        folders = {path.parent for path in wanted} | {Path(mark.path).parent for mark in marks}
        entries: dict[tuple[int, int], tuple[int, FileFound]] = {}
        for path in sorted(wanted | {path for folder in folders for path in _files_in(folder)}):
            if not self._inside(path):
                continue
            try:
                about = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(about.st_mode):
                one = FileFound(str(path), about.st_dev, about.st_ino, about.st_size, now_s - about.st_mtime,
                                path in wanted)
                known = entries.get((one.device, one.inode))
                if known is None or (one.wanted and not known[1].wanted):
                    entries[(one.device, one.inode)] = (about.st_mtime_ns, one)
        found = [one for _, one in sorted(entries.values(), key=lambda entry: (entry[0], entry[1].path))]
        if sum(one.wanted for one in found) > files.MAX_FILES:
            raise Invalid(f"more than {files.MAX_FILES} files match", field="path", remedy="name fewer")
        return found

    def _advance(self, mark: FileMark, at_most: int) -> tuple[list[Item], FileMark]:
        if mark.gone or at_most <= 0 or mark.size <= mark.offset:
            return [], mark
        with Path(mark.path).open("rb") as file:
            if not _is(file, mark.device, mark.inode) or not _unchanged(file, mark):
                # Rotated between the look and now: the next look finds out.
                return [], mark
            file.seek(mark.offset)
            lines, offset, skipping = files.lines_of(file.read(CHUNK_BYTES), mark, at_most)
            head, tail = _head(file, offset), _tail(file, offset)
        if offset == mark.offset:
            return [], mark
        items = self._lines.read((f"{mark.ident}/{start}", line) for start, line in lines)
        return items, files.advanced(mark, offset, head, tail, skipping)

    def _inside(self, path: Path) -> bool:
        """`path` is resolved already."""
        return any(path == root or root in path.parents for root in self._roots)


def roots_of(text: str) -> list[Path]:
    """Folders of a setting, separated by colons."""
    return [Path(part) for part in text.split(":") if part]


def _fixed_part(path: str) -> Path:
    """The folder above the first part with a wildcard."""
    parts = path.split("/")[:-1]
    wild = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path("/".join(parts[:wild]) or "/")


def _files_in(folder: Path) -> Iterator[Path]:
    """Plain files only: a link is never followed to find where a file went."""
    try:
        with os.scandir(folder) as entries:
            yield from (Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return


def _same(found: FileFound, mark: FileMark) -> bool:
    try:
        with Path(found.path).open("rb") as file:
            return _is(file, found.device, found.inode) and _unchanged(file, mark)
    except FileNotFoundError:
        return False


def _unchanged(file: BinaryIO, mark: FileMark) -> bool:
    """Whether the file still begins with what was read under the mark."""
    return mark.offset == 0 or (_head(file, mark.offset), _tail(file, mark.offset)) == (mark.head, mark.tail)


def _is(file: BinaryIO, device: int, inode: int) -> bool:
    """Whether the open file is the one that was looked at, which lies inside the folders that are allowed."""
    about = os.fstat(file.fileno())
    return (about.st_dev, about.st_ino) == (device, inode)


def _beginning(one: FileFound, other: FileFound) -> bool:
    """Judged by its first and last bytes, which is enough for lines that bear a time."""
    places = ((0, min(one.size, files.HEAD_BYTES)),
              (max(0, one.size - files.TAIL_BYTES), min(one.size, files.TAIL_BYTES)))
    try:
        with Path(one.path).open("rb") as first, Path(other.path).open("rb") as second:
            return all(_at(first, *place) == _at(second, *place) for place in places)
    except FileNotFoundError:
        return False


def _ident(found: FileFound, number: int) -> str:
    with Path(found.path).open("rb") as file:
        begin = _at(file, 0, min(found.size, files.HEAD_BYTES))
    return _digest(f"{found.device}/{found.inode}/{number}/".encode() + begin)


def _head(file: BinaryIO, offset: int) -> str:
    return _digest(_at(file, 0, min(offset, files.HEAD_BYTES)))


def _tail(file: BinaryIO, offset: int) -> str:
    return _digest(_at(file, max(0, offset - files.TAIL_BYTES), min(offset, files.TAIL_BYTES)))


def _at(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
