"""Three ingest processes under a seeded storm of signals and a broker restart: an independent reader counts each event.

Numbered events in their entities' order; afterwards every one is once in the features (committed), once in the
segments, in order per entity, and once in every window aggregate.
"""

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from lepton.bus import kafka
from lepton.bus.records import Outgoing
from lepton.contracts import features, topics
from lepton.contracts.pipeline import parse
from lepton.contracts.topics import Topic
from lepton.errors import Unavailable
from lepton.runtime.settings import BrokerOptions
from lepton.store.mongo import Database
from lepton.store.segments import Segments
from tests.harness.bus import read_all
from tests.harness.servers import Server, start_kafka
from tests.harness.wait import apoll_until
from tests.unit.ingest.house import House

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
EVENTS, PARTITIONS, ENTITIES, WORKERS = 200_000, 12, 600, 3
SPEC = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: NAME}
events:
  entity: entity_id
  partitions: 12
  dedupe_window: 60000
  fields:
    number: {type: int, required: true}
    amount: {type: float}
features:
  windows:
    - {name: day, kind: tumbling, size: 1d, of: amount, aggregates: [count, sum]}
"""
LONG_S = 240
BEGAN_MS = 1_780_000_000_000
_EVENT = b'{"event_id":"n-%d","entity_id":"e-%d","occurred_at":%d,"number":%d,"amount":%d}'


@dataclass
class Storm:
    """The processes, and the signals they get at points of progress that the seed fixes."""

    house: House
    server: Server
    environment: dict[str, str]
    log: Path
    workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    frozen: set[int] = field(default_factory=set)

    def start(self, number: int) -> None:
        with self.log.open("ab") as sink:
            self.workers[number] = subprocess.Popen(
                [sys.executable, "-m", "services.ingest"], cwd=ROOT, stdout=sink, stderr=sink,
                env={**self.environment, "LEPTON_INSTANCE": f"ingest-{number}-{self.house.name}"})

    async def strike(self, number: int, blow: signal.Signals) -> None:
        """Send the signal; what ended is started again, what was frozen before thaws first."""
        self.thaw(number)
        self.workers[number].send_signal(blow)
        if blow == signal.SIGSTOP:
            self.frozen.add(number)
            # Long enough that the others take its partitions over, so that it wakes up fenced.
            await self.all_accepted("what came before the freeze to be accepted by the others")
            return
        await asyncio.to_thread(self.workers[number].wait, 30)
        self.start(number)

    def thaw(self, number: int) -> None:
        if number in self.frozen:
            self.frozen.discard(number)
            self.workers[number].send_signal(signal.SIGCONT)

    async def restart_broker(self) -> None:
        await asyncio.to_thread(self.server.stop)
        await asyncio.to_thread(self.server.restart)

    async def progress(self) -> int:
        """Events whose offset the group has committed; markers of transactions take offsets too, so rather many."""
        try:
            return sum((await self.house.broker.group_offsets(f"ingest.{self.house.name}")).values())
        except Unavailable:
            return 0

    async def all_accepted(self, what: str) -> None:
        """Until the group has committed everything that is on the topic now."""
        reader = self.house.broker.reader([topics.name(Topic.EVENTS, self.house.name)], group=None, client_id="ends")
        await reader.start()
        try:
            ends = await reader.end_offsets(sorted(reader.assignment()))
        finally:
            await reader.stop()

        async def accepted() -> bool:
            offsets = await self.house.broker.group_offsets(f"ingest.{self.house.name}")
            return all(offsets.get(place, 0) >= end for place, end in ends.items())

        await self.until(accepted, what)

    async def until(self, probe: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            await apoll_until(probe, what, LONG_S, every_s=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; the log ends: {self.log.read_text()[-3000:]}") from error


@pytest_asyncio.fixture
async def storm(tmp_path: Path, mongo_url: str) -> AsyncIterator[Storm]:
    name = f"s{uuid.uuid4().hex[:8]}"
    server = start_kafka(tmp_path / "kafka")
    broker = kafka.connect(BrokerOptions(bootstrap=server.address, client_id="storm"))
    database = Database.connect(mongo_url, f"storm_{name}")
    house = House(tmp_path, broker, database, name)
    await house.furnish()
    environment = {**{key: value for key, value in os.environ.items() if not key.startswith("LEPTON_")},
                   "LEPTON_KAFKA_BOOTSTRAP": server.address, "LEPTON_MONGO_URL": mongo_url,
                   "LEPTON_MONGO_DATABASE": f"storm_{name}", "LEPTON_TRUST_DIR": str(tmp_path / "trust"),
                   "LEPTON_DRAIN_S": "8", "LEPTON_LOG_FORMAT": "text"}
    made = Storm(house, server, environment, tmp_path / "ingest.log")
    try:
        yield made
    finally:
        for process in made.workers.values():
            process.kill()
            process.wait()
        await database.drop()
        await database.stop()
        await broker.close()
        server.kill()


async def test_a_storm_of_rebalances_loses_and_doubles_nothing(storm: Storm) -> None:
    house, chance = storm.house, random.Random(20_261_121)
    await house.apply(parse(SPEC.replace("NAME", house.name)), partitions=PARTITIONS)
    for number in range(WORKERS):
        storm.start(number)
    producing = asyncio.ensure_future(produce(house))
    points = sorted(chance.sample(range(EVENTS // 20, EVENTS * 9 // 10), 10))
    for count, point in enumerate(points):
        async def reached(point: int = point) -> bool:
            return await storm.progress() >= point

        await storm.until(reached, f"event {point} of the storm")
        if count == len(points) // 2:
            await storm.restart_broker()
        await storm.strike(chance.randrange(WORKERS), chance.choice([signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP]))
    for number in range(WORKERS):
        storm.thaw(number)
    await producing
    await everything_once(storm)


async def produce(house: House) -> None:
    """All events, each entity's in order. A batch whose end is unknown is sent again: ingest knows it by its ids."""
    name = topics.name(Topic.EVENTS, house.name)
    writer = house.broker.writer("producer")
    await writer.start()
    for batch in _batches(2000):
        records = [Outgoing(name, _EVENT % (number, number % ENTITIES, BEGAN_MS + number, number, number % 7),
                            b"e-%d" % (number % ENTITIES)) for number in batch]

        async def sent(records: list[Outgoing] = records) -> bool:
            try:
                await writer.send_all(records)
            except Unavailable:
                return False
            return True

        await apoll_until(sent, "the broker to take a batch", LONG_S)
    await writer.stop()


