"""A real process, its real signals and exit codes."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.wait import poll_until

pytestmark = pytest.mark.process

KILN = Path(__file__).with_name("kiln.py")


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for one in started:
        if one.poll() is None:
            one.kill()
        one.communicate()


def start(processes: list[subprocess.Popen[str]], log: Path, **environment: str) -> subprocess.Popen[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("LEPTON_")}
    with log.open("w") as stderr:
        process = subprocess.Popen([sys.executable, str(KILN)], env=variables | environment, stderr=stderr, text=True,
                                   cwd=KILN.parents[3])
    processes.append(process)
    return process


def test_sigterm_drains_within_the_drain_time_and_exits_0(
        processes: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(processes, log, KILN_DRAINS="at once")
    poll_until(lambda: "is ready" in log.read_text(), "the process to be ready", 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert '"message": "drained"' in log.read_text()


def test_a_process_may_have_as_many_files_as_the_system_allows_it(
        processes: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    log = tmp_path / "log"
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    process = start(processes, log, KILN_DRAINS="at once", KILN_FILES="256")
    poll_until(lambda: "is ready" in log.read_text(), "the process to be ready", 20)
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0] == min(most, 1 << 20) > 256


def test_work_that_does_not_end_is_cut_off_at_the_drain_time(
        processes: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(processes, log, KILN_DRAINS="never", LEPTON_DRAIN_S="0.5")
    poll_until(lambda: "is ready" in log.read_text(), "the process to be ready", 20)
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - asked_at >= 0.5


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_terminates(
        processes: list[subprocess.Popen[str]], tmp_path: Path, first: signal.Signals) -> None:
    log = tmp_path / "log"
    process = start(processes, log, KILN_DRAINS="never", LEPTON_DRAIN_S="600")
    poll_until(lambda: "is ready" in log.read_text(), "the process to be ready", 20)
    process.send_signal(first)
    poll_until(lambda: "is stopping" in log.read_text(), "the process to begin stopping", 10)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == -signal.SIGTERM


def test_wrong_settings_exit_2_before_anything_starts(processes: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(processes, log, LEPTON_DRAIN_S="soon", LEPTON_HEARTBEAT_INTERVAL_S="-1")
    assert process.wait(20) == 2
    lines = log.read_text().splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["LEPTON_HEARTBEAT_INTERVAL_S", "LEPTON_DRAIN_S"]


def test_an_unreachable_dependency_exits_3(processes: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(processes, log, KILN_STORE="away")
    assert process.wait(20) == 3
    assert log.read_text().count("kiln cannot start: the clay store does not answer") == 1
    assert "Traceback" not in log.read_text()
