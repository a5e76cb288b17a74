"""A service as a real process of its own, for as long as a test needs it."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def service_process(module: str, environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m module`, writing to `log`; killed at the end if it still lives."""
    with log.open("ab") as sink:
        process = subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, env=dict(environment), stdout=sink,
                                   stderr=sink)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
