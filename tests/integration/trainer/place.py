"""A real trainer's surroundings: broker with topics, database with rows, keys; commands in, registry states out."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import psutil
from google.protobuf.message import Message

from deploy.topics import create
from lepton.bus import kafka
from lepton.bus.producer import Producer
from lepton.bus.records import Broker
from lepton.bus.table import StateReader
from lepton.clock import SystemClock
from lepton.contracts import codec, pipeline, topics
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.recovery_pb2 import RecoveryAction, RecoveryCommand, RecoveryResult
from lepton.contracts.pb.training_pb2 import TRAINING_KIND_TRAIN, TrainingCommand, TrainingProgress
from lepton.contracts.signing import Identity, TrustedKey, TrustStore, sign_message
from lepton.contracts.topics import Topic
from lepton.runtime.settings import BrokerOptions
from lepton.store.models import Models
from lepton.store.mongo import Database
from lepton.store.runs import Run, Runs, run_id_of
from lepton.store.segments import Segments
from tests.harness.bus import read_all
from tests.harness.wait import apoll_until
from tests.unit.trainer.world import SPEC, state_of, store_rows

ROOT = Path(__file__).parents[3]
DRAIN_S = 8
T = TypeVar("T", bound=Message)


@dataclass
class Place:
    """Where one test's trainer works; `name` is its pipeline, instance and database."""

    name: str
    home: Path
    bootstrap: str
    mongo_url: str

    async def furnish(self, spec: str = SPEC) -> None:
        """Topics, keys, an announced pipeline; no rows yet."""
        self.broker: Broker = kafka.connect(BrokerOptions(bootstrap=self.bootstrap, client_id=f"test-{self.name}"))
        await create(self.broker, 1)
        self.database = Database.connect(self.mongo_url, f"trainer_{self.name}")
        await self.database.start()
        clock = SystemClock()
        self.segments, self.runs = Segments(self.database), Runs(self.database, clock)
        self.models = Models(self.database, clock, lambda state: None)
        self.producer = Producer(self.broker, f"test-{self.name}")
        await self.producer.start()
        self.watchdog = self._identity("watchdog")
        self._identity("trainer")
        text = spec.replace("name: tumours", f"name: {self.name}")
        self.spec = pipeline.parse(text)
        state = state_of(text)
        state.applied_at.FromDatetime(clock.now())
        await self.producer.send(Topic.PIPELINES, state, key=self.name)

    async def clear(self) -> None:
        await self.producer.send(Topic.PIPELINES, None, key=self.name)
        await self.producer.stop()
        await self.database.drop()
        await self.database.stop()
        await self.broker.close()

    @contextmanager
    def trainer(self, **settings: str) -> Iterator[psutil.Popen]:
        """The process, killed at the end if it still lives."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LEPTON_")}
        environment = {**kept, "LEPTON_KAFKA_BOOTSTRAP": self.bootstrap, "LEPTON_MONGO_URL": self.mongo_url,
                       "LEPTON_MONGO_DATABASE": f"trainer_{self.name}", "LEPTON_INSTANCE": f"trainer-{self.name}",
                       "LEPTON_KEYS_DIR": str(self.home / "keys"), "LEPTON_TRUST_DIR": str(self.home / "trust"),
                       "LEPTON_STATE_DIR": str(self.home / "state"), "LEPTON_DRAIN_S": str(DRAIN_S),
                       "LEPTON_LOG_FORMAT": "text", **settings}
        with (self.home / "trainer.log").open("ab") as sink:
            process = psutil.Popen([sys.executable, "-m", "services.trainer"], cwd=ROOT, env=environment, stdout=sink,
                                   stderr=sink)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)

    def said(self) -> str:
        return (self.home / "trainer.log").read_text()[-3000:]

    async def rows(self, first: int, count: int, *, partition: int = 0, flipped: bool = False) -> None:
        await store_rows(self.segments, self.spec, first, count, partition=partition, flipped=flipped)

    async def ask(self, command_id: str, **changes: object) -> str:
        """Send a training command; the id of its run."""
        values = {"kind": TRAINING_KIND_TRAIN, "promote": True, "issuer": "test", **changes}
        command = TrainingCommand(command_id=command_id, model=self.name, **values)  # type: ignore[arg-type]  # by name
        command.issued_at.FromDatetime(datetime.now(UTC))
        await self.producer.send(Topic.TRAINING_COMMANDS, command, key=self.name)
        return run_id_of(command_id)

    async def heal(self, action: RecoveryAction.ValueType, command_id: str, **arguments: str) -> None:
        """Send a recovery command signed by the watchdog."""
        command = RecoveryCommand(command_id=command_id, action=action, target=f"model:{self.name}",
                                  arguments=arguments, incident_id=f"incident-{command_id}", issuer="watchdog", fence=1)
        command.issued_at.FromDatetime(datetime.now(UTC))
        command.expires_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=60))
        sign_message(self.watchdog, command)
        await self.producer.send(Topic.RECOVERY_COMMANDS, command, key=command.target)

    async def ended(self, run_id: str, timeout_s: float = 60) -> Run:
        """The run, once it is over."""
        async def over() -> Run | None:
            found = [run for run in await self.runs.list(self.name) if run.run_id == run_id]
            return found[0] if found and found[0].progress.state not in (1, 2) else None

        run = await apoll_until(over, f"{run_id} to end; the trainer said: {self.said()}", timeout_s, every_s=0.2)
        assert run is not None
        return run

    async def announced(self) -> ModelState | None:
        """The model's state on the log."""
        reader = StateReader(self.broker, f"test-{self.name}", [0], SystemClock())
        latest = await reader.latest(topics.name(Topic.MODELS), 0)
        record = latest.get(self.name.encode())
        return codec.decode_as(Topic.MODELS, ModelState, record.value) if record and record.value else None

    async def told(self, run_id: str) -> list[TrainingProgress]:
        records = await read_all(self.broker, topics.name(Topic.TRAINING_PROGRESS))
        found = [TrainingProgress.FromString(record.value or b"") for record in records]
        return [one for one in found if one.run_id == run_id]

    async def result(self, command_id: str, timeout_s: float = 60) -> RecoveryResult:
        async def answered() -> RecoveryResult | None:
            records = await read_all(self.broker, topics.name(Topic.RECOVERY_RESULTS))
            found = [RecoveryResult.FromString(record.value or b"") for record in records]
            return next((one for one in found if one.command_id == command_id), None)

        result = await apoll_until(answered, f"an answer to {command_id}; the trainer said: {self.said()}", timeout_s,
                                   every_s=0.3)
        assert result is not None
        return result

    def trust(self) -> TrustStore:
        return TrustStore.load(self.home / "trust")

    def folder(self, run_id: str) -> Path:
        return self.home / "state" / "trainer" / "runs" / run_id

    def _identity(self, role: str) -> Identity:
        identity = Identity.create(self.home / "keys", role)
        now = datetime.now(UTC)
        TrustedKey(role, identity.public_bytes(), frozenset({role}), now - timedelta(hours=1),
                   now + timedelta(hours=1)).write(self.home / "trust")
        return identity


async def exit_code(process: psutil.Popen, timeout_s: float) -> int:
    return int(await asyncio.wait_for(asyncio.to_thread(process.wait), timeout_s))
