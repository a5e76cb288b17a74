"""The real trainer over the real broker and database: commands and rows become models, whatever is killed."""

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from lepton.contracts.pb import recovery_pb2, training_pb2
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.signing import verify_manifest, verify_message
from lepton.store.artifacts import Artifacts
from services.trainer.core.export.session import Session
from tests.harness.wait import apoll_until
from tests.integration.trainer.place import DRAIN_S, Place, exit_code
from tests.unit.trainer.world import SPEC

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]
SUCCEEDED = training_pb2.RUN_STATE_SUCCEEDED
SLOW = '{"epochs": 10000, "learning_rate": 1e-5}'
IDLE_MB = 300


@pytest_asyncio.fixture
async def place(request: pytest.FixtureRequest, tmp_path: Path, kafka_bootstrap: str,
                mongo_url: str) -> AsyncIterator[Place]:
    place = Place(f"t{uuid.uuid4().hex[:8]}", tmp_path, kafka_bootstrap, mongo_url)
    await place.furnish(getattr(request, "param", SPEC))
    yield place
    await place.clear()


async def announced(place: Place, champion: int) -> ModelState:
    async def seen() -> ModelState | None:
        state = await place.announced()
        return state if state is not None and state.champion == champion else None

    state = await apoll_until(seen, f"champion {champion} on the log; the trainer said: {place.said()}", 60, 0.3)
    assert state is not None
    verify_message(place.trust(), "trainer", state, state.changed_at.ToDatetime().astimezone())
    return state


async def training(place: Place, run_id: str) -> None:
    """Return once the run has a checkpoint."""
    checkpoint = place.folder(run_id) / "checkpoint.npz"

    async def begun() -> bool:
        return checkpoint.exists()

    await apoll_until(begun, f"a checkpoint of {run_id}; the trainer said: {place.said()}", 60, 0.1)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if "services.trainer.worker" in child.cmdline()]


async def gone(processes: list[psutil.Process]) -> None:
    async def dead() -> bool:
        return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)

    await apoll_until(dead, "the run's processes to die", 10)


async def test_rows_and_commands_become_signed_models_and_sigterm_ends_it_in_good_order(place: Place) -> None:
    await place.rows(0, 150)
    await place.rows(150, 60, partition=1)
    with place.trainer() as process:
        # Rows alone call for the first run.
        state = await announced(place, 1)
        (version,) = state.versions
        verify_manifest(place.trust(), version, state.changed_at.ToDatetime().astimezone())
        assert version.manifest.metrics["accuracy"] > version.manifest.metrics["baseline_accuracy"]
        assert version.manifest.lineage.command_id == f"rows-{place.name}-1-3"
        assert Session(await Artifacts(place.database).get(version.manifest.sha256))
        assert "torch" not in "".join(one.path for one in process.memory_maps())
        assert process.memory_info().rss < IDLE_MB * 2**20

        run_id = await place.ask("tune", kind=training_pb2.TRAINING_KIND_FINE_TUNE, promote=False)
        run = await place.ended(run_id)
        assert (run.progress.state, run.progress.version) == (SUCCEEDED, 2)
        told = await place.told(run_id)
        assert told[-1].state == SUCCEEDED
        assert told[-1].metrics["accuracy"] > 0.8

        await place.ended(await place.ask("deploy", kind=training_pb2.TRAINING_KIND_PROMOTE, parent_version=2))
        await announced(place, 2)
        await place.heal(recovery_pb2.RECOVERY_ACTION_ROLL_BACK, f"{place.name}-back", from_version="2")
        result = await place.result(f"{place.name}-back")
        assert result.outcome == recovery_pb2.RECOVERY_OUTCOME_DONE
        assert result.executor == f"trainer-{place.name}"
        await announced(place, 1)

        process.send_signal(signal.SIGTERM)
        assert await exit_code(process, DRAIN_S + 4) == 0, place.said()
    assert list((place.home / "state" / "trainer" / "runs").iterdir()) == []


# How many epochs it gets before each end is the machine's affair, so the gate lets any model pass.
@pytest.mark.parametrize("place", [SPEC.replace("at_least: 0.7", "at_least: 0.0")], indirect=True, ids=["open gate"])
async def test_a_run_survives_kill_9_and_sigterm_and_is_published_once(place: Place) -> None:
    await place.rows(0, 90)
    with place.trainer() as process:
        run_id = await place.ask("slow", parameters_json=SLOW)
        await training(place, run_id)
        workers = descendants(process)
        assert workers
        process.kill()
        assert await exit_code(process, 10) == -signal.SIGKILL
        # Nobody goes on with a run that nobody leads.
        await gone(workers)
    begun = epochs(place, run_id)
    with place.trainer() as process:
        await apoll_until(lambda: further(place, run_id, begun), "the resumed run to go on", 60)
        workers = descendants(process)
        process.send_signal(signal.SIGTERM)
        assert await exit_code(process, DRAIN_S + 4) == 0, place.said()
        await gone(workers)
    # What each process did counts: no epoch was trained twice but one that was not yet saved.
    trained = [json.loads(line)["epoch"] for line in (place.folder(run_id) / "progress.jsonl").read_text().splitlines()]
    assert len(trained) - len(set(trained)) <= 1
    _shorten(place, run_id, max(trained) + 5)
    with place.trainer():
        run = await place.ended(run_id)
        assert (run.progress.state, run.progress.version, run.fence) == (SUCCEEDED, 1, 3), (
            run.progress.failure, place.said())
        state = await announced(place, 1)
        assert [one.manifest.lineage.run_id for one in state.versions] == [run_id]

        async def swept() -> bool:
            return not place.folder(run_id).exists()

        await apoll_until(swept, "the run's folder to be removed", 10)


async def test_a_worker_that_is_killed_alone_resumes_and_a_cancelled_one_ends(place: Place) -> None:
    await place.rows(0, 90)
    with place.trainer() as process:
        run_id = await place.ask("slow", parameters_json=SLOW)
        await training(place, run_id)
        first = descendants(process)
        first[-1].kill()
        await gone(first)

        async def another() -> bool:
            return bool({one.pid for one in descendants(process)} - {one.pid for one in first})

        await apoll_until(another, f"another worker; the trainer said: {place.said()}", 30)
        await place.ask("stop", kind=training_pb2.TRAINING_KIND_CANCEL, cancel_run_id=run_id)
        run = await place.ended(run_id)
        assert run.progress.state == training_pb2.RUN_STATE_CANCELLED
        await gone(descendants(process))
        assert await asyncio.to_thread(process.poll) is None


async def test_a_run_that_needs_too_much_memory_fails_as_resource(place: Place) -> None:
    await place.rows(0, 90)
    with place.trainer(LEPTON_TRAINER_RUN_MEMORY_MB="1000"):
        run = await place.ended(await place.ask("huge", family="mlp",
                                                parameters_json='{"hidden": [4096, 4096, 4096, 4096, 4096, 4096]}'))
        assert run.progress.failure.failure_class == training_pb2.FAILURE_CLASS_RESOURCE, run.progress.failure
        assert "memory" in run.progress.failure.message + run.progress.failure.remedy


def epochs(place: Place, run_id: str) -> int:
    return len((place.folder(run_id) / "progress.jsonl").read_text().splitlines())


async def further(place: Place, run_id: str, than: int) -> bool:
    return epochs(place, run_id) > than + 10


def _shorten(place: Place, run_id: str, last: int) -> None:
    """Have the interrupted run end soon: its plan is what the next process goes by."""
    plan = place.folder(run_id) / "plan.json"
    plan.write_text(plan.read_text().replace('"epochs":10000', f'"epochs":{last}'))
