"""Every benchmark, one after the other, nothing else running: `make bench`. Figures also go to .local/bench/*.json.

    python -m tests.bench [latency] [predictor] [scoring] [wire] [peers] [flat] [ingest] [windows] [streaming] [trainer]
                          [scores] [auto] [idle] [platform] [watchdog] [drift]

Those named, or all.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.harness.stack import LocalStack

AUTO_S = 300
"""What `auto` has for each set, wanted within five minutes."""


def run(module: str, stack: LocalStack | None = None, *arguments: str) -> None:
    print(f"\n== {module} {' '.join(arguments)}".rstrip(), flush=True)
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, env=stack.client_env if stack else None)


def latency() -> None:
    with tempfile.TemporaryDirectory(prefix="lepton-bench-") as folder:
        stack = LocalStack(Path(folder) / "home", Path(folder) / "config", {"LEPTON_TRACE_RATIO": "0"})
        print(stack.up(), flush=True)
        try:
            run("examples.phishing.replay", stack, "--limit", "100", "--rate", "100")
            run("tests.bench.bench_latency", stack)
        finally:
            stack.down()


def platform() -> None:
    with tempfile.TemporaryDirectory(prefix="lepton-bench-") as folder:
        stack = LocalStack(Path(folder) / "home", Path(folder) / "config", {"LEPTON_TRACE_RATIO": "0"})
        print(stack.up(), flush=True)
        try:
            run("tests.bench.streams", stack)
        finally:
            stack.down()


ALL: Mapping[str, Callable[[], None]] = {
    "latency": latency, "predictor": lambda: run("tests.bench.bench_predictor"),
    "scoring": lambda: run("tests.bench.scoring"), "wire": lambda: run("tests.bench.wire"),
    "peers": lambda: run("tests.bench.peers"),
    "flat": lambda: run("tests.bench.peers.flat"),
    "ingest": lambda: run("tests.bench.bench_ingest"), "windows": lambda: run("tests.bench.bench_windows"),
    "streaming": lambda: run("tests.bench.bench_streaming"), "trainer": lambda: run("tests.bench.bench_trainer"),
    "scores": lambda: run("tests.bench.bench_scores"),
    "auto": lambda: run("tests.bench.bench_scores", None, "--search", str(AUTO_S), "--folded"),
    "idle": lambda: run("tests.bench.bench_idle"), "platform": platform,
    "watchdog": lambda: run("tests.bench.watchdog.decisions"),
    "drift": lambda: run("tests.bench.watchdog.drift")}


def main() -> None:
    chosen = sys.argv[1:] or list(ALL)
    if unknown := set(chosen) - set(ALL):
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    for name in chosen:
        ALL[name]()


if __name__ == "__main__":
    main()
