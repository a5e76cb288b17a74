"""Which loops a process has, and what it says of them."""

import logging
import sys

import pytest

from lepton import native
from lepton.errors import Unavailable
from lepton.native.choice import use
from tests.harness.loops import looping


def test_python_serves_where_nothing_is_built(
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "lepton.native.loops", None)
    native.found.cache_clear()
    use("auto")
    assert native.built() is None and "tools/wire.sh builds them" in caplog.text
    with pytest.raises(Unavailable, match="LEPTON_INGEST_LOOPS"), looping("native"):
        pass
    native.choose("auto")
    native.found.cache_clear()


def test_python_serves_where_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with looping("python"):
        assert native.built() is None
    assert "loops: python, as asked for" in caplog.text
