"""The process manager of an installation: crash leftovers, dead children, names that are too long."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from deploy.local import down, processes
from deploy.supervisor import ProcessManager
from lepton.errors import Busy, Invalid, Missing, Unavailable
from tests.harness.wait import poll_until

pytestmark = pytest.mark.process


@dataclass(frozen=True)
class Program:
    """A tiny supervised program."""

    name: str
    code: str = "import signal; signal.pause()"
    environment: Mapping[str, str] = field(default_factory=dict)
    restarted: bool = False
    stop_s: int = 2

    @property
    def command(self) -> tuple[str, ...]:
        return (sys.executable, "-c", self.code)


def shared(home: Path) -> dict[str, str]:
    return {processes.HOME_MARK: str(home), "PATH": os.environ["PATH"]}


def begin(home: Path, *programs: Program) -> ProcessManager:
    processes.write_configuration(home, home, programs, shared(home))
    return processes.start_manager(home, shared(home))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    down.down(tmp_path)
    assert not processes.find_processes(tmp_path)


def running(manager: ProcessManager, name: str) -> int:
    poll_until(lambda: manager.process(name).state == "RUNNING", f"{name} to run", 10)
    return manager.process(name).pid


def test_what_a_killed_manager_left_behind_is_no_hindrance(home: Path) -> None:
    manager = begin(home, Program("child"))
    manager.start("child")
    orphan = running(manager, "child")
    os.kill(manager.pid(), signal.SIGKILL)
    poll_until(lambda: not manager.alive(), "the manager to be gone")
    assert (home / "supervisor.sock").exists()
    assert (home / "supervisord.pid").exists()
    assert [process.pid for process in processes.find_processes(home)] == [orphan]
    assert processes.end_processes(home, grace_s=5) == [f"pid {orphan} ended"]
    assert begin(home, Program("child")).alive()


def test_down_ends_a_frozen_child_and_one_that_refuses_to_stop(home: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    manager = begin(home, Program("frozen"), Program("stubborn", stubborn))
    for name in ("frozen", "stubborn"):
        manager.start(name)
    psutil.Process(running(manager, "frozen")).suspend()
    running(manager, "stubborn")
    down.down(home)
    assert not processes.find_processes(home)
    assert not (home / "supervisor.sock").exists()


def test_grandchildren_are_found_and_ended_too(home: Path) -> None:
    family = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import signal; signal.pause()'])"
    manager = begin(home, Program("parent", family))
    manager.start("parent")
    running(manager, "parent")
    poll_until(lambda: len(processes.find_processes(home)) == 3, "manager, parent and child")
    down.down(home)
    assert not processes.find_processes(home)


def test_only_what_is_to_be_restarted_by_the_manager_is(home: Path) -> None:
    manager = begin(home, Program("kept", restarted=True), Program("left"))
    for name in ("kept", "left"):
        manager.start(name)
    kept, left = running(manager, "kept"), running(manager, "left")
    os.kill(kept, signal.SIGKILL)
    os.kill(left, signal.SIGKILL)
    poll_until(lambda: manager.process("kept").pid not in (0, kept), "the restart", 10)
    poll_until(lambda: manager.process("left").state == "EXITED", "the other to stay down", 10)


def test_a_program_that_cannot_be_started_is_said(home: Path) -> None:
    manager = begin(home, Program("broken", "raise SystemExit('no such luck')"))
    manager.start("broken")
    poll_until(lambda: manager.process("broken").state == "FATAL", "the program to fail", 10)
    assert processes.last_words(home / "logs" / "broken.log") == "no such luck"


def test_a_name_nobody_has_is_missing(home: Path) -> None:
    manager = begin(home, Program("child"))
    with pytest.raises(Missing):
        manager.start("nobody")


def test_a_manager_that_does_not_run_is_unavailable(home: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        processes.manager(home).processes()


def test_a_socket_name_that_is_too_long_gets_a_short_one(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    home.mkdir()
    assert len(str(processes.socket_path(home))) < 100
    try:
        assert begin(home, Program("child")).alive()
    finally:
        down.down(home)


def test_values_with_quotes_and_percent_signs_reach_a_program_unchanged(home: Path) -> None:
    value = "a \"quoted\" 100% 'value' ; # with comments"
    processes.write_configuration(home, home, [Program("echo", "import os; print(os.environ['LEPTON_X'], flush=True)",
                                                       {"OWN": "50%"})], shared(home))
    manager = processes.start_manager(home, {**shared(home), "LEPTON_X": value})
    manager.start("echo")
    log = home / "logs" / "echo.log"
    poll_until(lambda: log.exists() and value in log.read_text(), "the value in the log", 10)


def test_a_change_of_settings_is_noticed_and_not_written_down(tmp_path: Path) -> None:
    before = {"LEPTON_KAFKA_PASSWORD": "hunter2"}
    assert processes.write_configuration(tmp_path, tmp_path, [], before)
    assert not processes.write_configuration(tmp_path, tmp_path, [], before)
    assert processes.write_configuration(tmp_path, tmp_path, [], {"LEPTON_KAFKA_PASSWORD": "other"})
    assert "hunter2" not in (tmp_path / "supervisord.conf").read_text()


def test_a_folder_the_configuration_cannot_carry_is_refused() -> None:
    with pytest.raises(Invalid):
        processes.require_plain(Path("/tmp/a;b"))


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with processes.exclusively(tmp_path), pytest.raises(Busy), processes.exclusively(tmp_path):
        raise AssertionError("both were let in")
