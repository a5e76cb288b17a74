"""Searches for bytes that break a decoder, guided by which lines they reach; run by `make fuzz` in .local/fuzz.

    python -m tests.fuzz [TARGET ...] [--seconds 30] [--memory-mb 2048]

Each target runs in a process of its own: one input may take 20 seconds, and the process so much memory. What breaks one
is left in tests/fuzz/found/TARGET, where `make test` replays it from then on.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.seeds import FOUND, seeds
from tests.fuzz.targets import TARGETS

LIMIT_S = 20


def search(target: str, seconds: int, memory_mb: int) -> bool:
    """Whether nothing was found."""
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lepton-fuzz-") as folder:
        for number, seed in enumerate(seeds(target)):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        ended = subprocess.run([
            sys.executable, "-m", "tests.fuzz.search", target, folder, f"-max_total_time={seconds}",
            f"-timeout={LIMIT_S}", f"-rss_limit_mb={memory_mb}", "-max_len=65536", "-verbosity=0",
            "-print_final_stats=1", f"-artifact_prefix={found}/"], capture_output=True, text=True)
    said = ended.stdout + ended.stderr
    tried, peak = _statistic(said, "number_of_executed_units"), _statistic(said, "peak_rss_mb")
    print(f"{target:18} {tried:>9} inputs, {peak:>5} MB at most: {'nothing' if ended.returncode == 0 else 'FOUND'}",
          flush=True)
    if ended.returncode:
        print(said[-4000:])
    elif not any(found.iterdir()):
        found.rmdir()
    return ended.returncode == 0


def _statistic(said: str, name: str) -> str:
    return next((line.rsplit(":", 1)[1].strip() for line in said.splitlines() if name in line), "?")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--memory-mb", type=int, default=2048)
    given = parser.parse_args()
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}")
    clean = [search(target, given.seconds, given.memory_mb) for target in given.targets or TARGETS]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
