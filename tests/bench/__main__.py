"""Every benchmark, one after the other, nothing else running: `make bench`. Figures also go to .local/bench/*.json."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness.stack import LocalStack


def run(module: str, stack: LocalStack | None = None, *arguments: str) -> None:
    print(f"\n== {module} {' '.join(arguments)}".rstrip(), flush=True)
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, env=stack.client_env if stack else None)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lepton-bench-") as folder:
        stack = LocalStack(Path(folder) / "home", Path(folder) / "config", {"LEPTON_TRACE_RATIO": "0"})
        print(stack.up(), flush=True)
        try:
            run("examples.phishing.replay", stack, "--limit", "100", "--rate", "100")
            run("tests.bench.bench_latency", stack)
        finally:
            stack.down()
    run("tests.bench.bench_predictor")
    run("tests.bench.bench_windows")


if __name__ == "__main__":
    main()
