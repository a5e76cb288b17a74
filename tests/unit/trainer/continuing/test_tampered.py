"""A version whose record or bytes were changed in the database is neither learnt on nor compared with."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.signing import Identity, sign_manifest
from lepton.store.runs import Run
from tests.unit.trainer.world import World

SUCCEEDED, FAILED = training_pb2.RUN_STATE_SUCCEEDED, training_pb2.RUN_STATE_FAILED
RESOURCE = training_pb2.FAILURE_CLASS_RESOURCE
FINE_TUNE = training_pb2.TRAINING_KIND_FINE_TUNE

Change = Callable[[World, ModelState], None]


@pytest.fixture
async def world(world: World) -> World:
    """Two versions; the second is champion."""
    await world.rows(0, 200)
    for command_id, epochs in (("one", 8), ("two", 9)):
        assert (await world.train(command_id, parameters_json=f'{{"epochs": {epochs}}}')).progress.state == SUCCEEDED
    assert await world.champion() == 2
    return world


@asynccontextmanager
async def tampered(world: World, change: Change) -> AsyncIterator[None]:
    """As by one who may write to the database and has no key of a trainer; undone at the end."""
    models = world.database.collection("models")
    document = await models.get("tumours")
    assert document is not None
    state = ModelState.FromString(document["announcement"])
    change(world, state)
    assert await models.swap("tumours", {}, {"announcement": state.SerializeToString()})
    yield
    assert await models.swap("tumours", {}, {"announcement": document["announcement"]})


def other_weights(_: World, state: ModelState) -> None:
    first, second = (one.manifest.lineage for one in state.versions)
    first.weights_sha256 = second.weights_sha256


def other_file(_: World, state: ModelState) -> None:
    state.versions[1].manifest.sha256 = state.versions[0].manifest.sha256


def another_form(_: World, state: ModelState) -> None:
    """A champion of other fields is not compared with."""
    state.versions[1].manifest.input_schema_digest = "0" * 64


def signed_by(name: str, place: int) -> Change:
    def change(world: World, state: ModelState) -> None:
        foreign = world.path / f"foreign-{place}"
        sign_manifest(Identity.create(foreign, name), state.versions[place])

    return change


def of_another_model(world: World, state: ModelState) -> None:
    """Truly signed, and about another model than it is listed under."""
    state.versions[0].model = state.versions[0].manifest.model = "lumps"
    sign_manifest(world.identity, state.versions[0])


async def failed(world: World, run: Run, name: str) -> str:
    """What the failure says; nothing else has come of the run."""
    failure = run.progress.failure
    assert (run.progress.state, failure.failure_class, failure.name) == (FAILED, RESOURCE, name), run.progress
    assert failure.remedy
    assert (await world.champion(), world.launched) == (2, 2)
    assert len((await world.stores.models.state("tumours")).versions) == 2
    return failure.message


async def test_a_parent_that_is_not_as_it_was_signed_is_not_learnt_on(world: World) -> None:
    for place, (change, why) in enumerate((
            (other_weights, "the signature does not hold"), (signed_by("trainer", 0), "the signature does not hold"),
            (signed_by("stranger", 0), "signed by a key that is not trusted here (stranger)"),
            (of_another_model, "it is a version of another model (lumps)"))):
        async with tampered(world, change):
            run = await world.train(f"tampered-{place}", kind=FINE_TUNE, parent_version=1)
            assert why in await failed(world, run, "untrusted_parent")
    assert (await world.train("three", kind=FINE_TUNE, parent_version=1)).progress.state == SUCCEEDED


async def test_a_champion_that_is_not_as_it_was_signed_is_not_compared_with(world: World) -> None:
    for change, why in ((other_file, "the signature does not hold"), (another_form, "the signature does not hold"),
                        (signed_by("stranger", 1), "signed by a key that is not trusted here (stranger)")):
        async with tampered(world, change):
            for reason in ("command", "rows"):
                run = await world.train(f"{why}-{change}-{reason}", reason=reason)
                assert why in await failed(world, run, "untrusted_champion")
    async with tampered(world, other_file):
        # The remedy helps.
        await world.stores.models.promote("tumours", 1)
        assert (await world.train("three")).progress.state == SUCCEEDED


async def test_a_parent_whose_bytes_were_changed_is_not_learnt_on(world: World) -> None:
    digest = (await world.stores.models.state("tumours")).versions[0].manifest.lineage.weights_sha256
    chunks = world.database.collection("fs.chunks")
    chunk, *_ = await chunks.find({"files_id": digest})
    data = bytearray(chunk["data"])
    data[len(data) // 2] ^= 1
    assert await chunks.swap(chunk["_id"], {}, {"data": bytes(data)})
    told = await failed(world, await world.train("three", kind=FINE_TUNE, parent_version=1), "parent_unreadable")
    assert "are damaged" in told
