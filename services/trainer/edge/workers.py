"""Run folders on this machine's disk, and the processes that work in them."""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import Process as AsyncProcess
from pathlib import Path

from lepton.errors import Unavailable

LOG = "log.txt"
LOG_TAIL_BYTES = 2000


class RunFolders:
    """`<state_dir>/trainer/runs/<run id>`."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def of(self, run_id: str) -> "RunFolder":
        return RunFolder(self._root / run_id)

    async def names(self) -> list[str]:
        return sorted(path.name for path in self._root.iterdir()) if self._root.is_dir() else []


class RunFolder:
    """A `services.trainer.flow.ports.Folder`. A disk that refuses is Unavailable: a person can make room."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self, name: str) -> bytes | None:
        try:
            return await asyncio.to_thread((self._path / name).read_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused(error) from error

    async def write(self, name: str, data: bytes) -> None:
        try:
            await asyncio.to_thread(self._write, name, data)
        except OSError as error:
            raise self._refused(error) from error

    async def launch(self) -> "RunProcess":
        """The run's process tree; it dies with this process."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            with (self._path / LOG).open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "services.trainer.worker", "launch", str(self._path), str(os.getpid()),
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        except OSError as error:
            raise self._refused(error) from error
        return RunProcess(process)

    async def log_tail(self) -> str:
        return (await self.read(LOG) or b"")[-LOG_TAIL_BYTES:].decode(errors="replace")

    async def remove(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._path, ignore_errors=True)

    def _write(self, name: str, data: bytes) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        draft = self._path / f".{name}.{os.getpid()}"
        draft.write_bytes(data)
        draft.replace(self._path / name)

    def _refused(self, error: OSError) -> Unavailable:
        return Unavailable(f"the run's folder cannot be used: {error.strerror}", place=str(self._path),
                           remedy="make room on the disk, or set LEPTON_STATE_DIR to another")


class RunProcess:
    """A `services.trainer.flow.ports.Process`: torch elastic and, below it, the worker."""

    def __init__(self, process: AsyncProcess) -> None:
        self._process = process

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    async def kill(self) -> None:
        """The worker is bound to its parent's life by the kernel, so killing the parent ends both."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
