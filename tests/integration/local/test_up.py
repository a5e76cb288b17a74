"""What `up` says and leaves behind when it cannot do its work: one line, exit 1, nothing that did not run before."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import down, ports, processes
from tests.harness.wait import poll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]

ROOT = Path(__file__).parents[3]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    left = processes.find_processes(folder)
    down.down(folder)
    assert not left, left


def environment(home: Path, **changed: str) -> dict[str, str]:
    return {**os.environ, "XDG_CONFIG_HOME": str(home.parent / "config"), **changed}


def up(home: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "deploy.local", "up", "--home", str(home)], cwd=ROOT, timeout=150,
                          env=environment(home, **changed), capture_output=True, text=True, check=False)


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a command that could not do its work."""
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_missing_jdk_is_one_clear_line(home: Path) -> None:
    line = only_line(up(home, JAVA_HOME="/nowhere"))
    assert "no Java was found" in line
    assert "JAVA_HOME=/nowhere" in line
    assert "install a JDK 17" in line


def test_a_full_disk_is_one_clear_line_and_nothing_is_started(home: Path) -> None:
    """On a file system that really is full: one of 4 MB, mounted where nobody else sees it."""
    home.mkdir()
    script = 'mount -t tmpfs -o size=4m none "$0" || exit 1; head -c 4m /dev/zero > "$0/filled" 2>/dev/null; exec "$@"'
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(home)]
    if subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel lets nobody but root mount, not even for itself")
    done = subprocess.run([*mounted, sys.executable, "-m", "deploy.local", "up", "--home", str(home)], cwd=ROOT,
                          timeout=150, env=environment(home), capture_output=True, text=True, check=False)
    line = only_line(done)
    assert "MB of disk are free" in line
    assert str(home) in line
    assert not processes.find_processes(home)


def test_a_busy_port_is_one_clear_line_and_nothing_is_started(home: Path) -> None:
    home.mkdir()
    made = ports.create(home)
    with socket.socket() as intruder:
        intruder.bind(("127.0.0.1", made.ports["rest"]))
        intruder.listen()
        line = only_line(up(home))
    assert f"port {made.ports['rest']} of gateway is in use by" in line
    assert f"(pid {os.getpid()})" in line
    assert str(home / "stack.json") in line
    assert not (home / "logs" / "kafka.log").exists()


def test_a_dead_child_is_one_clear_line_and_all_is_stopped_again(home: Path) -> None:
    line = only_line(up(home, LEPTON_GATEWAY_RATE_PER_S="-1"))
    assert "gateway ended while it was starting" in line
    assert "LEPTON_GATEWAY_RATE_PER_S" in line
    assert str(home / "logs" / "gateway.log") in line


def test_a_broker_that_cannot_be_reached_is_one_clear_line(home: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        line = only_line(up(home, LEPTON_KAFKA_BOOTSTRAP=address))
    assert address in line


def test_an_interrupted_up_stops_what_it_began(home: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "deploy.local", "up", "--home", str(home)], cwd=ROOT,
                               env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process:
        poll_until(lambda: len(processes.find_processes(home)) > 1, "something to be begun", 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
        assert process.stderr
        assert process.stderr.read() == b"lepton up: interrupted\n"


def test_status_and_down_of_what_was_never_brought_up_say_so(home: Path) -> None:
    for verb, code, said in (("status", 1, "no stack was brought up here"), ("down", 0, "nothing to stop")):
        done = subprocess.run([sys.executable, "-m", "deploy.local", verb, "--home", str(home)], cwd=ROOT, timeout=30,
                              env=environment(home), capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert said in done.stdout + done.stderr
