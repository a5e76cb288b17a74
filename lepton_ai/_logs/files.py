"""Log files of the stack on this machine: those that were rotated away too, in order of time, and as they grow."""

import heapq
import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from lepton.errors import Missing
from lepton_ai._logs.entries import Entry, Wanted, read_line

# What one line, or one stack trace below it, may hold in memory; the rest of a longer one is left out.
MAX_LINE_BYTES: Final = 2**20
MAX_LINES_BELOW: Final = 1000
CUT: Final = " …"
_BLOCK: Final = 65_536


def found(folder: Path, names: Sequence[str] = (), services: Sequence[str] = ()) -> list[Path]:
    """Present files of the named processes and of all processes of the named services; of all where none is named.

    Raises Missing where there are no logs at all, or none of a name.
    """
    known = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if not known:
        raise Missing("no logs", place=str(folder), remedy="start the stack with `lepton up`")
    taken: dict[str, Path] = {}
    for name in names:
        if name not in known:
            raise Missing(f"no log of {name}", place=str(folder), remedy=f"there are {', '.join(known)}")
        taken[name] = known[name]
    for service in services:
        of_it = {name: path for name, path in known.items() if _service(name) == service or name == service}
        if not of_it:
            raise Missing(f"no log of service {service}", place=str(folder),
                          remedy=f"there are {', '.join(sorted({_service(name) for name in known}))}")
        taken |= of_it
    return list((taken or known).values())


def _service(process: str) -> str:
    """`predictor` of `predictor-0`."""
    name, _, number = process.rpartition("-")
    return name if name and number.isdigit() else process


