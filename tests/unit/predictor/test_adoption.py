"""What the registry names is taken up only when everything holds, and what answered before is never disturbed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2
from lepton.contracts.signing import sign_manifest
from services.predictor.core.engine import Engine
from tests.harness.onnx_models import Linear
from tests.harness.registry import digest, trainer
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import World, amounts, world

ONE = {"amount": "float"}
GOOD = Linear(ONE, bias=1.0)


async def version_of(here: World, model: str = "tiny") -> str:
    answer = await here.stub.ModelInfer(amounts(model, 1.0), metadata=here.metadata)
    return str(answer.model_version)


async def refused(here: World, count: int = 1) -> None:
    await here.metric(f'lepton_predictor_models_refused_total{{model="tiny"}} {float(count)}')


async def test_a_new_champion_takes_over_and_the_one_before_stays_for_a_roll_back(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        for version in (1, 2, 3):
            await here.registry.publish("tiny", Linear(ONE, bias=float(version)))
            await here.serving("tiny", version)
        index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=here.metadata)
        assert [(one.version, one.state) for one in index.models] == [("2", "READY"), ("3", "READY")]
        by_number = amounts("tiny", 1.0)
        by_number.model_version = "2"
        assert (await here.stub.ModelInfer(by_number, metadata=here.metadata)).model_version == "2"


async def test_a_roll_back_needs_no_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
        await here.registry.publish("tiny", Linear(ONE, bias=2.0))
        await here.serving("tiny", 2)

        def no_load(*_: object) -> Engine:
            raise AssertionError("a version that was kept is loaded again")

        monkeypatch.setattr(Engine, "load", no_load)
        await here.registry.roll_back("tiny")
        await here.serving("tiny", 1)
        index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=here.metadata)
        assert [one.version for one in index.models] == ["1"]


async def test_a_state_signed_by_a_key_that_is_not_trusted_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
        state = here.registry.state("tiny")
        state.champion = 0
        await here.registry.announce(state, trainer(tmp_path, "mallory", trusted=False))
        await refused(here)
        assert await version_of(here) == "1"
        await here.metric('lepton_errors_total{kind="model_refused"} 1.0')


async def test_a_changed_state_does_not_hold(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
        state = here.registry.state("tiny")
        state.champion, state.revision = 0, state.revision + 1
        await here.registry.send("tiny", state)
        await refused(here)
        assert await version_of(here) == "1"


async def test_a_state_under_the_name_of_another_model_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        state = await here.registry.publish("other", GOOD)
        await here.serving("other", 1)
        await here.registry.send("tiny", state)
        await refused(here)


async def test_an_old_state_played_again_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        first = models_pb2.ModelState()
        first.CopyFrom(await here.registry.publish("tiny", GOOD))
        await here.registry.publish("tiny", Linear(ONE, bias=2.0))
        await here.serving("tiny", 2)
        await here.registry.send("tiny", first)
        await here.registry.publish("other", GOOD)
        await here.serving("other", 1)
        assert await version_of(here) == "2"


def unsigned(state: models_pb2.ModelState) -> None:
    state.versions[1].signature = b"x" * 64


def other_bytes(state: models_pb2.ModelState) -> None:
    """Signed by the trainer, but the file in the store has another length than was signed."""
    state.versions[1].manifest.size_bytes += 1


def other_operators(state: models_pb2.ModelState) -> None:
    state.versions[1].manifest.operators.remove("ai.onnx::Concat")


def other_inputs(state: models_pb2.ModelState) -> None:
    state.versions[1].manifest.inputs[0].datatype = "FP32"


def no_digest(state: models_pb2.ModelState) -> None:
    state.versions[1].manifest.sha256 = "latest"


def not_listed(state: models_pb2.ModelState) -> None:
    del state.versions[1]


def rejected(state: models_pb2.ModelState) -> None:
    state.versions[1].status = models_pb2.VERSION_STATUS_REJECTED


def of_another_model(state: models_pb2.ModelState) -> None:
    state.versions[1].model = state.versions[1].manifest.model = "other"


@pytest.mark.parametrize("damage", [unsigned, other_bytes, other_operators, other_inputs, no_digest, not_listed,
                                    rejected, of_another_model])
async def test_a_version_that_does_not_hold_is_refused_while_the_old_one_answers(
        tmp_path: Path, damage: Callable[[models_pb2.ModelState], None]) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
        data = Linear(ONE, bias=2.0).build()
        await here.registry.artifacts.put(data)
        state = here.registry.state("tiny")
        version = state.versions.add(model="tiny", version=2, status=models_pb2.VERSION_STATUS_READY,
                                     manifest=GOOD.manifest(data, "tiny", 2))
        sign_manifest(here.registry.identity, version)
        damage(state)
        if damage not in (unsigned, not_listed, rejected):
            sign_manifest(here.registry.identity, version)
        state.previous_champion, state.champion = 1, 2
        await here.registry.announce(state)
        await refused(here)
        assert await version_of(here) == "1"
        index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=here.metadata)
        assert [(one.version, bool(one.reason)) for one in index.models] == [("1", True)]


async def test_a_flipped_byte_in_the_store_is_refused_while_the_old_one_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
        data = Linear(ONE, bias=2.0).build()
        await here.registry.artifacts.put(data)
        chunks = here.database.collection("fs.chunks")
        (chunk,) = await chunks.find({"files_id": digest(data)})
        flipped = bytearray(chunk["data"])
        flipped[len(flipped) // 2] ^= 1
        await chunks.put({**chunk, "data": bytes(flipped)})
        await here.registry.publish("tiny", Linear(ONE, bias=2.0), store=False)
        await refused(here)
        assert await version_of(here) == "1"


async def test_a_flipped_byte_in_the_cache_is_mended_from_the_store(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
    cached = next((tmp_path / "state").rglob(digest(GOOD.build())))
    cached.write_bytes(cached.read_bytes()[:-1] + b"x")
    async with world(tmp_path / "again", state_dir=tmp_path / "state") as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
    assert digest(cached.read_bytes()) == cached.name


async def test_a_cached_file_needs_no_store(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
    async with world(tmp_path / "again", state_dir=tmp_path / "state") as here:
        await here.registry.publish("tiny", GOOD, store=False)
        await here.serving("tiny", 1)


async def test_a_file_that_makes_the_loader_fail_in_any_way_is_refused(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)

        def broken(*_: object) -> Engine:
            raise MemoryError("no room for the model")

        monkeypatch.setattr(Engine, "load", broken)
        await here.registry.publish("tiny", Linear(ONE, bias=2.0))
        await refused(here)
        assert await version_of(here) == "1"


async def test_where_nothing_answers_the_champion_before_stands_in(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.artifacts.put(GOOD.build())
        state = models_pb2.ModelState(model="tiny", champion=2, previous_champion=1)
        for number in (1, 2):
            version = state.versions.add(model="tiny", version=number, status=models_pb2.VERSION_STATUS_READY,
                                         manifest=GOOD.manifest(GOOD.build(), "tiny", number))
            if number == 2:
                version.manifest.operators.append("ai.onnx::Tan")
                version.manifest.operators.remove("ai.onnx::Concat")
            sign_manifest(here.registry.identity, version)
        await here.registry.announce(state)
        await refused(here)
        await here.serving("tiny", 1)


async def test_a_stand_in_that_does_not_hold_either_leaves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        state = models_pb2.ModelState(model="tiny", champion=2, previous_champion=1)
        await here.registry.announce(state)
        await refused(here)
        ready = await here.stub.ModelReady(oip.ModelReadyRequest(name="tiny"), metadata=here.metadata)
        assert not ready.ready


async def test_a_model_taken_out_of_the_registry_answers_no_more(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD)
        await here.serving("tiny", 1)
        await here.registry.send("tiny", None)

        async def gone() -> bool:
            index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=here.metadata)
            return not index.models

        await apoll_until(gone, "the model to be gone")


async def test_swapping_under_load_loses_no_request(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", Linear(ONE, bias=1.0))
        await here.serving("tiny", 1)
        versions: list[str] = []
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                versions.append(await version_of(here))

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(ask())
            for version in range(2, 8):
                await here.registry.publish("tiny", Linear(ONE, bias=float(version)))
                await here.serving("tiny", version)
            done.set()
        assert {"1", "7"} <= set(versions)


async def test_a_file_that_is_not_there_yet_is_asked_for_again(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", GOOD, store=False)
        await here.metric('lepton_errors_total{kind="model_unavailable"} 2.0')
        await here.registry.artifacts.put(GOOD.build())
        await here.serving("tiny", 1)
