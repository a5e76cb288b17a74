"""The accept stage without Kafka: what a batch of a size costs, and whether memory stays flat over many events.

    python -m tests.bench.ingest.alone COUNT SIZE

Feeds `COUNT` events in batches of `SIZE`, in turns to the partitions, through the real handler of the stage, and sums
up quality every two seconds as the service does. Prints a line every quarter of a million events, and at the end, as
JSON: milliseconds of processor a batch, and the least and the most resident memory from a tenth of the events on.
"""

import asyncio
import gc
import json
import resource
import sys
import time
from pathlib import Path

from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.records import Place, Record, partition_for
from lepton.clock import SystemClock
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.runtime.health import Health
from lepton.runtime.telemetry import Telemetry
from services.ingest.core.quarantine import Quarantine
from services.ingest.edge.events import AcceptHandler
from services.ingest.edge.topics import LineTopics
from services.ingest.flow.accepting import Accepting
from services.ingest.flow.spec import Spec
from services.ingest.settings import IngestSettings
from tests.bench.ingest.events import PARTITIONS, bodies, spec

# Events that differ in more than their id; they come again and again.
DIFFERENT = 60_000
TOLD_EVERY = 250_000
_BEHIND_ID = b'","entity"'


class Source:
    """Batches of events of one partition after the other, each event with an id of its own."""

    def __init__(self, topic: str, size: int) -> None:
        self._topic, self._size = topic, size
        self._parts: list[list[tuple[bytes, bytes]]] = [[] for _ in range(PARTITIONS)]
        for entity, body in bodies(DIFFERENT):
            key = entity.encode()
            self._parts[partition_for(key, PARTITIONS)].append((key, body.partition(_BEHIND_ID)[2]))
        self._next = [0] * PARTITIONS

    def batch(self, partition: int) -> list[Record]:
        rows, first = self._parts[partition], self._next[partition]
        self._next[partition] += self._size
        found = []
        for offset in range(first, first + self._size):
            key, rest = rows[offset % len(rows)]
            value = b'{"id":"p%de%010d' % (partition, offset) + _BEHIND_ID + rest
            found.append(Record(self._topic, partition, offset, key, value, (), 1_780_000_000_000 + offset))
        return found


async def feed(count: int, size: int) -> dict[str, float]:
    clock, settings = SystemClock(), IngestSettings()
    accepting = Accepting(Spec(spec(), 1, 1, PARTITIONS), Quarantine(), lambda parent, _: parent, clock)
    line = LineTopics.of("bench", 1)
    handler = AcceptHandler(accepting, line, DeadLetters("bench", clock, lambda _: 10**9, window_s=1.0),
                            Telemetry("ingest", "alone", settings, clock, Health(clock)), clock)
    for partition in range(PARTITIONS):
        accepting.restore_events(partition, {})
    source = Source(line.events, size)
    resident, done, batches, spent, summed_up = list[tuple[int, float]](), 0, 0, 0.0, clock.monotonic()
    while done < count:
        place = Place(line.events, batches % PARTITIONS)
        records = source.batch(place.partition)
        began = time.process_time()
        await handler.handle(place, records)
        await handler.committed(place)
        if clock.monotonic() - summed_up > settings.summary_interval_s:
            await accepting.summarise("alone", _sent)
            summed_up = clock.monotonic()
        spent += time.process_time() - began
        batches, done = batches + 1, done + size
        if done // TOLD_EVERY > len(resident) - 1 or not resident:
            resident.append((done, _resident_mb()))
            print(*resident[-1], flush=True)
    late = [mb for at, mb in resident if at >= count / 10] or [_resident_mb()]
    return {"events": done, "batch": size, "cpu_ms_a_batch": spent / batches * 1000, "least_mb": min(late),
            "most_mb": max(late)}


async def _sent(_: QualitySummary) -> None:
    """Somebody took it."""


def _resident_mb() -> float:
    return round(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6, 1)


def main() -> None:
    # As services.ingest.app does.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    print(json.dumps(asyncio.run(feed(int(sys.argv[1]), int(sys.argv[2])))))


if __name__ == "__main__":
    main()
