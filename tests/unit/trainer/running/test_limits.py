"""A run's time is bounded whatever it does: its process sees to it, and one that cannot is ended from outside."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.training_pb2 import FAILURE_CLASS_RESOURCE, RunFailure
from lepton.contracts.pipeline_blocks import Search
from lepton.store.runs import run_id_of
from services.trainer import worker
from services.trainer.core.plan import Imported
from services.trainer.edge.workers import RunFolder, RunFolders, RunProcess
from tests.unit.trainer import samples
from tests.unit.trainer.folders import furnish
from tests.unit.trainer.library.test_imports import network
from tests.unit.trainer.streaming import test_candidate as stream
from tests.unit.trainer.world import World

NO_TIME = 1e-6


def training(folder: Path) -> None:
    furnish(folder, *samples.wine(limit_s=NO_TIME, parameters=Parameters(epochs=3)))


def search(folder: Path) -> None:
    furnish(folder, *samples.wine(limit_s=NO_TIME, search=Search(trials=2)))


def imported(folder: Path) -> None:
    furnish(folder, *samples.wine(limit_s=NO_TIME, imported=Imported()))
    (folder / worker.IMPORTED).write_bytes(network())


def candidate(folder: Path) -> None:
    data = datasets.load_wine()
    order = np.random.default_rng(1).permutation(len(data.target))
    plan = stream.plan(13, label_type="category", limit_s=NO_TIME)
    state, _ = stream.learnt(plan, stream.inputs(data.data[order]), data.target[order].astype(np.int64),
                             ["barolo", "grignolino", "barbera"])
    furnish(folder, plan, samples.wine()[1].slice(0, 0))
    (folder / worker.STREAM).write_bytes(state)


@pytest.mark.parametrize(("kind", "where"), [
    (training, "at epoch 1"), (search, "with rows prepared for the first trial"),
    (imported, "with its card not made"), (candidate, "with its card not made")])
def test_whatever_a_run_does_its_process_ends_it_when_its_time_is_over(tmp_path: Path, kind: Callable[[Path], None],
                                                                       where: str) -> None:
    kind(tmp_path)
    assert worker.train(tmp_path) == 0
    failure = json.loads((tmp_path / worker.FAILURE).read_text())
    assert (failure["class"], failure["name"]) == ("resource", "time_limit"), failure
    assert failure["message"].endswith(where)
    assert "LEPTON_TRAINER_RUN_LIMIT_S" in failure["remedy"]
    assert not (tmp_path / worker.RESULT).exists()
    assert not (tmp_path / worker.MODEL).exists()


class HangingFolder(RunFolder):
    """A run folder whose process is a real one that never ends."""

    def __init__(self, path: Path, started: list[RunProcess]) -> None:
        super().__init__(path)
        self._started = started

    async def launch(self) -> RunProcess:
        self._started.append(RunProcess(await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", "import signal; signal.pause()")))
        return self._started[-1]


class HangingFolders(RunFolders):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.started: list[RunProcess] = []

    def of(self, run_id: str) -> HangingFolder:
        return HangingFolder(self._root / run_id, self.started)


def out_of_time(failure: RunFailure) -> bool:
    return (failure.failure_class, failure.name) == (FAILURE_CLASS_RESOURCE, "time_limit")


async def test_a_process_that_hangs_is_ended_after_the_grace(world: World) -> None:
    await world.rows(0, 200)
    hanging = HangingFolders(world.path / "runs")
    world.bounds = replace(world.bounds, limit_s=4, grace_s=2)
    world.folders = hanging  # type: ignore[assignment]  # another kind of folder on the same disk
    began = world.clock.monotonic()
    run = await world.train("hangs")
    assert run.progress.state == training_pb2.RUN_STATE_FAILED
    assert out_of_time(run.progress.failure), run.progress.failure
    assert "after 4 s" in run.progress.failure.message and "2 s later" in run.progress.failure.message
    assert "LEPTON_TRAINER_RUN_LIMIT_S" in run.progress.failure.remedy
    assert world.clock.monotonic() - began >= 6
    # Ended, and not started again.
    assert [one.exit_code for one in hanging.started] == [-9]
    assert await world.folders.names() == []


async def test_what_a_process_leaves_within_the_grace_counts(world: World) -> None:
    await world.rows(0, 200)
    world.bounds = replace(world.bounds, limit_s=30, grace_s=1)

    async def long() -> None:
        await world.clock.sleep(31.5)

    world.before_learning = long
    assert (await world.train()).progress.state == training_pb2.RUN_STATE_SUCCEEDED
    assert world.launched == 1


async def test_all_lives_of_a_process_together_have_the_time_of_one(world: World) -> None:
    await world.rows(0, 200)
    world.bounds = replace(world.bounds, limit_s=30, grace_s=1)
    world.deaths = 9

    async def long() -> None:
        # It gets further each time, so that its deaths alone are no reason to give up.
        await world.folders.of(run_id_of("c1")).write(worker.CHECKPOINT, b"%d" % world.launched)
        await world.clock.sleep(12)

    world.before_learning = long
    run = await world.train()
    assert out_of_time(run.progress.failure), run.progress.failure
    assert world.launched == 3
