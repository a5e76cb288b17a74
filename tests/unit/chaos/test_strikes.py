"""Faults that processes feel, on a process of the test's own."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
import pytest

from deploy.chaos.load.traffic import Traffic
from deploy.chaos.network import Network
from deploy.chaos.plan import Spoil, Starve, Strike
from deploy.chaos.strikes import crashed_again, struck
from deploy.supervisor import Process, ProcessManager
from lepton.errors import Missing
from tests.harness.wait import apoll_until, poll_until


class Control:
    """Knows one process, `mine`, by the pid it has."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def process(self, name: str) -> Process:
        return Process(name, "RUNNING", self.pid if name == "mine" else 0, 0, 0, "")


@pytest.fixture
def mine() -> Iterator[psutil.Process]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.communicate()


async def untouched(digest: str) -> None:
    raise AssertionError("no model is struck here")


def strike(fault: Any, mine: psutil.Process, traffic: object = None) -> Any:
    network = Network([], httpx.AsyncClient())
    return struck(fault, cast("ProcessManager", Control(mine.pid)), cast("Traffic", traffic), network, untouched)


async def test_a_kill_ends_it_at_once(mine: psutil.Process) -> None:
    async with strike(Strike(name="a", do="kill", target="mine"), mine) as pid:
        assert pid == mine.pid
        assert psutil.Process(mine.pid).wait(10) == -signal.SIGKILL


@pytest.fixture
def following() -> Iterator[list["subprocess.Popen[bytes]"]]:
    processes = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(3)]
    try:
        yield processes
    finally:
        for one in processes:
            one.kill()
            one.communicate()


async def test_in_a_loop_of_crashes_whoever_takes_the_place_is_ended_too_once_ready(
        mine: psutil.Process, following: list["subprocess.Popen[bytes]"]) -> None:
    control, fault = Control(mine.pid), Strike(name="a", do="crash_loop", target="mine", times=3)
    waited: list[int] = []

    async def back(pid: int) -> bool:
        waited.append(pid)
        control.pid = following[len(waited) - 1].pid
        return True

    async with struck(fault, cast("ProcessManager", control), cast("Traffic", None), Network([], httpx.AsyncClient()),
                      untouched) as pid:
        assert await crashed_again(fault, cast("ProcessManager", control), pid, back) == following[1].pid
    assert waited == [mine.pid, following[0].pid]
    assert psutil.Process(following[0].pid).wait(10) == psutil.Process(following[1].pid).wait(10) == -signal.SIGKILL
    assert following[2].poll() is None


async def test_a_loop_of_crashes_is_over_where_nobody_takes_the_place(mine: psutil.Process) -> None:
    async def nobody(_: int) -> bool:
        return False

    control = cast("ProcessManager", Control(mine.pid))
    assert await crashed_again(Strike(name="a", do="crash_loop", target="mine"), control, 7, nobody) == 7
    assert mine.is_running()


async def test_who_hangs_goes_on_afterwards(mine: psutil.Process) -> None:
    async with strike(Strike(name="a", do="hang", target="mine"), mine):
        poll_until(lambda: mine.status() == psutil.STATUS_STOPPED, "it to hang", 10)
    poll_until(lambda: mine.status() != psutil.STATUS_STOPPED, "it to go on", 10)


async def test_file_handles_are_few_and_then_as_before(mine: psutil.Process) -> None:
    before = resource.prlimit(mine.pid, resource.RLIMIT_NOFILE)
    async with strike(Starve(name="a", do="files", target="mine", files=2), mine):
        assert resource.prlimit(mine.pid, resource.RLIMIT_NOFILE)[0] == mine.num_fds() + 2
    assert resource.prlimit(mine.pid, resource.RLIMIT_NOFILE) == before


RESERVING = """
import sys
for line in sys.stdin:
    try: print(len(bytearray(int(line) * 2**20)), flush=True)
    except MemoryError: print('none left', flush=True)
"""


@pytest.fixture
def reserving() -> Iterator["subprocess.Popen[str]"]:
    """Reserves as many megabytes as it is told, says how many bytes it got, and lets them go."""
    with subprocess.Popen([sys.executable, "-c", RESERVING], text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_memory_is_at_its_limit_and_then_as_before(reserving: "subprocess.Popen[str]") -> None:
    def asked(megabytes: int) -> str:
        assert reserving.stdin is not None
        assert reserving.stdout is not None
        print(megabytes, file=reserving.stdin, flush=True)
        return reserving.stdout.readline().strip()

    assert asked(64) == str(64 * 2**20)
    async with strike(Starve(name="a", do="memory", target="mine", megabytes=16), psutil.Process(reserving.pid)):
        assert asked(4) == str(4 * 2**20)
        assert asked(64) == "none left"
    assert asked(64) == str(64 * 2**20)


async def test_a_disk_is_full_for_one_process_and_for_the_next_of_its_name(tmp_path: Path) -> None:
    writing = ("import sys\nfile = open(sys.argv[1], 'ab', buffering=0)\nfor line in sys.stdin:\n"
               "    try: file.write(b'x'); print('written', flush=True)\n"
               "    except OSError as failure: print(failure.strerror, flush=True)")

    def begun(name: str) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", writing, str(tmp_path / name)], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tried(process: "subprocess.Popen[str]") -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    first, second = begun("first"), begun("second")
    control = Control(first.pid)
    fault = Starve(name="a", do="disk", target="mine")

    async def full(process: "subprocess.Popen[str]") -> bool:
        return tried(process) == "File too large"

    assert tried(first) == "written"
    async with struck(fault, cast("ProcessManager", control), cast("Traffic", None), Network([], httpx.AsyncClient()),
                      untouched):
        await apoll_until(lambda: full(first), "its disk to be full", 20)
        control.pid = second.pid
        await apoll_until(lambda: full(second), "the next one's disk to be full", 20)
    assert (tried(first), tried(second)) == ("written", "written")
    for process in (first, second):
        process.kill()
        process.communicate()


async def test_others_that_want_the_processor_end_with_the_fault(mine: psutil.Process) -> None:
    async with strike(Starve(name="a", do="cpu", processes=2), mine):
        others = [one for one in psutil.Process().children() if "while True: pass" in one.cmdline()]
        assert len(others) == 2
    assert not [one for one in others if one.is_running()]


async def test_events_are_spoilt_while_the_fault_lasts(mine: psutil.Process) -> None:
    class Flowing:
        spoilt: Spoil | None = None

        def spoil(self, fault: Spoil | None) -> None:
            self.spoilt = fault

    fault, flowing = Spoil(name="a", do="poison", field="x"), Flowing()
    async with strike(fault, mine, flowing):
        assert flowing.spoilt is fault
    assert flowing.spoilt is None


async def test_who_does_not_run_cannot_be_struck(mine: psutil.Process) -> None:
    with pytest.raises(Missing):
        async with strike(Strike(name="a", do="kill", target="other"), mine):
            pytest.fail("it was struck")
