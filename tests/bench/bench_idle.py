"""What a stack that stands idle holds in memory: each process with its children, most of half a minute, in MB.

    python -m tests.bench idle          a stack of its own, without a pipeline
"""

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from tests.bench import results
from tests.harness.stack import LocalStack

AIMS_MB = {"trainer": 300}
"""At most so much."""
_WATCHED_S = 30


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lepton-bench-") as folder:
        stack = LocalStack(Path(folder) / "home", Path(folder) / "config")
        print(stack.up(), flush=True)
        try:
            most = _watched(stack, stack.services)
        finally:
            stack.down()
    print(f"Resident memory of an idle stack ({results.machine()})")
    for name, size in sorted(most.items()):
        aim = f", at most {AIMS_MB[name]}" if name in AIMS_MB else ""
        print(f"{name:12s} {size:6.0f} MB{aim}")
    results.write("idle", {"machine": results.machine(), "resident_mb": most})


def _watched(stack: LocalStack, names: Iterable[str]) -> dict[str, float]:
    most: dict[str, float] = {}
    until = time.monotonic() + _WATCHED_S
    while time.monotonic() < until:
        for name in names:
            pid = stack.pid(name)
            assert pid is not None, f"{name} does not run"
            most[name] = max(most.get(name, 0.0), _resident_mb(pid))
        time.sleep(1)
    return most


def _resident_mb(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 2**20


if __name__ == "__main__":
    main()