def _batches(size: int) -> list[range]:
    return [range(start, min(start + size, EVENTS)) for start in range(0, EVENTS, size)]


async def everything_once(storm: Storm) -> None:
    house = storm.house
    await storm.all_accepted("all events to be accepted")
    by_entity: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for record in await read_all(house.broker, topics.name(Topic.FEATURES, house.name)):
        batch = features.decode_batch(record.value or b"")
        columns = [batch.column(name).to_pylist()
                   for name in ("_event_id", "_entity", "number", "day_count", "day_sum")]
        for event_id, entity, number, count, total in zip(*columns, strict=True):
            seen[event_id] += 1
            by_entity[entity].append((number, count, total))
    exactly(seen, "the features")
    for entity, rows in by_entity.items():
        numbers = [number for number, _, _ in rows]
        assert numbers == sorted(numbers), f"order of {entity}"
        assert [count for _, count, _ in rows] == list(range(1, len(rows) + 1)), f"windows of {entity}"
        assert [total for _, _, total in rows] == list(itertools.accumulate(number % 7 for number in numbers)), entity

    async def stored() -> bool:
        heads = await Segments(house.database).heads("features", house.name, 1)
        return sum(head.rows for head in heads.values()) >= EVENTS

    await storm.until(stored, "all rows in segments")
    kept: Counter[str] = Counter()
    async for segment in Segments(house.database).read("features", house.name, 1):
        kept.update(features.decode_table(segment.data).column("_event_id").to_pylist())
    exactly(kept, "the segments")


def exactly(found: Counter[str], where: str) -> None:
    missing = [f"n-{number}" for number in range(EVENTS) if not found[f"n-{number}"]]
    doubled = [event_id for event_id, count in found.items() if count > 1]
    assert not missing, f"{len(missing)} events are not in {where}, the first {missing[0]}"
    assert not doubled, f"{len(doubled)} events are twice in {where}, for instance {doubled[0]}"
    assert len(found) == EVENTS
