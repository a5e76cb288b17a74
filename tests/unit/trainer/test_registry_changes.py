"""Promote, retire, tag and collect: carried out as they arrive, once each, beside whatever run is going on."""

import pytest

from lepton.contracts.pb import models_pb2, training_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.pb.training_pb2 import TrainingProgress
from lepton.errors import Invalid, Missing
from lepton.store.registry.garbage import MODEL_FILES
from lepton.store.runs import run_id_of
from tests.unit.trainer.world import World, command

PROMOTE, RETIRE = training_pb2.TRAINING_KIND_PROMOTE, training_pb2.TRAINING_KIND_RETIRE
TAG, COLLECT = training_pb2.TRAINING_KIND_TAG, training_pb2.TRAINING_KIND_COLLECT


async def two_versions(world: World) -> None:
    await world.rows(0, 150)
    await world.train("c1")
    await world.train("c2", promote=False, parameters_json='{"epochs": 12}')


async def ask(world: World, command_id: str, kind: int, **changes: object) -> TrainingProgress:
    await world.requests.receive(command(command_id, kind=kind, **changes))
    return (await world.stores.runs.get(run_id_of(command_id))).progress


async def test_changes_do_not_wait_behind_a_run_of_the_model(world: World) -> None:
    await two_versions(world)
    await world.requests.receive(command("waiting"))
    assert await world.stores.runs.claim("another trainer", 600) is not None
    done = await ask(world, "p1", PROMOTE, parent_version=2, issuer="lk_1", note="asked for by sales")
    assert (done.state, done.version) == (training_pb2.RUN_STATE_SUCCEEDED, 2)
    assert world.progress[-1] == done
    state = await world.stores.models.state("tumours")
    assert state.champion == 2
    assert (state.champions[-1].by, state.champions[-1].note) == ("lk_1", "asked for by sales")
    assert (await ask(world, "t1", TAG, parent_version=1, tags={"stage": "archive"})).state \
        == training_pb2.RUN_STATE_SUCCEEDED
    assert dict((await world.stores.models.state("tumours")).versions[0].tags) == {"stage": "archive"}


async def test_an_old_command_that_comes_again_undoes_nothing(world: World) -> None:
    await two_versions(world)
    await ask(world, "p1", PROMOTE, parent_version=2)
    await ask(world, "p2", PROMOTE, parent_version=1)
    assert not await world.requests.receive(command("p1", kind=PROMOTE, parent_version=2))
    assert await world.champion() == 1


async def test_what_cannot_be_done_is_told_with_the_remedy(world: World) -> None:
    await two_versions(world)
    failed = await ask(world, "r1", RETIRE, parent_version=1)
    assert failed.state == training_pb2.RUN_STATE_FAILED
    assert failed.failure.failure_class == training_pb2.FAILURE_CLASS_PARAMETER
    assert "is the champion" in failed.failure.message and "promote another" in failed.failure.remedy
    assert (await ask(world, "t1", TAG, parent_version=1, tags={"No!": "x"})).state == training_pb2.RUN_STATE_FAILED
    with pytest.raises(Invalid, match="must name its version"):
        await world.requests.receive(command("r2", kind=RETIRE))


async def test_a_published_champion_s_term_says_what_was_measured(world: World) -> None:
    await two_versions(world)
    (term,) = (await world.stores.models.state("tumours")).champions
    assert (term.version, term.reason, term.by) == (1, "published", run_id_of("c1"))
    assert term.note.startswith("accuracy 0.")


async def test_a_roll_back_s_term_names_its_issuer_and_cause(world: World) -> None:
    await two_versions(world)
    await ask(world, "p1", PROMOTE, parent_version=2)
    await world.requests.roll_back(RecoveryCommand(command_id="x", target="model:tumours", issuer="watchdog-0",
                                                   cause="quality fell"))
    term = (await world.stores.models.state("tumours")).champions[-1]
    assert (term.version, term.reason, term.by, term.note) == (1, "rolled_back", "watchdog-0", "quality fell")


async def test_collecting_removes_retired_versions_and_what_no_version_names(world: World) -> None:
    await two_versions(world)
    state = await world.stores.models.state("tumours")
    first, second = (one.manifest for one in state.versions)
    orphan = await world.stores.artifacts.put(b"left behind", MODEL_FILES)
    await ask(world, "r1", RETIRE, parent_version=2)
    told = await ask(world, "g1", COLLECT)
    assert (told.metrics["versions"], told.metrics["files"]) == (1, 5)
    assert told.metrics["bytes"] > second.size_bytes
    for digest in (orphan, second.sha256, second.lineage.weights_sha256, second.card_sha256):
        with pytest.raises(Missing):
            await world.stores.artifacts.get(digest)
    assert await world.stores.artifacts.get(first.sha256)
    assert await world.stores.artifacts.get(first.lineage.weights_sha256)
    assert await world.stores.artifacts.get(first.card_sha256)
    assert [one.status for one in (await world.stores.models.state("tumours")).versions] \
        == [models_pb2.VERSION_STATUS_READY]


async def test_a_retired_parent_stays_while_a_run_waits_for_it(world: World) -> None:
    await two_versions(world)
    await ask(world, "r1", RETIRE, parent_version=2)
    await world.requests.receive(command("tune", kind=training_pb2.TRAINING_KIND_FINE_TUNE, parent_version=2,
                                         promote=False))
    assert (await ask(world, "g1", COLLECT)).metrics["versions"] == 0
    assert (await world.see_through("tune")).progress.state == training_pb2.RUN_STATE_SUCCEEDED
    assert (await ask(world, "g2", COLLECT)).metrics["versions"] == 1
