"""Windows beside the accept stage without them, in memory: no broker, one process, batches as the stage polls them.

    python -m tests.bench.bench_windows [--polls 12]

A poll is 16,000 JSON events of 10,000 entities over 12 partitions; each partition's share is judged, planned and kept.
`of the accept stage` is the speed with windows over the speed without, in turns in the same run; `state` is what one
poll writes to the state topic.
"""

import argparse
import asyncio
import json
import random
import time
import zlib
from dataclasses import dataclass
from typing import Any

from lepton.bus.records import Record
from lepton.clock import SystemClock
from lepton.contracts.pipeline import Pipeline, parse
from services.ingest.core.quarantine import Quarantine
from services.ingest.flow.accepting import Accepting, Spec
from tests.bench.results import machine, write

POLL, ENTITIES, PARTITIONS = 16_000, 10_000, 12
SPEC = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: bench}
events:
  id: id
  entity: entity
  time: at
  partitions: 12
  fields:
    amount: {type: float}
    a: {type: float}
    b: {type: float}
    c: {type: float}
    d: {type: int}
    e: {type: int}
    f: {type: bool}
    g: {type: category, categories: [x, y, z]}
"""
THREE = "of: amount, aggregates: [count, sum, mean]"
WINDOWS = {
    "tumbling 1m, three aggregates": f"name: w, size: 1m, {THREE}",
    "tumbling 1m, nine aggregates": "name: w, size: 1m, of: amount, aggregates: "
                                    "[count, sum, mean, std, min, max, distinct, last, time_since]",
    "hopping 1m every 5s, three aggregates": f"name: w, kind: hopping, size: 1m, every: 5s, {THREE}",
    "sliding 1m, three aggregates": f"name: w, kind: sliding, size: 1m, {THREE}",
    "session 10s, three aggregates": f"name: w, kind: session, gap: 10s, {THREE}",
}


@dataclass(slots=True)
class Line:
    """One pipeline's accept stage, and what it took so far."""

    accepting: Accepting
    seconds: float = 0.0
    state_bytes: int = 0

    @classmethod
    def of(cls, pipeline: Pipeline) -> "Line":
        accepting = Accepting(Spec(pipeline, 1, 1, PARTITIONS), Quarantine(), lambda parent, _: parent,
                              SystemClock())
        for partition in range(PARTITIONS):
            accepting.restore_events(partition, {})
        return cls(accepting)

    async def poll(self, shares: list[list[Record]]) -> None:
        begun = time.perf_counter()
        self.state_bytes = 0
        for partition, events in enumerate(shares):
            results = await self.accepting.accept(partition, events)
            self.accepting.keep_events(partition)
            self.state_bytes += sum(len(value) for key, value in results.state if key.startswith(b"win/"))
        self.seconds += time.perf_counter() - begun


def pipeline(window: str | None) -> Pipeline:
    return parse(SPEC + (f"features: {{windows: [{{{window}}}]}}\n" if window else ""))


def poll(number: int, rng: random.Random) -> list[list[Record]]:
    """The share of each partition; 80,000 events are a second of event time."""
    shares: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    for index in range(number * POLL, (number + 1) * POLL):
        entity = f"entity-{rng.randrange(ENTITIES):05d}"
        body: dict[str, Any] = {"id": f"event-{index:09d}", "entity": entity, "at": 1_790_000_000 + index / 80_000,
                                "amount": rng.random() * 100, "a": rng.random(), "b": rng.random(), "c": None,
                                "d": index % 100, "e": 7, "f": index % 2 == 0, "g": "xyz"[index % 3]}
        partition = zlib.crc32(entity.encode()) % PARTITIONS
        shares[partition].append(Record("lepton-events-bench", partition, len(shares[partition]), None,
                                        json.dumps(body).encode(), (), 1_790_000_000_000))
    return shares


async def measure(polls: int = 12) -> dict[str, Any]:
    """Events a second without windows, and per window its share of that and the state it writes a poll."""
    lines = {name: Line.of(pipeline(window)) for name, window in {"without": None, **WINDOWS}.items()}
    rng = random.Random(7)
    for number in range(polls):
        shares = poll(number, rng)
        for line in lines.values():
            await line.poll(shares)
    bare = lines["without"].seconds
    return {"machine": machine(), "events_per_poll": POLL, "polls": polls,
            "without_windows_events_per_s": round(polls * POLL / bare),
            "windows": {name: {"of_the_accept_stage": round(bare / line.seconds, 2),
                               "added_us_per_event": round((line.seconds - bare) / polls / POLL * 1e6, 2),
                               "state_bytes_per_poll": line.state_bytes}
                        for name, line in lines.items() if name != "without"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polls", type=int, default=12)
    found = asyncio.run(measure(parser.parse_args().polls))
    print(f"accept stage without windows, in memory: {found['without_windows_events_per_s']:,} events/s")
    for name, one in found["windows"].items():
        print(f"{name:40s} {one['of_the_accept_stage']:.2f} of the accept stage, {one['added_us_per_event']:.2f} µs an "
              f"event, {one['state_bytes_per_poll'] / 1024:,.0f} KiB of state a poll")
    print(write("windows", found))


if __name__ == "__main__":
    main()
