"""Requests while a candidate is tried: a share of them by entity, none lost to its faults, no shadow ever answers."""

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from lepton.contracts import codec
from lepton.contracts.pb import models_pb2, prediction_pb2, prediction_pb2_grpc, telemetry_pb2
from lepton.contracts.topics import Topic
from lepton.errors import Unavailable
from lepton.runtime.service import Service
from services.predictor.app import assemble
from services.predictor.core.engine import Engine
from services.predictor.core.rollout.splitting import place
from services.predictor.settings import PredictorSettings
from tests.harness.bus import read_all
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.rollout.beside import CHAMPION, ONE, arms, end, try_beside
from tests.unit.predictor.world import World, amounts, world

CANDIDATE = Linear(ONE, bias=2.0)


async def version_for(here: World, entity: str = "", request_id: str = "") -> int:
    request = amounts("tiny", 1.0, request_id=request_id)
    if entity:
        request.parameters["entity"].string_param = entity
    answer = await here.stub.ModelInfer(request, metadata=here.metadata)
    version = int(answer.model_version)
    (value,) = memoryview(answer.raw_output_contents[0]).cast("f") if answer.raw_output_contents else (math.nan,)
    assert value == 1.0 + version
    return version


async def tried(here: World, candidate: Linear, share: float) -> int:
    """The step's name."""
    await here.registry.publish("tiny", CHAMPION)
    await here.serving("tiny", 1)
    return (await try_beside(here, candidate, share)).rollout.since


async def test_entities_stay_with_the_version_that_answered_them_at_both_doors(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        since = await tried(here, CANDIDATE, 0.3)
        names = prediction_pb2_grpc.PredictionStub(here.channel)
        expected = {f"e-{number}": 2 if place("tiny:2", f"e-{number}") < 0.3 else 1 for number in range(60)}
        assert set(expected.values()) == {1, 2}
        for entity, version in expected.items():
            assert await version_for(here, entity, request_id="whatever") == version
            row = prediction_pb2.PredictRequest(model="tiny", entity=entity)
            row.rows.add().update({"amount": 1.0})
            assert (await names.Predict(row, metadata=here.metadata)).version == version
        for number in range(60):
            assert await version_for(here, request_id=f"e-{number}") == expected[f"e-{number}"]
        champion, candidate = await arms(here, since, answered=180)
        assert candidate.answered == 3 * list(expected.values()).count(2)
        assert champion.answered == 180 - candidate.answered
        assert (sum(champion.runs), sum(candidate.runs)) == (champion.answered, candidate.answered)


async def test_who_says_nothing_of_itself_is_answered_by_share(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await tried(here, CANDIDATE, 0.5)
        found = [await version_for(here) for _ in range(200)]
        assert 60 < found.count(2) < 140


async def test_a_version_that_is_named_answers_whatever_is_tried(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await tried(here, CANDIDATE, 0.99)
        request = amounts("tiny", 1.0)
        request.model_version = "1"
        for _ in range(20):
            assert (await here.stub.ModelInfer(request, metadata=here.metadata)).model_version == "1"


async def test_what_a_candidate_answers_that_is_no_number_the_champion_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        since = await tried(here, Linear(ONE, bias=math.nan), 0.5)
        assert {await version_for(here, f"e-{number}") for number in range(40)} == {1}
        champion, candidate = await arms(here, since, answered=20)
        assert candidate.answered == 0 and candidate.failed + champion.answered >= 40
        assert champion.failed == 0


async def test_what_a_candidate_fails_of_the_champion_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Engine.load.__func__  # type: ignore[attr-defined]  # of a classmethod

    def broken(*given: object) -> Engine:
        engine: Engine = load(Engine, *given)
        if engine.manifest.version == 2:
            async def fail(*_: object) -> None:
                raise Unavailable("the model failed")

            engine.answer = fail  # type: ignore[assignment]
        return engine

    monkeypatch.setattr(Engine, "load", broken)
    async with world(tmp_path) as here:
        since = await tried(here, CANDIDATE, 0.5)
        assert {await version_for(here, f"e-{number}") for number in range(40)} == {1}
        _, candidate = await arms(here, since, answered=20)
        assert candidate.failed > 5


async def test_a_shadow_is_compared_and_never_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        since = await tried(here, Linear(ONE, bias=1.01), 0.0)
        assert {await version_for(here, f"e-{number}") for number in range(40)} == {1}
        _, candidate = await arms(here, since, compared=40)
        assert (candidate.compared, candidate.agreed) == (40, 40)


async def test_a_shadow_that_answers_otherwise_is_seen_and_never_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        since = await tried(here, CANDIDATE, 0.0)
        assert {await version_for(here, f"e-{number}") for number in range(40)} == {1}
        _, candidate = await arms(here, since, compared=40)
        assert (candidate.compared, candidate.agreed, candidate.failed) == (40, 0, 0)


async def test_a_candidate_that_takes_other_tensors_is_told_and_answers_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        since = await tried(here, Linear({"amount": "float", "count": "int"}, bias=2.0), 0.9)
        assert {await version_for(here, f"e-{number}") for number in range(40)} == {1}
        assert "other tensors" in (await arms(here, since))[1].refused


@pytest.mark.parametrize(("verdict", "after"), [(models_pb2.ROLLOUT_STATE_REVERTED, 1),
                                                (models_pb2.ROLLOUT_STATE_PROMOTED, 2)])
async def test_the_registry_s_word_ends_it_at_once(tmp_path: Path, verdict: models_pb2.RolloutState.ValueType,
                                                   after: int) -> None:
    async with world(tmp_path) as here:
        await tried(here, CANDIDATE, 0.5)
        await end(here, verdict)

        async def probe() -> bool:
            return {await version_for(here, f"e-{number}") for number in range(20)} == {after}

        await apoll_until(probe, f"version {after} alone to answer", 20)


async def test_a_predictor_that_starts_while_one_is_tried_goes_on_with_the_share(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        since = await tried(here, CANDIDATE, 0.3)
        settings = here.service.settings.model_copy(update={"instance": "predictor-1"})
        assert isinstance(settings, PredictorSettings)
        later = Service("predictor", settings)
        assemble(settings, later, here.broker, here.database)
        running = asyncio.ensure_future(later.run())
        try:
            address = await address_of(here, "predictor-1", since)
            async with grpc.aio.insecure_channel(address) as channel:
                other = replace(here, channel=channel)
                for number in range(40):
                    assert await version_for(other, f"e-{number}") == (2 if place("tiny:2", f"e-{number}") < 0.3 else 1)
        finally:
            later.request_stop()
            assert await asyncio.wait_for(running, 15) == 0


async def address_of(here: World, name: str, since: int) -> str:
    """Where an instance answers, once it takes part in the step."""
    found: list[str] = []

    async def probe() -> bool:
        for record in await read_all(here.broker, Topic.INSTANCES):
            instance = codec.decode_as(Topic.INSTANCES, telemetry_pb2.Instance, record.value or b"")
            if instance.instance == name and any(arm.since == since for one in instance.models for arm in one.arms):
                found.append(instance.address)
        return bool(found)

    await apoll_until(probe, f"{name} to take part", 20)
    return found[-1]
