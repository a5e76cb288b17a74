"""Ingest at speed: the accept stage beside what only reads and what does nothing, windows, latency, memory, peers.

    python -m tests.bench.bench_ingest [--events 400000] [--rounds 3] [--only json,arrow,…] [--memory-events 5000000]

A broker of its own on loopback; every measurement is a process of its own and reads a topic that was filled before.
Rates of one table come from one run, in turns, and the median of the rounds counts. With `--bootstrap` a broker that
runs already is used, under topics that stay there.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lepton.contracts import topics
from tests.bench.ingest.broker import create
from tests.bench.ingest.events import ARROW_ROWS, PARTITIONS
from tests.bench.results import machine, write
from tests.harness.servers import start_kafka

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".local" / "bench-peers"
PACKAGE = "tests.bench.ingest"
RATE, LATENCY_S = 1000, 12
PROCESS_S = 400.0

Figures = dict[str, Any]


@dataclass
class Bench:
    """What the measurements share."""

    bootstrap: str
    events: int
    rounds: int
    results: Figures = field(default_factory=dict)

    def topic(self, form: str, count: int | None = None) -> str:
        """The events topic of that form, filled once."""
        name = f"bench{form}{uuid.uuid4().hex[:6]}"
        create(self.bootstrap, topics.plans(name, 1, PARTITIONS))
        ran(f"{PACKAGE}.events", self.bootstrap, f"lepton-events-{name}", form, str(count or self.events))
        return f"lepton-events-{name}"

    def empty(self) -> tuple[str, str]:
        """An events topic nobody wrote to yet, and the name of a run for what comes of it."""
        name = f"benchlive{uuid.uuid4().hex[:6]}"
        create(self.bootstrap, topics.plans(name, 1, PARTITIONS))
        return f"lepton-events-{name}", self.run()

    def run(self) -> str:
        """A name under which the accept stage has topics and a group of its own."""
        name = uuid.uuid4().hex[:8]
        create(self.bootstrap, topics.plans(f"bench-{name}", 1, PARTITIONS))
        return name

    def accept(self, topic: str, count: int, *options: str, run: str | None = None) -> Figures:
        return ran(f"{PACKAGE}.accept", self.bootstrap, run or self.run(), str(count), "--events", topic, *options)

    def accepting(self, topic: str, run: str, count: int, *options: str) -> "subprocess.Popen[str]":
        return started(f"{PACKAGE}.accept", self.bootstrap, run, str(count), "--events", topic, *options)


def started(module: str, *arguments: str, python: str = sys.executable) -> "subprocess.Popen[str]":
    return subprocess.Popen([python, "-m", module, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            text=True, cwd=ROOT)


def ended(process: "subprocess.Popen[str]") -> Figures:
    said, _ = process.communicate(timeout=PROCESS_S)
    if process.returncode:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}; run it by hand to see why")
    found: Figures = json.loads(said.splitlines()[-1]) if said.strip() else {}
    return found


def ran(module: str, *arguments: str, python: str = sys.executable) -> Figures:
    return ended(started(module, *arguments, python=python))


def per_s(figures: Figures, rows_a_record: float = 1) -> float:
    return float(figures["records"]) * rows_a_record / float(figures["seconds"])


def throughput(bench: Bench) -> None:
    """JSON: the loop that only reads, the accept stage with and without windows, and a Faust agent, in turns."""
    topic, rates = bench.topic("json"), dict[str, list[float]]()
    few = min(bench.events, 40_000)
    for _ in range(bench.rounds):
        for name, figures in (
                ("getmany", ran(f"{PACKAGE}.floor", bench.bootstrap, topic, str(bench.events))),
                ("accept", bench.accept(topic, bench.events)),
                ("accept, three windowed aggregates", bench.accept(topic, bench.events, "--windows")),
                ("Faust agent, as it comes", ran(f"{PACKAGE}.noop", bench.bootstrap, topic, str(few))),
                ("Faust agent, raw and buffered", ran(f"{PACKAGE}.noop", bench.bootstrap, topic, str(few), "--raw"))):
            rates.setdefault(name, []).append(per_s(figures))
    told = {name: statistics.median(found) for name, found in rates.items()}
    bench.results["json"] = told
    print(f"\n{bench.events} JSON events of 200 bytes, one in a hundred bad, {PARTITIONS} partitions")
    table(("", "events/s", "of getmany", "of Faust"), [
        (name, f"{rate:,.0f}", f"{rate / told['getmany']:.2f}", f"{rate / told['Faust agent, as it comes']:.1f}")
        for name, rate in told.items()])
    windowed = told["accept, three windowed aggregates"] / told["accept"]
    print(f"With windows, of without: {windowed:.2f}")


def arrow(bench: Bench) -> None:
    """The same rows in Arrow streams of 4,000."""
    count = bench.events * 2
    topic = bench.topic("arrow", count)
    records = ran(f"{PACKAGE}.floor", bench.bootstrap, topic, "0")["topic_records"]
    floors, rates = [], []
    for _ in range(bench.rounds):
        floors.append(per_s(ran(f"{PACKAGE}.floor", bench.bootstrap, topic, str(records)), count / records))
        figures = bench.accept(topic, records)
        rates.append((figures["accepted"] + figures["rejected"]) / figures["seconds"])
    told = {"getmany": statistics.median(floors), "accept": statistics.median(rates)}
    bench.results["arrow"] = told
    print(f"\n{count} rows in {records} Arrow streams of up to {ARROW_ROWS}")
    table(("", "rows/s", "of getmany"), [(name, f"{rate:,.0f}", f"{rate / told['getmany']:.2f}")
                                         for name, rate in told.items()])


def scaling(bench: Bench) -> None:
    """CPU seconds an event of one process, and of two that share the partitions."""
    topic = bench.topic("json")
    costs: dict[str, list[float]] = {"one": [], "two": []}
    for _ in range(bench.rounds):
        alone = bench.accept(topic, bench.events)
        costs["one"].append(alone["cpu_s"] / alone["records"] * 1e6)
        run = bench.run()
        both = [ended(one) for one in [bench.accepting(topic, run, bench.events, "--instance", name)
                                       for name in ("one", "two")]]
        costs["two"].append(sum(one["cpu_s"] for one in both) / sum(one["records"] for one in both) * 1e6)
    told = {name: statistics.median(found) for name, found in costs.items()}
    bench.results["cpu_us_per_event"] = told
    print("\nCPU microseconds an event")
    table(("processes", "µs", "of one"), [(name, f"{cost:.2f}", f"{cost / told['one']:.2f}")
                                          for name, cost in told.items()])


def latency(bench: Bench) -> None:
    """Acknowledged by the log → features visible, at 1,000 events a second, calm and while a second process comes
    and goes."""
    rows = []
    for name, disturbed in (("calm", False), ("a process joins and leaves", True)):
        topic, run = bench.empty()
        stage = bench.accepting(topic, run, 10**9, "--instance", "first", "--idle", "5")
        told = _live(bench, topic, run, disturbed)
        ended(stage)
        bench.results.setdefault("latency", {})[name] = told
        rows += [(f"{name}: {what}", *(f"{told[key][cut]:.1f}" for cut in ("p50_ms", "p99_ms", "most_ms")))
                 for what, key in (("bare log round trip", "log_round_trip"), ("features visible", "features_visible"))]
    print(f"\nMilliseconds at {RATE} events/s")
    table(("", "p50", "p99", "most"), rows)


def _live(bench: Bench, topic: str, run: str, disturbed: bool) -> Figures:
    feed = started(f"{PACKAGE}.latency", bench.bootstrap, topic, f"lepton-features-bench-{run}", str(RATE),
                   str(LATENCY_S))
    if feed.stdout is None or feed.stdout.readline() != "warm\n":
        raise RuntimeError("the accept stage does not keep up with the events, or does not run")
    if disturbed:
        try:
            feed.wait(LATENCY_S / 3)
        except subprocess.TimeoutExpired:
            guest = bench.accepting(topic, run, 10**9, "--instance", "guest", "--idle", "60")
        try:
            feed.wait(LATENCY_S / 3)
        except subprocess.TimeoutExpired:
            guest.send_signal(signal.SIGTERM)
    return ended(feed)


def memory(bench: Bench, count: int) -> None:
    """Resident memory from a tenth of the way to the end."""
    figures = bench.accept(bench.topic("json", count), count)
    sizes = [size for seen, size in figures["resident"] if seen >= count / 10]
    told = {"events": figures["records"], "least_mb": min(sizes) / 1e6, "most_mb": max(sizes) / 1e6,
            "last_mb": sizes[-1] / 1e6, "spread": (max(sizes) - min(sizes)) / min(sizes)}
    bench.results["memory"] = told
    print(f"\nResident over {count} events, from a tenth of them on: {told['least_mb']:.0f} to "
          f"{told['most_mb']:.0f} MB ({told['spread']:+.1%}), {told['last_mb']:.0f} at the end")


def peers(bench: Bench) -> None:
    """The same validation and window elsewhere. A peer that cannot be installed or run is named with its error."""
    why = install_peers()
    count = min(bench.events, 60_000)
    topic = bench.topic("json", count)
    told: dict[str, Any] = {"lepton": per_s(bench.accept(topic, count, "--windows"))}
    for name in ("quixstreams", "bytewax"):
        if why is None:
            process = subprocess.run([PEERS / "bin" / "python", "-m", f"{PACKAGE}.peer_{name}", bench.bootstrap, topic,
                                      str(count)], capture_output=True, text=True, cwd=ROOT, timeout=PROCESS_S)
            lines = process.stdout.splitlines()
            told[name] = per_s(json.loads(lines[-1])) if process.returncode == 0 and lines else _last(process.stderr)
        else:
            told[name] = why
    bench.results["peers"] = told
    print(f"\n{count} JSON events, validated, with windows of a minute for each entity")
    table(("", "events/s"), [(name, f"{rate:,.0f}" if isinstance(rate, float) else f"does not run: {rate}")
                             for name, rate in told.items()])


def install_peers() -> str | None:
    """Why there are none, or None."""
    lock, done = ROOT / "requirements" / "bench-peers.lock", PEERS / "installed.lock"
    if done.exists() and done.read_bytes() == lock.read_bytes():
        return None
    uv = str(ROOT / ".venv" / "bin" / "uv")
    for command in ([uv, "venv", "-q", "--clear", "--python", "3.11", str(PEERS)],
                    [uv, "pip", "install", "-q", "--python", str(PEERS / "bin" / "python"), "--require-hashes", "-r",
                     str(lock)]):
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            return _last(made.stderr)
    done.write_bytes(lock.read_bytes())
    return None


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["no word"])[-1][:200]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


PARTS: Mapping[str, Callable[[Bench], None]] = {
    "json": throughput, "arrow": arrow, "scaling": scaling, "latency": latency, "peers": peers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-events", type=int, default=5_000_000, help="0 leaves memory out")
    parser.add_argument("--only", default=",".join([*PARTS, "memory"]))
    parser.add_argument("--bootstrap", default="")
    given = parser.parse_args()
    with ExitStack() as stack:
        bootstrap = given.bootstrap
        if not bootstrap:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lepton-bench-"))
            server = start_kafka(Path(folder))
            stack.callback(server.stop)
            bootstrap = server.address
        bench = Bench(bootstrap, given.events, given.rounds)
        print(f"Ingest ({machine()})")
        wanted = given.only.split(",")
        for name, part in PARTS.items():
            if name in wanted:
                part(bench)
        if "memory" in wanted and given.memory_events:
            memory(bench, given.memory_events)
        write("ingest", {"machine": machine(), "events": given.events, "rounds": given.rounds, **bench.results})


if __name__ == "__main__":
    main()
