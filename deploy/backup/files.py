"""The files of a stack that are in a backup: keys, who is trusted, the first API key."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from deploy.backup.archive.parts import ArchiveWriter, walk
from deploy.backup.archive.secret import Secret
from lepton.errors import Invalid

_PREFIX = "files/"


def copy(archive: ArchiveWriter, files: Mapping[str, Path]) -> None:
    for name, path in sorted(_named(files)):
        archive.begin(_PREFIX + name)
        archive.add(path.read_bytes())
        archive.end(1)


def write(archive: Path, secret: Secret, files: Mapping[str, Path]) -> list[str]:
    """Put them where `files` says, readable by their owner alone; their names. Raises Invalid for a name that leads
    elsewhere."""
    written = []
    for name, frame in walk(archive, secret):
        if not name.startswith(_PREFIX) or not frame:
            continue
        first, *rest = PurePosixPath(name.removeprefix(_PREFIX)).parts
        if first not in files or len(rest) > 1 or ".." in rest:
            raise Invalid("a file that belongs nowhere", place=name)
        path = files[first].joinpath(*rest)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
            sink.write(frame)
        written.append(name.removeprefix(_PREFIX))
    return written


def _named(files: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for name, path in files.items():
        if path.is_dir():
            yield from ((f"{name}/{one.name}", one) for one in path.glob("*.json"))
        elif path.exists():
            yield name, path
