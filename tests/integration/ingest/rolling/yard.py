"""Summaries of pipelines on a real broker, a stage that rolls them up, and what an independent reader finds."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lepton.bus.care import Care
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.producer import Producer
from lepton.bus.records import Broker, Headers, Outgoing, Place, TopicPlan
from lepton.clock import SystemClock
from lepton.contracts import codec, topics
from lepton.contracts.pb.quality_pb2 import QualityRollup
from lepton.contracts.topics import Topic
from lepton.runtime.settings import BrokerOptions
from services.ingest.core.counting.summary import Tally
from services.ingest.edge.rolling.stage import RollUp, Rollups
from services.ingest.edge.rolling.worker import Connection, Worker
from tests.harness.bus import read_all
from tests.harness.wait import apoll_until

BEGIN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@dataclass
class Yard:
    """`generations` are the pipelines the stage is told of; names of topics and group are this test's own."""

    broker: Broker
    options: BrokerOptions
    name: str
    generations: dict[str, int] = field(default_factory=dict)
    sent: int = 0

    def __post_init__(self) -> None:
        self.producer = Producer(self.broker, f"letters-{self.name}")

    async def close(self) -> None:
        await self.producer.stop()
        await self.broker.close()

    @property
    def table(self) -> str:
        return f"{Topic.QUALITY_ROLLUPS}-{self.name}"

    @property
    def connection(self) -> Connection:
        return Connection(self.options, f"rollups-{self.name}", self.table)

    async def furnish(self) -> None:
        spec = topics.spec(Topic.QUALITY_ROLLUPS)
        await self.broker.create_topics([TopicPlan(self.table, 1, spec.config())])

    async def pipeline(self, name: str) -> str:
        """A pipeline of the stage's; its topic of summaries."""
        called = topics.name(Topic.QUALITY, name)
        await self.broker.create_topics([TopicPlan(called, 1, {}), TopicPlan(topics.dead_letter_name(called), 1, {})])
        self.generations[name] = 1
        return called

    async def send(self, pipeline: str, count: int, accepted: int = 10, headers: Headers = ()) -> None:
        """Summaries of two instances, one second after the other."""
        values = []
        for _ in range(count):
            start = BEGIN + timedelta(seconds=self.sent % 3000)
            tally = Tally(accepted=accepted, late=1)
            values.append(codec.encode(Topic.QUALITY, tally.message(
                pipeline, 1, f"ingest-{self.sent % 2}", start, start + timedelta(seconds=1))))
            self.sent += 1
        await self.put(pipeline, *values, headers=headers)

    async def put(self, pipeline: str, *values: bytes | None, headers: Headers = ()) -> None:
        writer = self.broker.writer("neighbour")
        await writer.start()
        await writer.send_all([Outgoing(topics.name(Topic.QUALITY, pipeline), value, pipeline.encode(), headers)
                               for value in values])
        await writer.stop()

    async def rollups(self) -> Mapping[str, QualityRollup]:
        """The last message of every key."""
        latest = {(record.key or b"").decode(): record.value for record in await read_all(self.broker, self.table)}
        return {key: codec.decode_as(Topic.QUALITY_ROLLUPS, QualityRollup, value)
                for key, value in latest.items() if value is not None}

    async def counted(self, pipeline: str, interval: str = "1h") -> int:
        return sum(one.summary.accepted for one in (await self.rollups()).values()
                   if one.summary.pipeline == pipeline and one.interval == interval)

    async def until_counted(self, pipeline: str, accepted: int, timeout_s: float = 90) -> None:
        async def done() -> bool:
            return await self.counted(pipeline) >= accepted
        await apoll_until(done, f"{accepted} events of {pipeline} in roll-ups", timeout_s, every_s=0.2)
        for interval in ("1m", "1h"):
            assert await self.counted(pipeline, interval) == accepted

    async def until_committed(self, pipeline: str, offset: int) -> None:
        place = Place(topics.name(Topic.QUALITY, pipeline), 0)

        async def done() -> bool:
            return (await self.broker.group_offsets(self.connection.group)).get(place, 0) >= offset
        await apoll_until(done, f"offset {offset} of {place.topic} committed", 90, every_s=0.2)

    async def rewind(self, pipeline: str) -> None:
        """Forget what was committed, as a crash just before a commit does."""
        place = Place(topics.name(Topic.QUALITY, pipeline), 0)
        reader = self.broker.reader([place.topic], group=self.connection.group, client_id="rewind", member=False)
        await reader.start()
        await reader.commit({place: 0})
        await reader.stop()

    def care(self, **parts: Any) -> Care:
        return Care(SystemClock(), **parts)

    def stage(self, care: Care | None = None, worker: Callable[..., Worker] = Worker) -> RollUp:
        clock = SystemClock()
        return RollUp(Rollups(self.connection, 0.5), self.broker, self.producer, self,
                      DeadLetters("ingest", clock), care or self.care(), worker)

    @asynccontextmanager
    async def rolling(self, stage: RollUp | None = None) -> AsyncIterator["asyncio.Task[None]"]:
        """The stage at work; a bug in it is raised at the end."""
        stop = asyncio.Event()
        running = asyncio.ensure_future((stage or self.stage()).run(stop))
        try:
            yield running
        finally:
            stop.set()
            await asyncio.wait_for(running, 60)
