"""The watchdog as a whole over any broker and database, with neighbours that beat, answer and fall silent."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Broker, Outgoing, TopicPlan, Writer
from lepton.contracts import codec, topics
from lepton.contracts.pb import incidents_pb2, outcomes_pb2, predictions_pb2, quality_pb2, recovery_pb2, telemetry_pb2
from lepton.contracts.pb.models_pb2 import VERSION_STATUS_READY, Lineage, ModelManifest, ModelState, ModelVersion
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pipeline import Pipeline, parse
from lepton.contracts.signing import Identity, Role, TrustedKey, TrustStore, sign_message
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service
from lepton.store.documents import DocumentDatabase
from lepton.store.incidents import Incidents
from lepton.store.memory import MemoryDatabase
from services.watchdog.app import assemble
from services.watchdog.settings import WatchdogSettings
from tests.harness.bus import read_all
from tests.harness.wait import apoll_until

Kind = TypeVar("Kind", bound=Message)
READY = telemetry_pb2.INSTANCE_STATE_READY
BEAT_S = 0.25


def pipeline(name: str, notify: str = "[log]") -> Pipeline:
    return parse(f"""
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: {name}}}
events:
  partitions: 2
  fields: {{x: {{type: float}}}}
  label: {{field: y, type: bool, arrives: later}}
watch:
  quality: {{metric: accuracy, window: 100, min_labels: 60, drop: 0.15}}
  data: {{bad_share: 0.3, window_s: 5, min_rows: 50}}
