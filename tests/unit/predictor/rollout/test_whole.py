"""Trainer and predictor over one bus: a bad candidate is left by itself, a good one takes over, across a restart."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lepton.bus.producer import Producer
from lepton.clock import SystemClock
from lepton.contracts.pb import models_pb2
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.signing import sign_manifest, sign_message
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service
from lepton.store.models import Models
from services.trainer.app import assemble
from services.trainer.edge.workers import RunFolders
from services.trainer.settings import TrainerSettings
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.rollout.beside import CHAMPION, ONE
from tests.unit.predictor.world import World, amounts, world

TERMS = models_pb2.RolloutTerms(shares=[0.2, 0.5], step_s=0.2, min_answers=20, max_failures=0.005, max_slower=100,
                                min_agreement=0.8, significance=0.05, limit_s=3600)
TERMS_AB = models_pb2.RolloutTerms(shares=[0.5], step_s=0.2, min_answers=20, max_failures=0.005, max_slower=100,
                                   significance=0.05, limit_s=3600)
CANARY, SHADOW = models_pb2.ROLLOUT_STRATEGY_CANARY, models_pb2.ROLLOUT_STRATEGY_SHADOW
PROMOTED, REVERTED = models_pb2.ROLLOUT_STATE_PROMOTED, models_pb2.ROLLOUT_STATE_REVERTED


@dataclass
class Platform:
    """Both services; versions are published as the trainer publishes them."""

    here: World
    home: Path
    models: Models
    asked: "itertools.count[int]" = field(default_factory=itertools.count)

    async def publish(self, number: int, linear: Linear, rollout: models_pb2.Rollout | None = None) -> None:
        data = linear.build()
        version = models_pb2.ModelVersion(model="tiny", version=number, status=models_pb2.VERSION_STATUS_READY,
                                          manifest=linear.manifest(data, "tiny", number))
        version.manifest.lineage.run_id = f"run-{number}"
        version.manifest.created_at.FromDatetime(datetime.now(UTC))
        sign_manifest(self.here.registry.identity, version)
        await self.here.registry.artifacts.put(data)
        await self.models.publish("tiny", version, True, number, rollout=rollout)

    async def ask_until(self, reached: Callable[[models_pb2.ModelState], bool]) -> set[float]:
        """Ask for ever new entities until the registry's state is so; everything that was answered."""
        answers: set[float] = set()

        async def probe() -> bool:
            for _ in range(20):
                request = amounts("tiny", 1.0)
                request.parameters["entity"].string_param = f"e-{next(self.asked)}"
                answer = await self.here.stub.ModelInfer(request, metadata=self.here.metadata)
                answers.add(memoryview(answer.raw_output_contents[0]).cast("f")[0])
            return reached(await self.models.state("tiny"))

        await apoll_until(probe, "the registry", 60)
        return answers

    @asynccontextmanager
    async def trainer(self) -> AsyncIterator[None]:
        settings = TrainerSettings(instance="trainer-0", keys_dir=self.home / "keys", trust_dir=self.home / "trust",
                                   state_dir=self.home / "trainer", look_s=0.05, heartbeat_interval_s=0.05)
        service = Service("trainer", settings)
        assemble(settings, service, self.here.broker, self.here.database, RunFolders(self.home / "runs"))
        running = asyncio.ensure_future(service.run())
        try:
            yield
        finally:
            service.request_stop()
            assert await asyncio.wait_for(running, 30) == 0


@asynccontextmanager
async def platform(home: Path) -> AsyncIterator[Platform]:
    """Version 1 answers."""
    async with world(home) as here:
        models = Models(here.database, SystemClock(), lambda state: sign_message(here.registry.identity, state))
        made = Platform(here, home, models)
        async with made.trainer():
            await made.publish(1, CHAMPION)
            await here.serving("tiny", 1)
        yield made


@pytest.mark.parametrize(("strategy", "candidate", "verdict", "seen"), [
    (CANARY, Linear(ONE, bias=2.0), PROMOTED, {2.0, 3.0}),
    (CANARY, Linear(ONE, bias=math.nan), REVERTED, {2.0}),
    (SHADOW, Linear(ONE, bias=2.0), REVERTED, {2.0}),
])
async def test_a_candidate_comes_to_its_end_by_what_it_does(
        tmp_path: Path, strategy: models_pb2.RolloutStrategy.ValueType, candidate: Linear,
        verdict: models_pb2.RolloutState.ValueType, seen: set[float]) -> None:
    async with platform(tmp_path) as both, both.trainer():
        await both.publish(2, candidate, models_pb2.Rollout(strategy=strategy, terms=TERMS))
        assert await both.ask_until(lambda state: state.rollout.state == verdict) <= seen
        champion = 2 if verdict == PROMOTED else 1
        assert (await both.models.state("tiny")).champion == champion
        await both.here.serving("tiny", champion)


async def test_a_rollout_goes_on_when_its_trainer_comes_back(tmp_path: Path) -> None:
    async with platform(tmp_path) as both:
        async with both.trainer():
            await both.publish(2, Linear(ONE, bias=2.0), models_pb2.Rollout(strategy=CANARY, terms=TERMS))
            await both.ask_until(lambda state: state.rollout.step == 1)
        assert (await both.models.state("tiny")).champion == 1
        async with both.trainer():
            await both.ask_until(lambda state: state.champion == 2)
            await both.here.serving("tiny", 2)


async def test_of_two_versions_the_one_takes_over_that_labels_show_to_be_better(tmp_path: Path) -> None:
    async with platform(tmp_path) as both, both.trainer():
        here = both.here
        spec = await here.registry.apply("tiny", ONE)
        labels = Producer(here.broker, "labels")
        await labels.start()
        try:
            await both.publish(2, Linear(ONE, bias=0.0), models_pb2.Rollout(
                strategy=models_pb2.ROLLOUT_STRATEGY_AB, terms=TERMS_AB))

            async def probe() -> bool:
                numbers = list(itertools.islice(both.asked, 40))
                await here.registry.features(spec, [
                    {"_event_id": f"x-{number}", "_entity": f"u-{number}", "amount": float(number)}
                    for number in numbers], partition=0)
                for number in numbers:
                    outcome = Outcome(event_id=f"x-{number}", entity=f"u-{number}", number=number)
                    outcome.label_time.FromDatetime(datetime.now(UTC))
                    await labels.send(Topic.OUTCOMES, outcome, key=outcome.event_id, pipeline="tiny")
                return (await both.models.state("tiny")).champion == 2

            await apoll_until(probe, "version 2 to be champion", 60)
        finally:
            await labels.stop()
        over = (await both.models.state("tiny")).rollout
        assert over.state == PROMOTED and "0 lost an answer" in over.note and "the champion's 1 over" in over.note
