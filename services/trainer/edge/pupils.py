"""The processes in which streams are learnt, on this machine: frames over a pipe, one question at a time."""

import asyncio
import json
import os
import signal
import struct
import sys
from asyncio.subprocess import PIPE
from asyncio.subprocess import Process as AsyncProcess
from collections.abc import Mapping
from typing import Any

from lepton.errors import Unavailable

# As `worker.stream` reads and writes them.
_FRAME = struct.Struct("!QQ")


class PupilProcesses:
    """A `services.trainer.flow.streams.Pupils`."""

    async def launch(self) -> "PupilProcess":
        """It dies with this process. Raises Unavailable when it cannot be started."""
        try:
            return PupilProcess(await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.trainer.worker", "stream", "-", str(os.getpid()),
                stdin=PIPE, stdout=PIPE, start_new_session=True))
        except OSError as error:
            raise Unavailable(f"the process of a stream cannot be started: {error.strerror}") from error


class PupilProcess:
    """A `services.trainer.flow.streams.Pupil`."""

    def __init__(self, process: AsyncProcess) -> None:
        self._process = process

    async def ask(self, header: Mapping[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """The answer's header and bytes. Raises Unavailable when the process died over it."""
        text = json.dumps(header).encode()
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None and sink is not None
        try:
            sink.write(_FRAME.pack(len(text), len(payload)) + text + payload)
            await sink.drain()
            sizes = _FRAME.unpack(await source.readexactly(_FRAME.size))
            answer, data = [await source.readexactly(size) for size in sizes]
        except (OSError, asyncio.IncompleteReadError) as error:
            code = await self._process.wait()
            raise Unavailable(f"the process that learns a stream died with {code}",
                              remedy="it is started again from what was kept") from error
        return json.loads(answer), data

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
