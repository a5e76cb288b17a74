"""Runs are unique by command, one at a time for a model, and belong to whoever holds the newest fence."""

import asyncio
from typing import Any, cast

import pytest

from lepton.clock import FakeClock
from lepton.contracts.pb.training_pb2 import (
    CoursePoint,
    FailureClass,
    RunFailure,
    RunState,
    TrainingCommand,
    TrainingCourse,
    TrainingKind,
    TrainingProgress,
)
from lepton.errors import Missing, Refused
from lepton.store.documents import Document, DocumentDatabase, Documents, Match
from lepton.store.runs import MAX_SKEW_S, POINT_S, ClaimedRun, Runs, run_id_of

SUCCEEDED = RunState.RUN_STATE_SUCCEEDED


def command(command_id: str, model: str = "m") -> TrainingCommand:
    return TrainingCommand(command_id=command_id, model=model)


async def claimed(runs: Runs, owner: str = "trainer", lease_s: float = 10) -> ClaimedRun:
    run = await runs.claim(owner, lease_s)
    assert run is not None
    return run


async def test_a_command_is_queued_once(database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    assert await runs.enqueue(command("c1"))
    assert not await runs.enqueue(command("c1"))
    (run,) = await runs.list()
    assert (run.run_id, run.command.command_id) == (run_id_of("c1"), "c1")
    assert run.progress.state == RunState.RUN_STATE_QUEUED


async def test_of_many_claimers_one_wins(database: DocumentDatabase, clock: FakeClock) -> None:
    await Runs(database, clock).enqueue(command("c1"))
    claims = await asyncio.gather(*(Runs(database, clock).claim(f"trainer-{i}", 10) for i in range(12)))
    assert sum(claim is not None for claim in claims) == 1
    assert await Runs(database, clock).claim("late", 10) is None


async def test_runs_of_a_model_go_one_by_one_in_order_and_models_side_by_side(
        database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    for name, model in (("c1", "m"), ("c2", "m"), ("c3", "other")):
        await runs.enqueue(command(name, model))
        await clock.advance(0.01)
    first, second = await claimed(runs), await claimed(runs)
    assert (first.command.command_id, second.command.command_id) == ("c1", "c3")
    assert await runs.claim("trainer", 10) is None
    await runs.finish(first.run_id, first.fence, SUCCEEDED, version=1)
    after = await claimed(runs)
    assert after.command.command_id == "c2"
    assert after.fence > first.fence


async def test_a_lease_that_ran_out_is_given_again_with_a_higher_fence(
        database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(command("c1"))
    old = await claimed(runs, lease_s=10)
    await clock.advance(10 + MAX_SKEW_S - 0.01)
    assert await runs.claim("next", 10) is None
    await clock.advance(0.02)
    new = await claimed(runs, "next")
    assert (new.run_id, new.fence) == (old.run_id, old.fence + 1)


async def test_a_renewed_lease_is_kept(database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(command("c1"))
    run = await claimed(runs, lease_s=10)
    for _ in range(3):
        await clock.advance(8)
        await runs.renew(run.run_id, run.fence, 10)
    assert await runs.claim("next", 10) is None


async def test_an_old_fence_can_change_nothing(database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(command("c1"))
    old = await claimed(runs, lease_s=1)
    await clock.advance(2)
    new = await claimed(runs, "next")
    for write in (runs.renew(old.run_id, old.fence, 10),
                  runs.progress(old.run_id, old.fence, TrainingProgress(state=RunState.RUN_STATE_RUNNING)),
                  runs.finish(old.run_id, old.fence, RunState.RUN_STATE_FAILED)):
        with pytest.raises(Refused, match="no longer held"):
            await write
    await runs.finish(new.run_id, new.fence, SUCCEEDED, version=3)
    assert (await runs.get(new.run_id)).progress.version == 3


async def test_finishing_again_is_harmless_and_in_another_state_refused(
        database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(command("c1"))
    run = await claimed(runs)
    failure = RunFailure(failure_class=FailureClass.FAILURE_CLASS_DATA, message="no rows", remedy="send rows")
    first = await runs.finish(run.run_id, run.fence, RunState.RUN_STATE_FAILED, failure=failure)
    again = await runs.finish(run.run_id, run.fence, RunState.RUN_STATE_FAILED, failure=failure)
    assert first == again
    assert first.failure.message == "no rows"
    with pytest.raises(Refused):
        await runs.finish(run.run_id, run.fence, SUCCEEDED)
    assert await runs.claim("trainer", 10) is None


async def test_progress_is_what_the_run_last_said(database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(command("c1"))
    run = await claimed(runs)
    said = TrainingProgress(run_id=run.run_id, command_id="c1", model="m", state=RunState.RUN_STATE_RUNNING, epoch=3)
    await runs.progress(run.run_id, run.fence, said)
    assert (await runs.get(run.run_id)).progress == said


async def test_a_queued_run_is_cancelled_at_once_and_a_running_one_asked(
        database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(command("c1"))
    await clock.advance(0.01)
    await runs.enqueue(command("c2"))
    running = await claimed(runs)
    assert await runs.cancel(run_id_of("c2")) == RunState.RUN_STATE_CANCELLED
    assert await runs.cancel(running.run_id) == RunState.RUN_STATE_RUNNING
    assert (await runs.get(running.run_id)).cancel_requested
    await runs.finish(running.run_id, running.fence, RunState.RUN_STATE_CANCELLED)
    assert await runs.claim("trainer", 10) is None


class _Sleeper:
    """A collection whose changes wait until `woken`: its process is frozen just before its second write."""

    def __init__(self, real: Documents, woken: asyncio.Event, asleep: asyncio.Event) -> None:
        self._real, self._woken, self._asleep = real, woken, asleep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def swap(self, key: str, expected: Match, changes: Document) -> bool:
        self._asleep.set()
        await self._woken.wait()
        return await self._real.swap(key, expected, changes)


async def test_a_claimer_that_slept_between_its_two_writes_gets_nothing_and_frees_nobody_elses_slot(
        database: DocumentDatabase, clock: FakeClock) -> None:
    runs, woken, asleep = Runs(database, clock), asyncio.Event(), asyncio.Event()
    await runs.enqueue(command("c1"))
    sleeper = Runs(database, clock)
    sleeper._runs = cast(Documents, _Sleeper(database.collection("runs"), woken, asleep))
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(sleeper.claim("sleeper", 1))
        await asleep.wait()
        await clock.advance(2)
        new = await claimed(runs, "next")
        woken.set()
    assert late.result() is None
    assert (await runs.get(new.run_id)).fence == new.fence == 2
    await runs.renew(new.run_id, new.fence, 10)
    await runs.enqueue(command("c2"))
    assert await runs.claim("third", 10) is None


async def test_an_unknown_run_is_missing(database: DocumentDatabase, clock: FakeClock) -> None:
    with pytest.raises(Missing):
        await Runs(database, clock).get("run-x")


async def test_an_owner_that_comes_back_has_its_runs_at_once(database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(command("c1"))
    await runs.enqueue(command("c2", "other"))
    before = await claimed(runs, "trainer-0")
    held = await claimed(runs, "trainer-1")
    await runs.let_go("trainer-0")
    after = await claimed(runs, "trainer-0")
    assert (after.run_id, after.fence) == (before.run_id, before.fence + 1)
    with pytest.raises(Refused):
        await runs.renew(before.run_id, before.fence, 10)
    await runs.renew(held.run_id, held.fence, 10)


async def test_a_higher_priority_goes_first_and_waiting_counts_too(
        database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(TrainingCommand(command_id="patient", model="a", priority=-1))
    await clock.advance(POINT_S / 2)
    await runs.enqueue(TrainingCommand(command_id="ordinary", model="b"))
    await runs.enqueue(TrainingCommand(command_id="urgent", model="c", priority=50))
    assert (await claimed(runs, lease_s=1000)).command.command_id == "urgent"
    assert (await claimed(runs, lease_s=1000)).command.command_id == "ordinary"
    await runs.enqueue(TrainingCommand(command_id="later", model="d"))
    await clock.advance(POINT_S)
    await runs.enqueue(TrainingCommand(command_id="newest", model="e"))
    # Half a minute and more of waiting has made up for the one point it was behind.
    assert [(await claimed(runs, lease_s=1000)).command.command_id for _ in range(3)] == ["later", "patient", "newest"]


async def test_a_run_that_was_begun_goes_before_a_more_urgent_one_of_its_model(
        database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(command("begun"))
    begun = await claimed(runs, "killed")
    await runs.enqueue(TrainingCommand(command_id="urgent", model="m", priority=100))
    await runs.let_go("killed")
    again = await claimed(runs)
    assert (again.run_id, again.fence) == (begun.run_id, begun.fence + 1)


async def test_only_runs_of_a_kind_are_claimed_when_asked_so(database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    promote = TrainingKind.TRAINING_KIND_PROMOTE
    await runs.enqueue(TrainingCommand(command_id="train", model="a", kind=TrainingKind.TRAINING_KIND_TRAIN))
    assert await runs.claim("trainer", 10, promote) is None
    await runs.enqueue(TrainingCommand(command_id="deploy", model="b", kind=promote))
    deploying = await runs.claim("trainer", 10, promote)
    assert deploying is not None
    assert deploying.command.command_id == "deploy"


async def test_what_a_run_is_about_to_store_is_remembered_until_its_end_and_by_its_owner_only(
        database: DocumentDatabase, clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(command("c1"))
    await runs.enqueue(command("c2", "other"))
    first, second = await claimed(runs), await claimed(runs)
    await runs.note(first.run_id, first.fence, ["aa", "bb"])
    await runs.note(second.run_id, second.fence, ["bb"])
    assert await runs.wanted() == {"aa", "bb"}
    # What another run under way counts on is not this one's to remove.
    assert await runs.noted(first.run_id) == {"aa"}
    await runs.finish(second.run_id, second.fence, SUCCEEDED)
    assert await runs.noted(first.run_id) == {"aa", "bb"}
    with pytest.raises(Refused, match="no longer held"):
        await runs.note(first.run_id, first.fence - 1, ["cc"])


async def test_how_a_run_went_is_kept_apart_from_it_and_not_by_an_old_fence(database: DocumentDatabase,
                                                                            clock: FakeClock) -> None:
    runs = Runs(database, clock)
    await runs.enqueue(command("c1"))
    assert not (await runs.course(run_id_of("c1"))).points
    old = await claimed(runs, lease_s=1)
    await runs.keep_course(old.run_id, old.fence, TrainingCourse(points=[CoursePoint(epoch=1)]))
    await runs.keep_course(old.run_id, old.fence, TrainingCourse(points=[CoursePoint(epoch=2)]))
    await clock.advance(1 + MAX_SKEW_S)
    new = await claimed(runs)
    longer = TrainingCourse(points=[CoursePoint(epoch=3, figures={"training_loss": 0.5})])
    await runs.keep_course(new.run_id, new.fence, longer)
    with pytest.raises(Refused):
        await runs.keep_course(old.run_id, old.fence, TrainingCourse())
    assert await runs.course(new.run_id) == longer
