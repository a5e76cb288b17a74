"""The tool cache: built once, begun anew after an interruption, and clear about what is missing."""

import threading
from pathlib import Path

import pytest

from deploy.local.servers import cache, java
from lepton.errors import Unavailable


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_CACHE", str(tmp_path / "cache"))


def test_a_tool_is_built_once() -> None:
    built: list[Path] = []
    assert cache.ensure("tool", built.append) == cache.ensure("tool", built.append)
    assert len(built) == 1
    assert cache.cached("tool") == built[0]


def test_two_who_ask_at_once_get_one_build() -> None:
    built: list[Path] = []
    begun, go_on = threading.Event(), threading.Event()

    def build(folder: Path) -> None:
        begun.set()
        assert go_on.wait(10)
        built.append(folder)

    threads = [threading.Thread(target=cache.ensure, args=("tool", build)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(built) == 1


def test_a_build_that_failed_leaves_nothing_that_looks_complete() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise Unavailable("no network")

    with pytest.raises(Unavailable):
        cache.ensure("tool", fail)
    assert cache.cached("tool") is None
    assert not (cache.ensure("tool", lambda folder: (folder / "whole").touch()) / "half").exists()


def test_a_full_disk_is_named_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as full:
        cache.require_space(tmp_path / "not" / "yet", 10**9, "the stack's data")
    assert "the stack's data needs 1000000000 MB" in str(full.value)
    assert full.value.place == str(tmp_path)


def test_a_missing_tool_is_named_with_its_remedy() -> None:
    with pytest.raises(Unavailable, match="no-such-tool, which is not installed"):
        cache.run_tool(["no-such-tool"], "building", "install it")


def test_a_failed_build_step_says_its_telling_line() -> None:
    with pytest.raises(Unavailable, match="disk on fire"):
        cache.run_tool(["sh", "-c", "echo 'ERROR disk on fire'; echo bye; exit 3"], "building", "extinguish it")


@pytest.mark.parametrize(("said", "clear"), [
    ('openjdk version "11.0.2"', "Java 11 is too old"), ('java version "1.8.0_292"', "Java 8 is too old"),
    ("what?", "too old")])
def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, clear: str) -> None:
    fake_java(tmp_path, monkeypatch, said)
    with pytest.raises(Unavailable, match=clear) as refused:
        java.find.__wrapped__()
    assert "JDK 17" in str(refused.value)


def test_a_new_java_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, monkeypatch, 'openjdk version "21.0.1" 2026')
    assert java.find.__wrapped__().release == 21


def test_no_java_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unavailable, match="no Java was found") as missing:
        java.find.__wrapped__()
    assert "openjdk-17" in str(missing.value)


def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """A JDK folder whose `java -version` says this."""
    binary = tmp_path / "bin" / "java"
    binary.parent.mkdir()
    binary.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    binary.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
