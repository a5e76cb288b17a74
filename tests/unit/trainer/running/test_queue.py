"""Which run goes first, that a cancelled one ends at whatever stage it is, and that none leaves bytes behind."""

import asyncio

import pytest

from lepton.contracts import pipeline
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.training_pb2 import TrainingCommand
from lepton.errors import Missing
from lepton.store.runs import run_id_of
from tests.harness.wait import apoll_until
from tests.unit.trainer.world import SPEC, World, command, nothing, state_of, store_rows

SUCCEEDED, CANCELLED = training_pb2.RUN_STATE_SUCCEEDED, training_pb2.RUN_STATE_CANCELLED
WORKERS = 3


async def stored(world: World) -> set[str]:
    """Digests of everything stored, but for rows."""
    segments = {str(one["digest"]) for one in await world.database.collection("segments").find({})}
    return {str(one["_id"]) for one in await world.database.collection("fs.files").find({})} - segments


async def named(world: World, model: str = "tumours") -> set[str]:
    versions = (await world.stores.models.state(model)).versions
    return {digest for version, one in ((version, version.manifest) for version in versions)
            for digest in (one.sha256, one.lineage.weights_sha256, one.card_sha256, version.model_signing_sha256)}


def cancelling(command_id: str) -> TrainingCommand:
    return TrainingCommand(command_id=f"stop-{command_id}", kind=training_pb2.TRAINING_KIND_CANCEL, model="tumours",
                           cancel_run_id=run_id_of(command_id))


async def test_an_urgent_run_goes_before_those_that_wait_for_the_only_process(world: World) -> None:
    """Several hands, one process: hands without a process must not hold what a more urgent run should overtake."""
    names = ("one", "two", "three", "urgent")
    for name in names:
        world.pipelines[name] = state_of(SPEC.replace("tumours", name))
    order: list[str] = []
    stop, first_at_work, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        first_at_work.set()
        await go.wait()

    world.before_learning = wait
    for name in names[:3]:
        await store_rows(world.stores.segments, pipeline.parse(SPEC.replace("tumours", name)), 0, 40)
        await world.requests.receive(command(name, model=name))
        await world.clock.advance(0.01)
    training = world.training()
    working = [asyncio.ensure_future(training.work("trainer", stop)) for _ in range(WORKERS)]

    async def begun() -> bool:
        await world.clock.advance(0.05)
        return first_at_work.is_set()

    await apoll_until(begun, "the first run to begin", 60, every_s=0.001)
    await store_rows(world.stores.segments, pipeline.parse(SPEC.replace("tumours", "urgent")), 0, 40)
    await world.requests.receive(command("urgent", model="urgent", priority=50))
    go.set()

    async def over() -> bool:
        await world.clock.advance(0.05)
        order[:] = [model for model, _ in world.ended]
        return len(order) == len(names)

    await apoll_until(over, "all runs to end", 60, every_s=0.001)
    stop.set()
    for one in working:
        await world.finish(one)
    assert order == ["one", "urgent", "two", "three"]


async def test_a_promotion_does_not_wait_for_a_process(world: World) -> None:
    await world.rows(0, 200)
    await world.train("c1", promote=False)
    world.pipelines["other"] = state_of(SPEC.replace("tumours", "other"))
    learning, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        learning.set()
        await go.wait()

    world.before_learning = wait
    stop = asyncio.Event()
    training = world.training()
    await world.requests.receive(command("slow", model="other", data_pipeline="tumours"))
    working = [asyncio.ensure_future(training.work("trainer", stop)) for _ in range(2)]

    async def begun() -> bool:
        await world.clock.advance(0.05)
        return learning.is_set()

    await apoll_until(begun, "the slow run to begin", 60, every_s=0.001)
    await world.requests.receive(command("deploy", kind=training_pb2.TRAINING_KIND_PROMOTE, parent_version=1))

    async def deployed() -> bool:
        await world.clock.advance(0.05)
        return await world.champion() == 1

    await apoll_until(deployed, "the promotion", 60, every_s=0.001)
    assert ("other", "succeeded") not in world.ended
    go.set()
    stop.set()
    for one in working:
        await world.finish(one)


async def test_a_run_cancelled_while_it_waits_never_begins(world: World) -> None:
    await world.rows(0, 200)
    await world.requests.receive(command("c1"))
    await world.requests.receive(cancelling("c1"))
    run = await world.see_through("c1")
    assert (run.progress.state, world.launched) == (CANCELLED, 0)


async def test_a_run_cancelled_after_it_learnt_is_not_published_and_leaves_nothing(world: World) -> None:
    await world.rows(0, 200)

    async def cancel() -> None:
        world.before_learning = nothing
        await world.requests.receive(cancelling("c1"))

    world.before_learning = cancel
    run = await world.train("c1")
    assert run.progress.state == CANCELLED
    with pytest.raises(Missing):
        await world.champion()
    assert await stored(world) == set()
    assert await world.folders.names() == []


async def test_bytes_a_dead_owner_stored_are_removed_when_the_run_is_cancelled(world: World) -> None:
    await world.rows(0, 200)
    await world.train("c1")
    await world.requests.receive(command("c2", family="mlp"))
    dead = await world.stores.runs.claim("killed", 5)
    assert dead is not None
    await world.stores.runs.note(dead.run_id, dead.fence, [await world.stores.artifacts.put(b"never published")])
    await world.requests.receive(cancelling("c2"))
    await world.stores.runs.let_go("killed")
    assert (await world.see_through("c2")).progress.state == CANCELLED
    assert await stored(world) == await named(world)


async def test_an_owner_that_stores_something_after_the_run_was_ended_by_another_removes_it(world: World) -> None:
    await world.rows(0, 200)
    await world.requests.receive(command("c1"))
    frozen = await world.stores.runs.claim("frozen", 5)
    assert frozen is not None
    late = b"stored by the one that woke up too late"
    await world.stores.runs.note(frozen.run_id, frozen.fence, [await world.stores.artifacts.put(late)])
    await world.stores.artifacts.delete(await world.stores.artifacts.put(late))
    await world.stores.runs.let_go("frozen")
    assert (await world.see_through("c1")).progress.state == SUCCEEDED
    await world.stores.artifacts.put(late)
    await world.publisher().discard_late(frozen)
    assert await stored(world) == await named(world)


async def test_deaths_at_different_places_are_no_reason_to_give_up(world: World) -> None:
    await world.rows(0, 200)
    lives = 0

    async def die_further_on() -> None:
        nonlocal lives
        lives += 1
        if lives <= 8:
            world.deaths = 1
            await world.folders.of(run_id_of("c1")).write("checkpoint.npz", b"saved in life %d" % lives)
        else:
            await world.folders.of(run_id_of("c1")).write("checkpoint.npz", b"")

    world.before_learning = die_further_on
    run = await world.train("c1")
    assert (run.progress.state, world.launched) == (SUCCEEDED, 9)
