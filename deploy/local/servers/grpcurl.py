"""How grpcurl is had: one on PATH, else built from the Go module proxy into the tool cache.

`python -m deploy.local.servers.grpcurl` builds it.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from deploy.local.servers import cache
from lepton.errors import LeptonError, Unavailable

MODULE = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
NAME = "grpcurl-1.9.3"
_REMEDY = "install Go (Debian: apt-get install golang-go), or grpcurl itself"


def binary() -> Path:
    """Raises Unavailable when there is neither grpcurl nor a Go that can build it."""
    found = shutil.which("grpcurl")
    return Path(found) if found else cache.ensure(NAME, _build) / "grpcurl"


def present() -> bool:
    return shutil.which("grpcurl") is not None or cache.cached(NAME) is not None


def begin() -> subprocess.Popen[str] | None:
    """Build it in the background, with the least claim on the processor; None when it is there or cannot be built.

    The build ends with this process at the latest.
    """
    if present() or shutil.which("go") is None:
        return None
    build = subprocess.Popen(["nice", "-n", "19", sys.executable, "-m", __name__], text=True, start_new_session=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    atexit.register(_end, build)
    return build


def _end(build: subprocess.Popen[str]) -> None:
    if build.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(build.pid, signal.SIGKILL)
        build.wait()


def _build(folder: Path) -> None:
    if shutil.which("go") is None:
        raise Unavailable("no Go was found, and it builds grpcurl", place="PATH", remedy=_REMEDY)
    cache.run_tool(["go", "install", MODULE], "building grpcurl", _REMEDY, env={"GOBIN": str(folder)})


if __name__ == "__main__":
    try:
        binary()
    except LeptonError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
