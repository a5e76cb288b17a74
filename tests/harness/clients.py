"""Unmodified clients of the inference protocol, in an environment of their own: they hold protobuf to old versions."""

import os
import subprocess
from pathlib import Path

from deploy.local.servers.environment import installed

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "clients.lock"
_LIMIT_S = 120


def environment() -> Path:
    """Its folder, installed on first use from the hashed lock file, outside the clone."""
    return installed(LOCK, "clients of the inference protocol", 600)


def run(program: str, *arguments: str) -> str:
    """What a program of the environment printed; the test fails with that unless it ends well."""
    scripts = environment() / "bin"
    done = subprocess.run([str(scripts / program), *arguments], capture_output=True, text=True, timeout=_LIMIT_S,
                          check=False, env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
