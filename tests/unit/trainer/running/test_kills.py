"""Twenty kills by a seeded schedule, of trainers amid their stores, of workers amid their files: nothing shows it."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import ModelManifest
from lepton.store.runs import WAITING, run_id_of
from tests.harness.wait import apoll_until
from tests.unit.trainer.running.mortal import DyingFolders, Killed, Life, MortalDatabase, Workers, stores_of
from tests.unit.trainer.world import World, command

SEED, KILLS, KILLED_WORKERS = 20, 20, 12
EPOCHS = 12
ROWS = 100
ASKED = {"family": "mlp", "promote": False,
         "parameters_json": f'{{"hidden": [3], "epochs": {EPOCHS}, "patience": {EPOCHS}, "learning_rate": 0.1}}'}


@pytest.fixture
def workers() -> Iterator[Workers]:
    opened = Workers(random.Random(SEED), EPOCHS)
    yield opened
    opened.close()


def bytes_of(manifest: ModelManifest) -> tuple[str, str, str]:
    return manifest.sha256, manifest.lineage.weights_sha256, manifest.card_sha256


async def live(world: World, life: Life, command_id: str) -> None:
    """One life of a trainer, as a process begins it: to the end of the run, or to its own."""
    still = stores_of(world, world.database)
    world.stores = stores_of(world, MortalDatabase(world.database, life))
    await still.runs.let_go("trainer")
    training, stop = world.training(), asyncio.Event()

    async def work() -> None:
        await training.sweep()
        await training.work("trainer", stop)

    working = asyncio.ensure_future(work())

    async def over() -> bool:
        await world.clock.advance(0.05)
        if working.done():
            return True
        return (await still.runs.get(run_id_of(command_id))).progress.state not in WAITING

    await apoll_until(over, "the run's end or the trainer's", 180, every_s=0.001)
    if not life.dead:
        # Its folder is still to be removed.
        life.kill = 0
        stop.set()
        await world.finish(working)
    elif not isinstance(working.exception() if working.done() else await ended(working, world), Killed):
        raise AssertionError("it went on after its death")
    world.stores = still


async def ended(working: "asyncio.Future[None]", world: World) -> BaseException | None:
    async def step() -> bool:
        await world.clock.advance(0.05)
        return working.done()

    await apoll_until(step, "the killed trainer's end", 180, every_s=0.001)
    return working.exception()


async def nothing_lies_about(world: World) -> bool:
    """Whether all stored bytes are rows, or named by a version; whole files and parts of them."""
    versions = (await world.stores.models.state("tumours")).versions
    named = {digest for one in versions for digest in (*bytes_of(one.manifest), one.model_signing_sha256)}
    rows = {str(one["digest"]) for one in await world.database.collection("segments").find({})}
    files = {str(one["_id"]) for one in await world.database.collection("fs.files").find({})}
    chunks = {str(one["files_id"]) for one in await world.database.collection("fs.chunks").find({})}
    return files == chunks == named | rows


# A minute where others use the machine as well.
@pytest.mark.timeout(600)
async def test_killed_twenty_times_runs_go_on_to_the_same_bytes_and_publish_once(world: World,
                                                                                 workers: Workers) -> None:
    world.folders = DyingFolders(world.path / "runs", workers)  # type: ignore[assignment]  # as flow sees it
    await world.rows(0, ROWS)
    await world.requests.receive(command("whole", **ASKED))
    whole = Life(0, workers)
    await live(world, whole, "whole")
    (first,) = (await world.stores.models.state("tumours")).versions
    chance, killed, runs = random.Random(SEED), list[int](), ["whole"]
    workers.left = KILLED_WORKERS
    while len(killed) + len(workers.kills) < KILLS:
        if (await world.stores.runs.get(run_id_of(runs[-1]))).progress.state not in WAITING:
            runs.append(f"killed-{len(runs)}")
            await world.requests.receive(command(runs[-1], **ASKED))
        at = chance.randint(1, whole.operations) if len(killed) < KILLS - KILLED_WORKERS else 0
        life = Life(at, workers, done=chance.random() < 0.5)
        await live(world, life, runs[-1])
        killed += [at] if life.dead else []
    await live(world, Life(0, workers), runs[-1])
    assert (len(killed), len(workers.kills)) == (KILLS - KILLED_WORKERS, KILLED_WORKERS)
    for command_id in runs:
        run = await world.stores.runs.get(run_id_of(command_id))
        assert run.progress.state == training_pb2.RUN_STATE_SUCCEEDED, run.progress
        assert [point.epoch for point in (await world.stores.runs.course(run.run_id)).points] == list(
            range(1, EPOCHS + 1))
    versions = (await world.stores.models.state("tumours")).versions
    assert [one.manifest.lineage.run_id for one in versions] == [run_id_of(one) for one in runs]
    assert {bytes_of(one.manifest)[:2] for one in versions} == {bytes_of(first.manifest)[:2]}
    assert await nothing_lies_about(world)
    assert await world.folders.names() == []
