"""Heartbeats a second through the watchdog's own path, how long a tick takes, and whether memory grows.

    python -m tests.bench.watchdog.decisions [--instances 1000] [--minutes 4]

A thousand processes on a hundred machines beat twice a second, each with what the real ones say; time is simulated, so
that minutes pass as fast as they can be lived. Measured, in processor time of the one process, is everything from the
bytes of a record to those of the journal: decode, observe, fold, judge, write down. Once a minute ten processes fall
silent and come back.
"""

import argparse
import gc
import resource
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lepton.clock import Clock
from lepton.contracts import codec
from lepton.contracts.pb.telemetry_pb2 import INSTANCE_STATE_READY, ErrorReport, Telemetry
from lepton.contracts.topics import Topic
from services.watchdog.core.inputs import Decision, Leads, Thresholds
from services.watchdog.flow.observing import Observing
from services.watchdog.flow.watching import Entry, Watching
from tests.bench import results

TICK_S = 0.25
OWN = "watchdog-0"
SERVICES = ("ingest", "predictor", "gateway", "trainer")


class Simulated(Clock):
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at_s)

    def monotonic(self) -> float:
        return self.at_s

    async def sleep(self, seconds: float) -> None:
        self.at_s += seconds


class Fleet:
    """Processes, and the bytes of what each says at a moment."""

    def __init__(self, instances: int) -> None:
        self._names = [OWN, *(f"{SERVICES[number % 4]}-{number}" for number in range(1, instances))]
        self._sequence = 0

    def beats(self, at: datetime, half: int, silent: range) -> list[bytes]:
        """Every other process beats in one tick, the rest in the next."""
        self._sequence += 1
        return [self._beat(number, name, at) for number, name in enumerate(self._names)
                if number not in silent and (number % 2 == half or number == 0)]

    def _beat(self, number: int, name: str, at: datetime) -> bytes:
        service = name.rpartition("-")[0]
        beat = Telemetry(instance=name, service=service, pid=number, sequence=self._sequence, boot_id="b-1",
                         state=INSTANCE_STATE_READY)
        beat.at.FromDatetime(at)
        swing = (self._sequence * 7 + number * 13) % 20 / 100
        for key, value in (("process_cpu_share", swing), ("process_rss_bytes", 2e8), ("process_memory_share", 0.1),
                           ("process_files_share", 0.05)):
            beat.measurements.add(name=key, value=value)
        for key, value in (("host_cpu_share", 0.4 + swing), ("host_memory_share", 0.5), ("host_disk_share", 0.3)):
            beat.measurements.add(name=key, value=value, attributes={"host": f"host-{number // 10}"})
        beat.measurements.add(name="lepton_consumer_lag", value=100 * swing, attributes={"topic": f"t-{number % 50}"})
        if service == "predictor":
            beat.measurements.add(name="lepton_predictor_requests", value=50,
                                  attributes={"model": f"m-{number % 20}", "outcome": "ok"})
        if number % 100 == 7:
            beat.errors.append(ErrorReport(kind="refused_record", message="no JSON", count=1))
        return codec.encode(Topic.TELEMETRY, beat)


def live(instances: int, minutes: float) -> dict[str, float]:
    clock, fleet = Simulated(), Fleet(instances)
    observing = Observing(OWN, clock)
    decided: list[Decision] = []

    async def write(_: Entry) -> None:
        """The journal's bytes are made; where they go is not measured."""

    watching = Watching(Thresholds(own=OWN), observing, lambda _, made: decided.extend(made), write, clock, TICK_S)
    observing.put(Leads(1))
    events, busy_s, ticks_s, resident = 0, 0.0, [], []
    ticks = round(minutes * 60 / TICK_S)
    for tick in range(ticks):
        clock.at_s += TICK_S
        second = tick * TICK_S
        silent = range(500, 510) if 40 <= second % 60 < 50 else range(0)
        beats = fleet.beats(clock.now(), tick % 2, silent)
        began = time.process_time()
        for beat in beats:
            observing.heartbeat(codec.decode_as(Topic.TELEMETRY, Telemetry, beat))
        ticked = time.process_time()
        watching.tick_once()
        ended = time.process_time()
        watching._entries.clear()
        events, busy_s = events + len(beats), busy_s + ended - began
        ticks_s.append(ended - ticked)
        if tick % (ticks // 8) == 0:
            gc.collect()
            resident.append(_resident_mb())
    ticks_s.sort()
    return {"instances": instances, "heartbeats": events, "heartbeats_per_s": events / busy_s,
            "ticks": ticks, "tick_ms_median": 1000 * statistics.median(ticks_s),
            "tick_ms_p99": 1000 * ticks_s[int(0.99 * len(ticks_s))], "tick_ms_max": 1000 * ticks_s[-1],
            "decisions": len(decided), "resident_mb_first": resident[2], "resident_mb_last": resident[-1],
            "resident_mb_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=4.0)
    given = parser.parse_args()
    figures = live(given.instances, given.minutes)
    for name, value in figures.items():
        print(f"{name:20} {value:12,.2f}")
    print(f"on {results.machine()}; written to {results.write('watchdog', figures)}")


if __name__ == "__main__":
    main()
