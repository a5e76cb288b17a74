"""A trainer without wires: memory stores with real rows in their segments, and workers that learn in this process."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from sklearn import datasets

from lepton.clock import FakeClock
from lepton.contracts import features, pipeline
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.recovery_pb2 import RecoveryResult
from lepton.contracts.pb.training_pb2 import TRAINING_KIND_TRAIN, TrainingCommand, TrainingProgress
from lepton.contracts.signing import Identity, TrustedKey, TrustStore, sign_message
from lepton.store.artifacts import Artifacts, sha256_hex
from lepton.store.datasets.snapshots import Snapshots
from lepton.store.memory import MemoryDatabase
from lepton.store.models import Models
from lepton.store.runs import Run, Runs, run_id_of
from lepton.store.segments import Segments
from services.trainer import worker
from services.trainer.edge.workers import RunFolder, RunFolders
from services.trainer.flow.planning import Planner
from services.trainer.flow.ports import Bounds, Stores, Tell
from services.trainer.flow.publishing import Publisher
from services.trainer.flow.requests import Requests
from services.trainer.flow.training import Training
from services.trainer.flow.triggers import RowTrigger
from tests.harness.wait import apoll_until

START = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS = 10
SPEC = f"""
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: tumours}}
events:
  partitions: 2
  fields:
{chr(10).join(f'    f{place}: {{type: float}}' for place in range(FIELDS))}
  label: {{field: benign, type: bool}}
model:
  family: logistic_regression
  parameters: {{epochs: 8, learning_rate: 0.05}}
  train: {{first_rows: 100, every_rows: 50}}
