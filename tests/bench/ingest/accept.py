"""The accept stage in a process of its own: events in, features out, one transaction a batch.

    python -m tests.bench.ingest.accept BOOTSTRAP RUN COUNT [--windows] [--instance NAME] [--records N] [--profile FILE]

Reads the events of pipeline `bench` into the topics of pipeline `bench-RUN` until the group has settled `COUNT` events
(accepted, refused or known before), and prints as JSON: events, seconds and CPU seconds from its first poll to its
last commit, and its resident memory on the way. Two processes of one run share the partitions.
"""

import argparse
import asyncio
import cProfile
import gc
import json
import resource
import signal
import time
from pathlib import Path
from typing import Any

from lepton.bus import kafka
from lepton.bus.care import Care
from lepton.bus.consumer import Subscription
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.records import Outgoing, Place
from lepton.bus.stage import BatchStage
from lepton.bus.table import StateReader
from lepton.clock import SystemClock
from lepton.runtime.health import Health
from lepton.runtime.settings import BrokerOptions
from lepton.runtime.telemetry import Telemetry
from services.ingest.core.quarantine import Quarantine
from services.ingest.edge.events import AcceptHandler
from services.ingest.edge.topics import LineTopics
from services.ingest.flow.accepting import Accepting
from services.ingest.flow.spec import Spec
from services.ingest.settings import IngestSettings
from tests.bench.ingest.events import PARTITIONS, spec

QUIET_S = 3.0
ENDS_WITHIN_S = 240.0


class Counting(AcceptHandler):
    """The real handler, with a stopwatch."""

    def __init__(self, *told: Any) -> None:
        super().__init__(*told)
        self.records = 0
        self.began = self.cpu = self.last = self.spent = 0.0
        self.samples: list[tuple[int, int]] = []
        self._waiting: dict[Place, int] = {}

    async def restore(self, place: Place, state: StateReader) -> None:
        await super().restore(place, state)
        if not self.last:
            # From here on it reads: connected, and knowing where to begin.
            self.began, self.cpu = time.perf_counter(), time.process_time()

    async def handle(self, place: Place, records: Any) -> list[Outgoing]:
        self._waiting[place] = len(records)
        return await super().handle(place, records)

    async def committed(self, place: Place) -> None:
        await super().committed(place)
        self.records += self._waiting.pop(place)
        self.last, self.spent = time.perf_counter(), time.process_time()
        self.samples.append((self.records, _resident()))


def _resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def accept(given: argparse.Namespace) -> dict[str, Any]:
    settings = IngestSettings()
    clock = SystemClock()
    broker = kafka.connect(BrokerOptions(bootstrap=given.bootstrap, client_id=given.instance), clock)
    telemetry = Telemetry("ingest", given.instance, settings, clock, Health(clock))
    accepting = Accepting(Spec(spec(windows=given.windows), 1, 1, PARTITIONS), Quarantine(), lambda parent, _: parent,
                          clock)
    own = LineTopics.of(f"bench-{given.run}", 1)
    line = LineTopics(given.events, own.labels, own.features, own.outcomes, own.state)
    # What was refused is remembered for as long as it counts towards the limit, which keeps it small in a service; here
    # nothing stops the line, so the time does.
    letters = DeadLetters("bench", clock, lambda _: 10**9, window_s=1.0)
    handler = Counting(accepting, line, letters, telemetry, clock)
    group = f"bench.{given.run}"
    stage = BatchStage(broker, Subscription([line.events, line.labels], group, given.instance), handler,
                       Care(clock, None, telemetry), writer_prefix=group, max_records=given.records)
    stop = asyncio.Event()
    # Leaves the group as the service does, instead of being missed by it.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    running = asyncio.ensure_future(stage.run(stop))
    deadline = time.perf_counter() + ENDS_WITHIN_S
    while handler.records < given.count and time.perf_counter() < deadline and not stop.is_set() and not running.done():
        await asyncio.sleep(0.02)
        if handler.records and time.perf_counter() - handler.last > given.idle:
            break
    stop.set()
    await running
    await broker.close()
    tally = accepting._interval
    step = max(1, len(handler.samples) // 50)
    return {"records": handler.records, "seconds": handler.last - handler.began, "cpu_s": handler.spent - handler.cpu,
            "accepted": tally.accepted, "rejected": tally.rejected, "duplicates": tally.duplicates,
            "batches": len(handler.samples), "resident": handler.samples[::step]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bootstrap")
    parser.add_argument("run")
    parser.add_argument("count", type=int)
    parser.add_argument("--events", default="lepton-events-bench")
    parser.add_argument("--windows", action="store_true")
    parser.add_argument("--instance", default="bench")
    parser.add_argument("--records", type=int, default=IngestSettings().batch_records)
    parser.add_argument("--idle", type=float, default=QUIET_S, help="seconds without a commit after which it ends")
    parser.add_argument("--profile", default="")
    given = parser.parse_args()
    # As services.ingest.app does.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    if given.profile:
        with cProfile.Profile() as profile:
            result = asyncio.run(accept(given))
        profile.dump_stats(given.profile)
    else:
        result = asyncio.run(accept(given))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
