"""Unmodified clients of the inference protocol, in an environment of their own: they hold protobuf to old versions."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from deploy.local.servers import cache

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "clients.lock"
_LIMIT_S = 120


def environment() -> Path:
    """Its folder, installed on first use from the hashed lock file, outside the clone."""
    key = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    return cache.ensure(f"clients-{key}", _install)


def run(program: str, *arguments: str) -> str:
    """What a program of the environment printed; the test fails with that unless it ends well."""
    scripts = environment() / "bin"
    done = subprocess.run([str(scripts / program), *arguments], capture_output=True, text=True, timeout=_LIMIT_S,
                          check=False, env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _install(folder: Path) -> None:
    cache.require_space(folder, 600, "installing the protocol's clients")
    uv = str(Path(sys.executable).parent / "uv")
    cache.run_tool([uv, "venv", "-q", "--allow-existing", "--python", sys.executable, str(folder)],
                   "making the clients' environment", "run `make setup`")
    cache.run_tool([uv, "pip", "sync", "-q", "--require-hashes", "--python", str(folder / "bin" / "python"), str(LOCK)],
                   "installing the clients", "check that the Python package index can be reached and run it again")