gate: {{metric: accuracy, at_least: 0.7, beat_champion_by: -0.05}}
"""


def state_of(text: str = SPEC, version: int = 1) -> PipelineState:
    spec = pipeline.parse(text)
    return PipelineState(name=spec.name, version=version, generation=1, partitions=spec.partitions,
                         spec_json=spec.canonical_json(), spec_digest=spec.digest())


def rows_of(spec: pipeline.Pipeline, first: int, count: int, *,
            flipped: bool = False) -> tuple[pa.Table, list[Outcome]]:
    """`count` real tumours as features and outcomes, numbered from `first`; the data set repeats after 569."""
    data = datasets.load_breast_cancer()
    numbers = np.arange(first, first + count)
    ids = [f"{spec.name}-{number:06d}" for number in numbers]
    times = pa.array([START + timedelta(seconds=int(number)) for number in numbers], pa.timestamp("us", tz="UTC"))
    ours = {"_event_id": ids, "_entity": ids, "_occurred_at": times, "_source": ["test"] * count,
            "_traceparent": pa.nulls(count, pa.string()), "_source_offset": pa.array(numbers, pa.int64()),
            "_outliers": pa.array([[]] * count, pa.list_(pa.int16())),
            "_repairs": pa.nulls(count, features.features_schema(spec).field("_repairs").type)}
    values = {name: data.data[numbers % 569, place] for place, name in enumerate(spec.fields)}
    outcomes = []
    for event_id, number in zip(ids, numbers, strict=True):
        outcome = Outcome(event_id=event_id, entity=event_id, flag=bool(data.target[number % 569]) != flipped)
        outcome.label_time.FromDatetime(START + timedelta(seconds=int(number)))
        outcomes.append(outcome)
    return pa.table({**ours, **values}, schema=features.features_schema(spec)), outcomes


async def store_rows(segments: Segments, spec: pipeline.Pipeline, first: int, count: int, *, partition: int = 0,
                     flipped: bool = False) -> None:
    """Append rows to both streams of a partition, as ingest does."""
    table, outcomes = rows_of(spec, first, count, flipped=flipped)
    for stream, data in (("features", features.encode_table(table)),
                         ("outcomes", features.encode_table(features.outcome_table(spec, outcomes)))):
        start = await segments.next_offset(stream, spec.name, 1, partition)
        await segments.append(stream, spec.name, 1, partition, start, start + count, count, data, sha256_hex(data))


@dataclass
class InProcess:
    """A process that ended before anybody looked."""

    exit_code: int | None

    async def kill(self) -> None:
        await asyncio.sleep(0)


class LearningFolder(RunFolder):
    """A run folder whose worker runs here, at launch; `deaths` of its lives end without a word first."""

    def __init__(self, path: Path, world: "World") -> None:
        super().__init__(path)
        self._world = world

    async def launch(self) -> "InProcess":  # type: ignore[override]  # a narrower port than the disk's own
        self._world.launched += 1
        await self._world.before_learning()
        if self._world.deaths:
            self._world.deaths -= 1
            return InProcess(-9)
        return InProcess(await asyncio.to_thread(worker.train, self._path))


class LearningFolders(RunFolders):
    def __init__(self, root: Path, world: "World") -> None:
        super().__init__(root)
        self._world = world

    def of(self, run_id: str) -> LearningFolder:
        return LearningFolder(self._root / run_id, self._world)


async def nothing() -> None:
    await asyncio.sleep(0)


@dataclass
class World:
    """Everything the flow touches, and what it said."""

    path: Path
    pipelines: dict[str, PipelineState] = field(default_factory=lambda: {"tumours": state_of()})
    progress: list[TrainingProgress] = field(default_factory=list)
    results: list[RecoveryResult] = field(default_factory=list)
    troubles: list[tuple[str, str, str]] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)
    launched: int = 0
    deaths: int = 0
    before_learning: Callable[[], Awaitable[None]] = nothing

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.database = MemoryDatabase()
        self.identity = Identity.create(self.path / "keys", "trainer")
        self.stores = Stores(Segments(self.database), Models(self.database, self.clock, self._sign),
                             Runs(self.database, self.clock), Artifacts(self.database), Snapshots(self.database))
        self.bounds = Bounds(lease_s=5, row_pause_s=5, memory_mb=0, limit_s=600, grace_s=60, processes=1)
        self.folders = LearningFolders(self.path / "runs", self)
        self.tell = Tell(self._progress, self._result, lambda: None, lambda *what: self.troubles.append(what),
                         lambda model, state, _: self.ended.append((model, state)), lambda *_: nullcontext())
        self.requests = Requests(self.stores, lambda: self.pipelines, self.tell, self.clock)
        self.trigger = RowTrigger(self.stores, lambda: self.pipelines, self.tell, self.bounds, self.clock)
        self.spec = pipeline.parse(SPEC)

    def planner(self) -> Planner:
        return Planner(self.stores, lambda: self.pipelines, self.trust(), self.bounds, self.tell, self.clock)

    def publisher(self) -> Publisher:
        return Publisher(self.stores, self.identity, self.bounds.lease_s, self.tell, self.clock)

    def training(self) -> Training:
        return Training(self.stores, self.planner(), self.publisher(), self.folders, self.tell, self.bounds, self.clock)

    def trust(self) -> TrustStore:
        now = self.clock.now()
        key = TrustedKey("trainer", self.identity.public_bytes(), frozenset({"trainer"}), now - timedelta(days=1),
                         now + timedelta(days=1))
        return TrustStore({"trainer": key})

    async def rows(self, first: int, count: int, *, partition: int = 0, flipped: bool = False) -> None:
        await store_rows(self.stores.segments, self.spec, first, count, partition=partition, flipped=flipped)

    async def train(self, command_id: str = "c1", **changes: object) -> Run:
        """Queue a command and see its run through."""
        await self.requests.receive(command(command_id, **changes))
        return await self.see_through(command_id)

    async def see_through(self, command_id: str) -> Run:
        await self.work_until(lambda: self._over(command_id))
        return await self.stores.runs.get(run_id_of(command_id))

    async def work_until(self, reached: Callable[[], Awaitable[bool]]) -> None:
        """Let a trainer work until `reached()` is true, its time running as fast as it can."""
        stop = asyncio.Event()
        working = asyncio.ensure_future(self.training().work("trainer", stop))

        async def step() -> bool:
            await self.clock.advance(0.05)
            if working.done():
                working.result()
            return await reached()

        try:
            await apoll_until(step, "the run", 60, every_s=0.001)
        finally:
            stop.set()
            await self.finish(working)

    async def finish(self, working: "asyncio.Future[None]") -> None:
        """Let time run until `working` is done."""
        async def step() -> bool:
            await self.clock.advance(0.5)
            return working.done()

        await apoll_until(step, "the trainer's end", 30, every_s=0.001)
        await working

    async def saw(self, trouble: str) -> bool:
        return trouble in [kind for kind, _, _ in self.troubles]

    async def champion(self) -> int:
        return (await self.stores.models.state("tumours")).champion

    def _sign(self, state: ModelState) -> None:
        sign_message(self.identity, state)

    async def _progress(self, message: TrainingProgress) -> None:
        self.progress.append(message)

    async def _result(self, message: RecoveryResult) -> None:
        self.results.append(message)

    async def _over(self, command_id: str) -> bool:
        run = await self.stores.runs.get(run_id_of(command_id))
        return run.progress.state not in (1, 2)


def command(command_id: str = "c1", **changes: object) -> TrainingCommand:
    values = {"kind": TRAINING_KIND_TRAIN, "model": "tumours", "promote": True, "reason": "command", **changes}
    return TrainingCommand(command_id=command_id, **values)  # type: ignore[arg-type]  # fields by name
