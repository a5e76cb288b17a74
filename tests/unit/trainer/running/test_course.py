"""How a run went is kept with it: while it goes, when it was killed on the way, and when it failed or was cancelled."""

import json
from itertools import pairwise

from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.training_pb2 import TrainingCourse
from lepton.store.runs import run_id_of
from services.trainer.flow.course import MAX_POINTS, course_of
from tests.unit.trainer.world import World

FIGURES = {"training_loss", "validation_loss", "learning_rate"}


def line(epoch: int, **more: object) -> bytes:
    return json.dumps({"epoch": epoch, "epochs": 9, "at": 1e9 + epoch, "training_loss": 1 / (epoch + 1), **more}
                      ).encode() + b"\n"


async def course(world: World, command_id: str = "c1") -> TrainingCourse:
    return await world.stores.runs.course(run_id_of(command_id))


async def test_every_epoch_is_kept_with_its_losses_and_rate(world: World) -> None:
    await world.rows(0, 200)
    run = await world.train()
    kept = await course(world)
    assert [point.epoch for point in kept.points] == list(range(1, 9))
    assert all(set(point.figures) == FIGURES for point in kept.points)
    assert kept.points[-1].figures["training_loss"] < kept.points[0].figures["training_loss"]
    times = [point.at.ToNanoseconds() for point in kept.points]
    assert times == sorted(times) and times[0] > 0
    assert (run.progress.epoch, run.progress.epochs, run.progress.rows) == (8, 8, 200)
    assert (world.progress[-2].state, world.progress[-2].epoch) == (training_pb2.RUN_STATE_RUNNING, 8)


async def test_a_run_that_failed_keeps_how_it_went(world: World) -> None:
    await world.rows(0, 200)
    run = await world.train(family="mlp", parameters_json=json.dumps(
        {"hidden": [64] * 6, "optimizer": "sgd", "learning_rate": 3.0, "epochs": 60, "batch_size": 200}))
    assert run.progress.state == training_pb2.RUN_STATE_FAILED, run.progress
    kept = await course(world)
    assert kept.points
    assert run.progress.epoch == kept.points[-1].epoch


async def test_an_owner_that_lost_the_run_does_not_write_over_what_the_next_one_keeps(world: World) -> None:
    await world.rows(0, 200)
    await world.train()
    told = await course(world)
    claimed = (await world.stores.runs.get(run_id_of("c1"))).fence
    await world.stores.runs.keep_course(run_id_of("c1"), claimed + 1, told)
    assert await course(world) == told


def test_epochs_told_again_after_a_kill_are_kept_once_and_half_a_line_is_passed_over() -> None:
    lines = line(0, stage="trial 1 of 2: mlp") + line(1) + line(2, training_loss=9.0) + b'{"epoch": 3, "tr\n' \
        + line(2) + line(3)
    kept = course_of(lines)
    assert [(point.epoch, point.stage) for point in kept.points] == [
        (0, "trial 1 of 2: mlp"), (1, ""), (2, ""), (3, "")]
    assert kept.points[2].figures["training_loss"] == 1 / 3
    assert kept.points[3].at.ToSeconds() == 10**9 + 3


def test_what_is_no_number_is_left_out() -> None:
    (point,) = course_of(line(1, validation_loss=float("nan"))).points
    assert set(point.figures) == {"training_loss"}


def test_a_long_course_is_thinned_to_what_a_picture_shows() -> None:
    epochs = 5 * MAX_POINTS
    kept = [point.epoch for point in course_of(b"".join(line(epoch + 1) for epoch in range(epochs))).points]
    assert MAX_POINTS / 2 < len(kept) <= MAX_POINTS + 1
    assert (kept[0], kept[-1]) == (1, epochs)
    assert len({after - before for before, after in pairwise(kept[:-1])}) == 1
