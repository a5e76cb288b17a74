"""A server with all its processes: started, asked until it answers, weighed, and ended by their numbers."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from lepton.errors import Unavailable
from tests.bench.wire.program import load

START_S, STOP_S = 120.0, 8.0
EVERY_S = 0.1


class Tree:
    """A process and everything it started."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """Spent by those that run."""
        return sum(self._of(lambda one: sum(one.cpu_times()[:2])))

    def rss_bytes(self) -> int:
        """Resident, where what two processes share counts twice."""
        return int(sum(self._of(lambda one: one.memory_info().rss)))

    def _of(self, figure: Callable[[psutil.Process], float]) -> list[float]:
        found = []
        for one in self.processes():
            try:
                found.append(figure(one))
            except psutil.NoSuchProcess:
                continue
        return found


def measured(address: str, server: Tree, request: bytes, **options: Any) -> dict[str, Any]:
    """What the generator saw, with the CPU microseconds a request of the server's processes."""
    before = server.cpu_s()
    seen = load(address, request, timeout=5.0, **options)
    seen["cpu_us"] = (server.cpu_s() - before) / max(1, seen["requests"]) * 1e6
    return seen


@contextmanager
def serving(command: Sequence[str], log: Path, answers: Callable[[], bool]) -> Iterator[Tree]:
    """The server once it answers. Raises Unavailable with its last words when it ends before that, or never does."""
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=dict(os.environ))
    tree = Tree(process.pid)
    try:
        ends = time.monotonic() + START_S
        while not answers():
            if process.poll() is not None or time.monotonic() > ends:
                raise Unavailable(f"{'ended' if process.poll() is not None else 'did not answer'}: {last_words(log)}")
            psutil.wait_procs([psutil.Process(process.pid)], timeout=EVERY_S)
        yield tree
    finally:
        stop(process, tree)


def stop(process: subprocess.Popen[bytes], tree: Tree) -> None:
    """Ask the first process to end; kill what is left of them all."""
    every = tree.processes()
    process.terminate()
    _, left = psutil.wait_procs(every, timeout=STOP_S)
    for one in left:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=STOP_S)


def last_words(log: Path) -> str:
    said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in said if "rror" in line]
    return (telling or said or ["without a word"])[-1][:300]