heal: {{cool_down_s: 1, notify: {notify}}}
""")


@dataclass
class House:
    """What is around the watchdog. `name`: prefix of instances and name of the pipeline, so that tests can share."""

    folder: Path
    broker: Broker = field(default_factory=MemoryBroker)
    database: DocumentDatabase = field(default_factory=MemoryDatabase)
    name: str = "shop"
    beating: dict[str, str] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    _writer: Writer | None = None
    _sequence: int = 0

    async def furnish(self) -> None:
        (self.folder / "trust").mkdir(parents=True, exist_ok=True)
        for role in ("trainer", "watchdog", "operator"):
            self._trust(role, role)
        await self.broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
        self._writer = self.broker.writer("neighbours")
        await self._writer.start()

    async def leave(self) -> None:
        assert self._writer is not None
        for name in [*self.services, self.name]:
            await self.write(Topic.INSTANCES, None, name)
        await self.write(Topic.PIPELINES, None, self.name)
        await self._writer.stop()

    def settings(self, **changes: Any) -> WatchdogSettings:
        usual: dict[str, Any] = {"trust_dir": self.folder / "trust", "keys_dir": self.folder / "keys",
                                 "instance": f"{self.name}-watchdog", "heartbeat_interval_s": BEAT_S, "tick_s": 0.1,
                                 "silence_s": 1.0, "drain_s": 4}
        return WatchdogSettings(**(usual | changes))

    async def write(self, topic: Topic, value: Message | bytes | None, key: str, *, content_type: str = "",
                    **where: Any) -> None:
        assert self._writer is not None
        body = codec.encode(topic, value) if isinstance(value, Message) else value
        headers = (("content-type", content_type.encode()),) if content_type else ()
        await self._writer.send(Outgoing(topics.name(topic, **where), body, key.encode(), headers))

    # Neighbours.

    async def neighbour(self, instance: str, service: str, boot_id: str = "boot-1") -> str:
        """A process that announced itself and beats; returns its whole name."""
        name = f"{self.name}-{instance}"
        self.beating[name], self.services[name] = boot_id, service
        await self.write(Topic.INSTANCES, telemetry_pb2.Instance(
            instance=name, service=service, boot_id=boot_id, state=READY), name)
        return name

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Every neighbour in `beating` sends heartbeats while the block runs."""
        stop = asyncio.Event()

        async def beat() -> None:
            while not stop.is_set():
                for name, boot_id in list(self.beating.items()):
                    self._sequence += 1
                    await self.write(Topic.TELEMETRY, telemetry_pb2.Telemetry(
                        instance=name, service=self.services[name], boot_id=boot_id, sequence=self._sequence,
                        state=READY), name)
                await asyncio.sleep(BEAT_S)

        task = asyncio.create_task(beat())
        try:
            yield
        finally:
            stop.set()
            await task

    async def beats(self, count: int) -> None:
        """Until so many more heartbeats were sent; of two neighbours, sixty take eight seconds."""
        wanted = self._sequence + count

        async def sent() -> bool:
            return self._sequence >= wanted

        await apoll_until(sent, f"{count} heartbeats")

    @asynccontextmanager
    async def watched(self, **changes: Any) -> AsyncIterator[Service]:
        """The watchdog in this process, running."""
        settings = self.settings(**changes)
        service = assemble(settings, Service("watchdog", settings), self.broker, self.database)
        task = asyncio.create_task(service.run())
        try:
            await apoll_until(_ready(service, task), "the watchdog to be ready", 20)
            yield service
        finally:
            service.request_stop()
            assert await asyncio.wait_for(task, 20) == 0

    async def apply(self, spec: Pipeline | None = None) -> None:
        spec = spec or pipeline(self.name)
        await self.broker.create_topics([TopicPlan(*plan) for plan in topics.plans(self.name, 1, 2)])
        state = PipelineState(name=self.name, version=1, generation=1, partitions=2, spec_json=spec.canonical_json(),
                              spec_digest=spec.digest(), applied_by="lk_0")
        state.applied_at.FromDatetime(datetime.now(UTC))
        await self.write(Topic.PIPELINES, state, self.name)

    async def crown(self, champion: int, previous: int = 0, signer: str = "trainer") -> None:
        manifest = ModelManifest(model=self.name, version=champion, classes=["false", "true"],
                                 metrics={"accuracy": 0.9}, lineage=Lineage(held_out_rows=100))
        self._sequence += 1
        state = ModelState(model=self.name, revision=self._sequence, champion=champion, previous_champion=previous,
                           reason="published", versions=[ModelVersion(
                               model=self.name, version=champion, status=VERSION_STATUS_READY, manifest=manifest)])
        state.changed_at.FromDatetime(datetime.now(UTC))
        sign_message(self.identities[signer], state)
        await self.write(Topic.MODELS, state, self.name)

    async def predict(self, prefix: str, version: int, count: int, *, right: bool) -> None:
        """Predictions with their outcomes, every other one before its prediction."""
        for number in range(count):
            event_id = f"{prefix}-{number}"
            served = predictions_pb2.PredictionServed(
                event_id=event_id, model=self.name, version=version, label="true" if right else "false",
                source=predictions_pb2.PREDICTION_SOURCE_STREAM, probabilities=[0.2, 0.8])
            outcome = outcomes_pb2.Outcome(event_id=event_id, entity="e", flag=True)
            pair: Sequence[tuple[Topic, Message]] = ((Topic.PREDICTIONS, served), (Topic.OUTCOMES, outcome))
            for topic, message in pair if number % 2 else reversed(pair):
                await self.write(topic, message, event_id, pipeline=self.name)

    async def summarise(self, **bad_of_100: int) -> None:
        now = datetime.now(UTC)
        summary = quality_pb2.QualitySummary(pipeline=self.name, instance="ingest", sources=[
            quality_pb2.SourceQuality(source=source, accepted=100 - bad, rejected=bad)
            for source, bad in bad_of_100.items()])
        summary.interval_start.FromDatetime(now)
        summary.interval_end.FromDatetime(now)
        await self.write(Topic.QUALITY, summary, self.name, pipeline=self.name)

    async def answer(self, command: recovery_pb2.RecoveryCommand,
                     outcome: "recovery_pb2.RecoveryOutcome.ValueType" = recovery_pb2.RECOVERY_OUTCOME_DONE) -> None:
        await self.write(Topic.RECOVERY_RESULTS, recovery_pb2.RecoveryResult(
            command_id=command.command_id, target=command.target, outcome=outcome, executor="test",
            evidence="as asked"), command.command_id)

    async def say(self, incident: incidents_pb2.Incident, signer: str) -> None:
        """A person's yes to what the incident asks, as the gateway sends it."""
        word = recovery_pb2.RecoveryCommand(
            command_id=f"{signer}-word", action=recovery_pb2.RECOVERY_ACTION_APPROVE, issuer=f"{signer}:lk_1",
            target=f"incident:{incident.incident_id}", arguments={"rung": str(len(incident.command_ids))})
        now = datetime.now(UTC)
        word.issued_at.FromDatetime(now)
        word.expires_at.FromDatetime(now + timedelta(minutes=2))
        sign_message(self.identities[signer], word)
        await self.write(Topic.RECOVERY_COMMANDS, word, word.target)

    async def sent(self, count: int) -> list[recovery_pb2.RecoveryCommand]:
        """All commands, once there are so many."""
        async def enough() -> list[recovery_pb2.RecoveryCommand]:
            found = await self.read(Topic.RECOVERY_COMMANDS, recovery_pb2.RecoveryCommand)
            return found if len(found) >= count else []

        return await apoll_until(enough, f"{count} commands")

    # What came of it.

    async def read(self, topic: Topic, kind: type[Kind]) -> list[Kind]:
        return [codec.decode_as(topic, kind, record.value)
                for record in await read_all(self.broker, topics.name(topic)) if record.value]

    async def commands(self) -> list[recovery_pb2.RecoveryCommand]:
        found = await self.read(Topic.RECOVERY_COMMANDS, recovery_pb2.RecoveryCommand)
        return [one for one in found if self.name in one.target]

    async def command(self, number: int = 1, timeout_s: float = 20) -> recovery_pb2.RecoveryCommand:
        """The command with that number, once it is there."""
        async def enough() -> list[recovery_pb2.RecoveryCommand]:
            found = await self.commands()
            return found if len(found) >= number else []

        return (await apoll_until(enough, f"command number {number}", timeout_s))[number - 1]

    async def incident(self, state: str, symptom: str, timeout_s: float = 20) -> incidents_pb2.Incident:
        """An incident of that symptom in that state, from the store."""
        wanted = incidents_pb2.IncidentState.Value(f"INCIDENT_STATE_{state.upper()}")

        async def found() -> incidents_pb2.Incident | None:
            return next((one for one in await Incidents(self.database).list()
                         if one.state == wanted and one.symptom == symptom and self.name in one.cause), None)

        incident = await apoll_until(found, f"a {state} incident about {symptom}", timeout_s)
        assert incident is not None
        return incident

    def trusted(self) -> TrustStore:
        return TrustStore.load(self.folder / "trust")

    def _trust(self, name: str, role: Role) -> None:
        identity = Identity.create(self.folder / "keys", name)
        TrustedKey(name, identity.public_bytes(), frozenset({role}), datetime(2020, 1, 1, tzinfo=UTC),
                   datetime(2100, 1, 1, tzinfo=UTC)).write(self.folder / "trust")
        self.identities[name] = identity


def _ready(service: Service, task: "asyncio.Task[int]") -> Any:
    async def ready() -> bool:
        assert not task.done(), "the watchdog ended at start"
        return service.health.ready

    return ready
