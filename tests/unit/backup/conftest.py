"""A key, an identity, and small backups for tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.backup.archive.parts import ArchiveWriter
from deploy.backup.archive.secret import Secret
from lepton.contracts.signing import Identity

Write = Callable[..., Path]


@pytest.fixture
def secret() -> Secret:
    return Secret("key", bytes(range(32)))


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity.create(tmp_path / "keys", "operator")


@pytest.fixture
def write(tmp_path: Path, secret: Secret, identity: Identity) -> Write:
    """Write a backup of parts, each a list of frames."""
    def written(parts: dict[str, list[bytes]], name: str = "a.lepton-backup", secret: Secret = secret,
                created: str = "2026-05-04T12:00:00+00:00") -> Path:
        path = tmp_path / name
        facts = {"stack": "shop", "created": created, "sealed_by": secret.kind}
        with ArchiveWriter(path, secret, facts) as archive:
            for part, frames in parts.items():
                archive.begin(part)
                for frame in frames:
                    archive.add(frame)
                archive.end(len(frames))
            archive.finish({"stack": "shop", "created": created, "topics": [], "groups": {}}, identity)
        return path
    return written
