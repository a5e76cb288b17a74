"""One artefact is found in a backup by its SHA-256, or it is not given."""

from collections.abc import Callable
from pathlib import Path

import bson
import pytest

from deploy.backup.archive.secret import Secret
from deploy.backup.restoring.single import artifact
from lepton.errors import Busy
from lepton.store.artifacts import sha256_hex

FIRST, LATER = b"a" * 700 + b"b" * 300, b"later"
Write = Callable[..., Path]


def never() -> bool:
    return False


def stored(data: bytes, kind: str = "") -> tuple[bytes, list[bytes]]:
    """A file's document and those of its chunks, as they are in the database."""
    digest = sha256_hex(data)
    return bson.encode({"_id": digest, "length": len(data), "kind": kind}), [
        bson.encode({"_id": f"{digest}-{number}", "files_id": digest, "n": number, "data": data[at:at + 400]})
        for number, at in enumerate(range(0, len(data), 400))]


@pytest.fixture
def backup(write: Write) -> Path:
    (first, chunks), (later, later_chunks) = stored(FIRST, "model"), stored(LATER)
    other, other_chunks = stored(b"another")
    return write({"database/segment_heads": [], "database/fs.files": [first + other],
                  "database/fs.chunks": [chunks[0] + other_chunks[0], b"".join(chunks[1:])],
                  "database/models": [bson.encode({"_id": "shop"})],
                  "database/fs.files+": [later], "database/fs.chunks+": later_chunks})


@pytest.mark.parametrize(("data", "kind"), [(FIRST, "model"), (LATER, "")])
def test_it_comes_with_its_kind_also_from_what_was_copied_last(
        backup: Path, secret: Secret, data: bytes, kind: str) -> None:
    found = artifact(backup, secret, sha256_hex(data), never)
    assert found is not None
    assert (found.data, found.kind) == (data, kind)


def test_what_is_not_there_or_not_whole_is_not_given(write: Write, backup: Path, secret: Secret) -> None:
    assert artifact(backup, secret, sha256_hex(b"unknown"), never) is None
    file, chunks = stored(FIRST)
    broken = write({"database/fs.files": [file], "database/fs.chunks": chunks[:2]}, name="broken.lepton-backup")
    assert artifact(broken, secret, sha256_hex(FIRST), never) is None


def test_the_search_ends_with_its_time(backup: Path, secret: Secret) -> None:
    with pytest.raises(Busy, match="time for it is over"):
        artifact(backup, secret, sha256_hex(FIRST), lambda: True)
