"""What a scored row costs: the predictor writing batches and records, beside loops that only read and write batches.

    python -m tests.bench.scoring [--rows 400000] [--record-rows 250,1000,4000] [--rounds 3]

Features batches of 30 numbers wait on a topic of two partitions. The predictor, a process of its own with all that it
always runs, takes up a pipeline with a small MLP (30-64-64-2, a tensor a field). CPU microseconds a row are those of
the whole process from then until the last offset is committed. The floors (`tests.bench.scoring.floor`) take the same
batches. Rounds take turns, and the least of each is shown: rows a second of one core are what that CPU allows.
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from typing import Any

import httpx
import numpy as np
import psutil

from lepton.bus import kafka
from lepton.bus.records import Broker, Outgoing, TopicPlan
from lepton.contracts import features, topics
from lepton.contracts.topics import Topic
from lepton.runtime.settings import BrokerOptions
from tests.bench.results import machine, write
from tests.bench.wire.served import Place, in_place
from tests.harness.onnx_models import Mlp
from tests.harness.registry import features_batch, specify
from tests.harness.wait import apoll_until

FIELDS = {f"field_{number}": "float" for number in range(30)}
PARTITIONS = 2
MODEL = Mlp(FIELDS, classes=("no", "yes"))
HOWS = ("read and write bytes", "read and write Arrow", "scored into batches", "scored into records")
IDLE_S = 5.0
_DIFFERENT = 50
_SENT_AT_ONCE = 200


class Run:
    """Measurements with records of so many rows, on a broker that is there for them alone."""

    def __init__(self, place: Place, admin: str, process: psutil.Process, broker: Broker, rows: int,
                 record_rows: int) -> None:
        self._place, self._process, self._broker, self._metrics = place, process, broker, f"http://{admin}/metrics"
        self._records = rows // record_rows // PARTITIONS * PARTITIONS
        self.rows, self.record_rows = self._records * record_rows, record_rows
        spec, chance = specify("scoring", FIELDS, partitions=PARTITIONS), np.random.default_rng(7)
        self._values = [features.encode_batch(features_batch(spec, [
            {"_event_id": f"{record:04d}-{row:06d}", **dict(zip(FIELDS, given, strict=True))}
            for row, given in enumerate(chance.random((record_rows, len(FIELDS))).tolist())]))
            for record in range(min(_DIFFERENT, self._records))]

    async def measure(self, how: str, number: int) -> dict[str, float]:
        """Seconds and CPU microseconds a row of one way to go through the backlog, which is written anew for it."""
        name = f"{how.replace(' ', '-').lower()}-{self.record_rows}-{number}"
        await self._broker.create_topics([TopicPlan(*plan) for plan in topics.plans(name, 1, PARTITIONS)])
        await self._backlog(topics.name(Topic.FEATURES, name))
        if how.startswith("scored"):
            return await self._scored(name, how.split()[-1])
        return await self._floor(name, "arrow" if how.endswith("Arrow") else "bytes")

    async def _backlog(self, topic: str) -> None:
        writer = self._broker.writer("bench-scoring")
        await writer.start()
        try:
            for start in range(0, self._records, _SENT_AT_ONCE):
                numbers = range(start, min(self._records, start + _SENT_AT_ONCE))
                await writer.send_all([Outgoing(topic, self._values[number % len(self._values)],
                                                partition=number % PARTITIONS) for number in numbers])
        finally:
            await writer.stop()

    async def _scored(self, name: str, results: str) -> dict[str, float]:
        registry = self._place.registry
        await registry.publish(name, MODEL)

        async def loaded() -> bool:
            async with httpx.AsyncClient() as client:
                return f'lepton_predictor_model_version{{model="{name}"' in (await client.get(self._metrics)).text

        await apoll_until(loaded, f"the model of {name}", 60, every_s=0.5)

        async def done() -> bool:
            return sum((await self._broker.group_offsets(f"predictor.{name}")).values()) >= self._records

        before, began = sum(self._process.cpu_times()[:2]), time.perf_counter()
        spec = await registry.announce_pipeline(name, FIELDS, partitions=PARTITIONS, results=results)
        await apoll_until(done, f"{self.rows} rows", 300, every_s=0.1)
        took, spent = time.perf_counter() - began, sum(self._process.cpu_times()[:2]) - before
        await registry.delete(spec)
        return {"seconds": took, "cpu_us": spent / self.rows * 1e6}

    async def _floor(self, name: str, how: str) -> dict[str, float]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.scoring.floor", self._place.environment["LEPTON_KAFKA_BOOTSTRAP"],
            topics.name(Topic.FEATURES, name), topics.name(Topic.PREDICTIONS, name), str(self._records), how,
            stdout=asyncio.subprocess.PIPE)
        told, _ = await process.communicate()
        seen = json.loads(told)
        return {"seconds": seen["seconds"], "cpu_us": seen["cpu_s"] / self.rows * 1e6}


async def run(place: Place, given: argparse.Namespace) -> dict[str, Any]:
    broker = kafka.connect(BrokerOptions(place.environment["LEPTON_KAFKA_BOOTSTRAP"], "bench-scoring"))
    found: dict[str, Any] = {"machine": machine(), "records of rows": {}}
    try:
        with place.predictor() as (_, admin, process):
            before = sum(process.cpu_times()[:2])
            await asyncio.sleep(IDLE_S)
            found["idle_cpu_s"] = (sum(process.cpu_times()[:2]) - before) / IDLE_S
            for record_rows in map(int, given.record_rows.split(",")):
                one = Run(place, admin, process, broker, given.rows, record_rows)
                rounds: dict[str, list[dict[str, float]]] = {how: [] for how in HOWS}
                for number in range(given.rounds):
                    for how in HOWS:
                        rounds[how].append(await one.measure(how, number))
                found["records of rows"][str(record_rows)] = {"rows": one.rows, "rounds": rounds}
    finally:
        await broker.close()
    return found


def show(result: dict[str, Any]) -> None:
    print(f"\nA row through two partitions ({result['machine']}); least of the rounds")
    print(f"The predictor's own affairs take {result['idle_cpu_s'] * 100:.1f} % of a core, which is in its figures\n")
    print("| rows a record | what | us CPU | rows/s of a core | of reading and writing Arrow | of bytes | wall s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for record_rows, one in result["records of rows"].items():
        best = {how: min(seen, key=lambda one: one["cpu_us"]) for how, seen in one["rounds"].items()}
        raw, arrow = (best[how]["cpu_us"] for how in HOWS[:2])
        for how, seen in best.items():
            print(f"| {record_rows} | {how} | {seen['cpu_us']:.2f} | {1e6 / seen['cpu_us']:,.0f} "
                  f"| {arrow / seen['cpu_us']:.2f} | {raw / seen['cpu_us']:.2f} | {seen['seconds']:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--record-rows", default="250,1000,4000")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    # A topic that was just made has no leader for some milliseconds; the library says so, and sends again.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    result = in_place(lambda place: run(place, given))
    show(result)
    write("scoring", result)


if __name__ == "__main__":
    main()