class Log:
    """The log of one process, opened when made, so that what is rotated later is neither lost nor read twice.

    `entries` reads what there is; `grown`, called again and again, what came since, also after a rotation. Of one that
    is `followed`, a last line that has no end yet is left to `grown`.
    """

    def __init__(self, path: Path, *, followed: bool = False) -> None:
        self._path = path
        self._followed = followed
        self.name = path.stem
        self._newest = path.open("rb")
        self._older = _older(path, os.fstat(self._newest.fileno()).st_ino)
        self._part = b""
        self._pending: Entry | None = None

    def close(self) -> None:
        for file in (self._newest, *self._older):
            file.close()

    def entries(self, since: float | None = None) -> Iterator[Entry]:
        """Oldest first. Files whose last line is older than `since` are not read."""
        files = [file for file in (*self._older, self._newest)
                 if since is None or os.fstat(file.fileno()).st_mtime >= since]
        if self._newest not in files:
            self.skip()
        lines = itertools.chain.from_iterable(
            _whole_lines(file, unfinished=file is not self._newest or not self._followed) for file in files)
        return _grouped(self.name, lines)

    def last(self, count: int) -> list[str]:
        """The last lines as they stand, of the present file, and of older ones where it holds too few."""
        if not count:
            self.skip()
            return []
        lines: deque[str] = deque(maxlen=count)
        for file in (self._newest, *reversed(self._older)):
            lines.extendleft(reversed(_last_lines(file, count - len(lines))))
            if len(lines) == count:
                break
        return list(lines)

    def skip(self) -> None:
        """Go to the end: what is there by now is not of interest."""
        self._newest.seek(0, os.SEEK_END)

    def grown(self) -> Iterator[Entry]:
        """Entries that are whole; the newest waits until the next call, for what may belong below it."""
        came = False
        for line in self._new_lines():
            came = True
            before, self._pending = self._pending, _next(self.name, line, self._pending)
            if before is not None and before is not self._pending:
                yield before
        if not came and self._pending is not None:
            yield self._pending
            self._pending = None

    def _new_lines(self) -> Iterator[str]:
        yield from self._read_on()
        if self._rotated():
            # Whoever wrote the old file may have written to it after we looked at it last.
            yield from self._read_on()
            if self._part:
                yield _decoded(self._part)
            self._newest.close()
            self._newest, self._part = self._path.open("rb"), b""
            yield from self._read_on()

    def _read_on(self) -> Iterator[str]:
        while block := self._newest.read(_BLOCK):
            *whole, self._part = (self._part + block).split(b"\n")
            # A line without an end is kept up to the limit only.
            self._part = self._part[:MAX_LINE_BYTES]
            for line in whole:
                yield _decoded(line)

    def _rotated(self) -> bool:
        """Whether the name stands for another file now, or for the same one begun anew."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        return now.st_ino != os.fstat(self._newest.fileno()).st_ino or now.st_size < self._newest.tell()


def merged(logs: Sequence[Log], wanted: Wanted) -> Iterator[Entry]:
    """Wanted entries of all logs by time, holding one of each log at a time.

    A line that does not say when it was written stands where the line before it stood.
    """
    def timed(log: Log) -> Iterator[tuple[float, Entry]]:
        at = 0.0
        for entry in log.entries(wanted.since):
            at = max(at, entry.at or 0.0)
            if wanted.takes(entry):
                yield at, entry
    return (entry for _, entry in heapq.merge(*map(timed, logs), key=lambda one: one[0]))


def _older(path: Path, newest: int) -> list[BinaryIO]:
    """Rotated files, the oldest first. One that was rotated while we opened them is taken once."""
    files: dict[int, BinaryIO] = {}
    numbered = [(int(one.suffix[1:]), one) for one in path.parent.glob(f"{path.name}.*") if one.suffix[1:].isdigit()]
    for _, one in sorted(numbered):
        try:
            file = one.open("rb")
        except FileNotFoundError:
            continue
        inode = os.fstat(file.fileno()).st_ino
        if inode == newest or inode in files:
            file.close()
        else:
            files[inode] = file
    return list(reversed(files.values()))


def _whole_lines(file: BinaryIO, *, unfinished: bool) -> Iterator[str]:
    """From the start; of a line longer than the limit its beginning. `unfinished`: a last line without an end too."""
    file.seek(0)
    while line := file.readline(MAX_LINE_BYTES):
        ended = line.endswith(b"\n")
        if not ended and len(line) < MAX_LINE_BYTES and not unfinished:
            file.seek(-len(line), os.SEEK_CUR)
            return
        yield _decoded(line) + ("" if ended or len(line) < MAX_LINE_BYTES else CUT)
        while not ended and (rest := file.readline(MAX_LINE_BYTES)):
            ended = rest.endswith(b"\n")


def _last_lines(file: BinaryIO, count: int) -> list[str]:
    """Read from the end, a block at a time."""
    place = file.seek(0, os.SEEK_END)
    held = b""
    # One more end of line than lines: the text before the first of them may be half a line.
    while place > 0 and held.count(b"\n") <= count and len(held) < count * MAX_LINE_BYTES:
        start = max(0, place - _BLOCK)
        file.seek(start)
        held = file.read(place - start) + held
        place = start
    file.seek(0, os.SEEK_END)
    lines = held.removesuffix(b"\n").split(b"\n") if held else []
    return [_decoded(line) for line in lines[-count:]]


def _decoded(line: bytes) -> str:
    return line[:MAX_LINE_BYTES].decode("utf-8", "replace").rstrip("\r\n")


def _grouped(name: str, lines: Iterator[str]) -> Iterator[Entry]:
    pending: Entry | None = None
    for line in lines:
        before, pending = pending, _next(name, line, pending)
        if before is not None and before is not pending:
            yield before
    if pending is not None:
        yield pending


def _next(name: str, line: str, pending: Entry | None) -> Entry:
    """What the line begins; `pending` itself, where the line belongs below it."""
    entry = read_line(name, line)
    if entry is not None or pending is None or pending.at is None:
        return entry or Entry(name, line)
    if pending.error.count("\n") >= MAX_LINES_BELOW or len(pending.error) >= MAX_LINE_BYTES:
        return Entry(name, line, pending.at, pending.level, trace_id=pending.trace_id)
    pending.error = f"{pending.error}\n{line}" if pending.error else line
    return pending
