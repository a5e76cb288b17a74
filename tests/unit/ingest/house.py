"""Ingest as a whole over a broker and a database in memory, with what its neighbours would send it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Broker, Headers, Outgoing, Record, TopicPlan
from lepton.clock import Clock
from lepton.contracts import codec, features, topics
from lepton.contracts.pb.models_pb2 import (
    VERSION_STATUS_READY,
    FieldStatistics,
    ModelManifest,
    ModelState,
    ModelVersion,
)
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.recovery_pb2 import RecoveryAction, RecoveryCommand
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.signing import Identity, Role, TrustedKey, sign_message
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service
from lepton.store.documents import DocumentDatabase
from lepton.store.memory import MemoryDatabase
from services.ingest.app import assemble
from services.ingest.settings import IngestSettings
from tests.harness.bus import read_all
from tests.harness.wait import apoll_until
from tests.unit.ingest.samples import record

SHOP = "shop"


@dataclass
class House:
    """What is around the service: a broker with all topics, a database, and the keys of its neighbours."""

    folder: Path
    broker: Broker = field(default_factory=MemoryBroker)
    database: DocumentDatabase = field(default_factory=MemoryDatabase)
    name: str = SHOP
    identities: dict[str, Identity] = field(default_factory=dict)

    async def furnish(self) -> None:
        """Create the platform's topics and the keys."""
        (self.folder / "trust").mkdir(parents=True, exist_ok=True)
        for role in ("trainer", "watchdog", "operator"):
            self.trust(role, role)
        await self.broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])

    def trust(self, name: str, role: Role) -> Identity:
        identity = Identity.create(self.folder / "keys", name)
        TrustedKey(name, identity.public_bytes(), frozenset({role}), datetime(2020, 1, 1, tzinfo=UTC),
                   datetime(2100, 1, 1, tzinfo=UTC)).write(self.folder / "trust")
        self.identities[name] = identity
        return identity

    def settings(self, **changes: Any) -> IngestSettings:
        fast: dict[str, Any] = {"trust_dir": self.folder / "trust", "summary_interval_s": 0.2,
                                "segment_interval_s": 0.05, "heartbeat_interval_s": 0.1, "drain_s": 5}
        return IngestSettings(**(fast | changes))

    async def write(self, topic: Topic, value: Message | bytes | None, key: str, **where: Any) -> None:
        body = codec.encode(topic, value) if isinstance(value, Message) else value
        writer = self.broker.writer("neighbour")
        await writer.start()
        await writer.send(Outgoing(topics.name(topic, **where), body, key.encode()))
        await writer.stop()

    async def apply(self, spec: Pipeline, version: int = 1, generation: int = 1, partitions: int = 2,
                    rows_since: int = 0) -> None:
        """Announce a pipeline as the gateway does: topics first."""
        await self.broker.create_topics(
            [TopicPlan(*plan) for plan in topics.plans(self.name, generation, partitions)])
        state = PipelineState(name=self.name, version=version, generation=generation, partitions=partitions,
                              spec_json=spec.canonical_json(), spec_digest=spec.digest(), applied_by="lk_0",
                              rows_since_generation=rows_since)
        state.applied_at.FromDatetime(datetime.now(UTC))
        await self.write(Topic.PIPELINES, state, self.name)

    async def send(self, *values: Any, topic: Topic = Topic.EVENTS, partition: int | None = 0, headers: Headers = (),
                   generation: int = 1, key: bytes | None = b"k") -> list[Record]:
        writer = self.broker.writer("producer")
        await writer.start()
        name = topics.name(topic, self.name, generation)
        sent = await writer.send_all([
            Outgoing(name, record(value).value, key, headers, partition) for value in values])
        await writer.stop()
        return sent

    async def crown(self, low: float, high: float, revision: int = 1, signer: str = "trainer") -> None:
        """Announce a champion whose snapshot had prices between `low` and `high`."""
        manifest = ModelManifest(model=self.name, version=revision, statistics=[
            FieldStatistics(field="price", outlier_low=low, outlier_high=high)])
        state = ModelState(model=self.name, revision=revision, champion=revision, versions=[
            ModelVersion(model=self.name, version=revision, status=VERSION_STATUS_READY, manifest=manifest)])
        state.changed_at.FromDatetime(datetime.now(UTC))
        state.reason = "published"
        sign_message(self.identities[signer], state)
        await self.write(Topic.MODELS, state, self.name)

    async def command(self, action: "RecoveryAction.ValueType", source: str, *, signer: str = "watchdog",
                      command_id: str = "c-1", **changes: Any) -> RecoveryCommand:
        now = datetime.now(UTC)
        command = RecoveryCommand(
            command_id=command_id, action=action, target=f"pipeline:{self.name}", issuer="watchdog", cause="test",
            arguments=changes.pop("arguments", {}) | ({"source": source} if source else {}), incident_id="i-1",
            fence=changes.pop("fence", 1))
        command.issued_at.FromDatetime(now + timedelta(seconds=changes.pop("issued_in_s", 0)))
        command.expires_at.FromDatetime(now + timedelta(seconds=changes.pop("expires_in_s", 60)))
        for name, value in changes.items():
            setattr(command, name, value)
        sign_message(self.identities[signer], command)
        await self.write(Topic.RECOVERY_COMMANDS, command, command.target)
        return command

    async def read(self, topic: Topic, generation: int = 1) -> list[Record]:
        pipeline_name = self.name if topic.per_pipeline else None
        return await read_all(self.broker, topics.name(topic, pipeline_name, generation))

    async def letters(self, topic: Topic = Topic.EVENTS) -> list[dict[str, str]]:
        """Headers of the dead letters, the prefix left out."""
        found = await read_all(self.broker, topics.dead_letter_name(topics.name(topic, self.name)))
        return [{name.removeprefix("lepton-dead-"): value.decode() for name, value in one.headers} for one in found]

    async def rows(self, generation: int = 1) -> list[dict[str, Any]]:
        return [row for one in await self.read(Topic.FEATURES, generation)
                for row in features.decode_batch(one.value or b"").to_pylist()]

    async def outcomes(self) -> list[Outcome]:
        return [codec.decode_as(Topic.OUTCOMES, Outcome, one.value or b"") for one in await self.read(Topic.OUTCOMES)]


async def until(probe: Callable[[], Awaitable[Any]], what: str, timeout_s: float = 30) -> Any:
    return await apoll_until(probe, what, timeout_s, every_s=0.02)


async def accepted(house: House, count: int) -> Sequence[dict[str, Any]]:
    """The rows of features once there are `count` of them."""
    async def enough() -> list[dict[str, Any]]:
        rows = await house.rows()
        return rows if len(rows) >= count else []

    found: Sequence[dict[str, Any]] = await until(enough, f"{count} accepted rows")
    return found


@asynccontextmanager
async def living(house: House, dead_letters: DeadLetters | None = None, clock: Clock | None = None,
                 **settings: Any) -> AsyncIterator[Service]:
    """The service, ready; asked to stop at the end, which must be clean."""
    chosen = house.settings(**settings)
    service = assemble(chosen, Service("ingest", chosen, clock), house.broker, house.database, dead_letters)
    running = asyncio.ensure_future(service.run())

    async def open_or_over() -> bool:
        return service.health.ready or running.done()

    await until(open_or_over, "ingest to be ready")
    assert not running.done(), "ingest ended at start"
    try:
        yield service
    finally:
        service.request_stop()
        assert await asyncio.wait_for(running, 30) == 0

