"""How much of its processors, memory, disk and file handles this process and its machine have used up, as shares."""

import errno
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from lepton.contracts import names

HOST_EVERY_S: Final = 2.0
"""What the whole machine has used up is said no more often: it moves slowly, and every process says it."""
LIMIT_FILES: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container is told how much memory it may use: version 2 of control groups, and 1."""

Reading = tuple[str, float, dict[str, str]]


class Resources:
    """Read before each heartbeat. `folder`: its file system is the disk that counts; it need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()
        psutil.cpu_percent()
        self._folder = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())
        self._memory_bytes = memory_limit(LIMIT_FILES, psutil.virtual_memory().total)
        self._host = socket.gethostname()
        self._host_at: float | None = None

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def read(self, now: float) -> Iterator[Reading]:
        """Names, values and attributes of what is to be said at `now`, in monotonic seconds."""
        try:
            yield from self._own()
            yield from self._machine(now)
        except OSError as error:
            # To look takes a file handle. A process that has none left still says so, and that it lives.
            if error.errno != errno.EMFILE:
                raise
            yield names.FILES_SHARE, 1.0, {}

    def _own(self) -> Iterator[Reading]:
        memory = self._process.memory_info()
        rss = memory.rss
        yield names.CPU_SHARE, self._process.cpu_percent() / 100, {}
        yield names.RSS_BYTES, rss, {}
        yield names.MEMORY_SHARE, max(rss / self._memory_bytes, *_of_own_limits(memory)), {}
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            yield names.FILES_SHARE, self._process.num_fds() / files, {}

    def _machine(self, now: float) -> Iterator[Reading]:
        if self._host_at is not None and now - self._host_at < HOST_EVERY_S:
            return
        self._host_at = now
        where = {"host": self._host}
        yield names.HOST_CPU_SHARE, psutil.cpu_percent() / 100, where
        yield names.HOST_MEMORY_SHARE, psutil.virtual_memory().percent / 100, where
        yield names.HOST_DISK_SHARE, psutil.disk_usage(str(self._folder)).percent / 100, where


def _of_own_limits(memory: Any) -> Iterator[float]:
    """Shares of what the process itself may reserve (`ulimit -d`, `ulimit -v`), 0 where it may all there is."""
    # Systems other than Linux do not say how much of it is data.
    for which, used in (resource.RLIMIT_DATA, getattr(memory, "data", 0)), (resource.RLIMIT_AS, memory.vms):
        allowed, _ = resource.getrlimit(which)
        yield 0.0 if allowed == resource.RLIM_INFINITY else used / max(1, allowed)


def memory_limit(limit_files: tuple[Path, ...], total: int) -> int:
    """Bytes this process may use: what its control group allows, and never more than there are."""
    for path in limit_files:
        try:
            told = path.read_text().strip()
        except OSError:
            continue
        if told.isdigit():
            return min(total, int(told)) or total
    return total
