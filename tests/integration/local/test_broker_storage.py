"""Formatting a new broker's storage, with the real tool."""

import uuid
from pathlib import Path

import pytest

from deploy.local.servers import kafka
from tests.harness.servers import free_ports

pytestmark = pytest.mark.process


def test_a_cluster_id_that_begins_with_a_dash_is_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xfb" * 16))
    kafka.configure(tmp_path, *free_ports(2))
    assert "cluster.id=-_v7-_v7-_v7-_v7-_v7-w" in (tmp_path / "data" / "meta.properties").read_text()
