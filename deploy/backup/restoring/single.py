"""One artefact out of a backup, by its SHA-256: nothing else of the backup is brought back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.backup.archive.parts import walk
from deploy.backup.archive.secret import Secret
from deploy.backup.taking import AGAIN, CHUNKS, FILES
from lepton.errors import Busy
from lepton.store.artifacts import sha256_hex
from lepton.store.copies.raw import split

Late = Callable[[], bool]
"""Whether the time to look is over."""

_FILES, _CHUNKS = f"database/{FILES}", f"database/{CHUNKS}"


@dataclass(frozen=True, slots=True)
class Artifact:
    """Bytes whose SHA-256 was asked for, and the kind they were stored under."""

    data: bytes
    kind: str


def artifact(path: Path, secret: Secret, digest: str, late: Late) -> Artifact | None:
    """The artefact as the backup has it; None where it has none, or not whole: the name is the proof of the bytes.

    Raises Refused for a wrong secret, Invalid once the backup turns out to be damaged, Busy when `late` says so.
    """
    kind: str | None = None
    chunks: dict[int, bytes] = {}
    for name, frame in walk(path, secret):
        if late():
            raise Busy("the time for it is over", place=path.name)
        part = name.removesuffix(AGAIN)
        if part == _FILES and frame:
            for file in split(frame):
                kind = str(file.get("kind", "")) if file["_id"] == digest else kind
        elif part == _CHUNKS and frame and kind is not None:
            for chunk in split(frame):
                if chunk["files_id"] == digest:
                    chunks[int(chunk["n"])] = bytes(chunk["data"])
        elif chunks:
            break
    data = b"".join(chunks[number] for number in sorted(chunks))
    return Artifact(data, kind) if kind is not None and sha256_hex(data) == digest else None
