"""The real trainer, killed at every state of a run that a look at its folder, at the database or at the log can tell
from the next: whatever it had begun is ended once, and nothing it had stored lies about."""

import hashlib
import random
import signal
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lepton.contracts import topics
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import ModelManifest, ModelState
from lepton.contracts.signing import verify_manifest, verify_message
from lepton.contracts.topics import Topic
from tests.harness.bus import read_all
from tests.harness.wait import apoll_until
from tests.integration.trainer.place import Place, exit_code
from tests.integration.trainer.turnstile import Request, Strike, Turnstile

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]
RUNNING, SUCCEEDED = training_pb2.RUN_STATE_RUNNING, training_pb2.RUN_STATE_SUCCEEDED
COLLECT = training_pb2.TRAINING_KIND_COLLECT
SEED, PUBLISHING = 5, 5


@pytest_asyncio.fixture
async def place(tmp_path: Path, kafka_bootstrap: str, mongo_url: str) -> AsyncIterator[Place]:
    place = Place(f"t{uuid.uuid4().hex[:8]}", tmp_path, kafka_bootstrap, mongo_url)
    await place.furnish()
    yield place
    await place.clear()


def written(collection: str, **members: object) -> Callable[[Request], bool]:
    """An update of a collection that gives these members these values; with none, any that puts a whole document."""
    def at(request: Request) -> bool:
        if (request.command, request.collection) != ("update", collection):
            return False
        return request.puts if not members else all(request.sets.get(name) == value for name, value in members.items())

    return at


def noted(request: Request) -> bool:
    return request.collection == "runs" and "artefacts" in request.sets


def recorded(request: Request) -> bool:
    return (request.command, request.collection) == ("insert", "models")


def learning(folder: Path) -> list[Strike]:
    """Up to the worker's result."""
    def seen(name: str) -> Callable[[Request], bool]:
        return lambda request: (folder / name).exists()

    return [Strike("claimed", written("runs", state=RUNNING), done=True), Strike("rows read", seen("plan.json")),
            Strike("checkpoint kept", seen("checkpoint.npz")), Strike("result written", seen("result.json"))]


def publishing() -> list[Strike]:
    """From the result to the last byte; in whatever order, as each life begins anew with the first of them."""
    states = [Strike("bytes noted", noted, done=True), Strike("half a file stored", written("fs.chunks"), done=True),
              Strike("a file stored", written("fs.files"), done=True), Strike("all bytes stored", recorded)]
    chance = random.Random(SEED)
    drawn = states + chance.choices(states, k=PUBLISHING - len(states))
    chance.shuffle(drawn)
    return drawn


def ending() -> list[Strike]:
    """From the registry's record on. The relay announces while the run ends, so that the one is held for the other."""
    finished, announced = written("runs", state=SUCCEEDED), written("models", pending=False)
    return [Strike("in the registry", recorded, done=True), Strike("announced", announced, held=finished),
            Strike("known to be announced", announced, done=True, held=finished), Strike("end told", finished),
            Strike("ended", finished, done=True)]


async def struck(place: Place, turnstile: Turnstile, url: str, strike: Strike) -> None:
    """One life of a trainer, to the strike."""
    with place.trainer(LEPTON_MONGO_URL=url) as process:
        turnstile.strike(strike, process.kill)

        async def hit() -> bool:
            return turnstile.struck.is_set() or process.poll() is not None

        try:
            await apoll_until(hit, f"a kill at `{strike.name}`", 120, every_s=0.02)
        except AssertionError as error:
            raise AssertionError(f"{error}; it asked {list(turnstile.passed)} and said {place.said()}") from None
        assert await exit_code(process, 10) == -signal.SIGKILL, place.said()


async def announcements(place: Place) -> list[bytes]:
    """Every record of the model on the log, not only the latest."""
    records = await read_all(place.broker, topics.name(Topic.MODELS))
    return [record.value or b"" for record in records if record.key == place.name.encode()]


async def stored(place: Place) -> set[str]:
    """Digests of all bytes in the database, none of them in part or damaged."""
    files = await documents(place, "fs.files")
    pieces: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in await documents(place, "fs.chunks"):
        pieces[str(one["files_id"])].append(one)
    assert set(pieces) == {str(one["_id"]) for one in files}
    for digest, found in pieces.items():
        whole = b"".join(bytes(one["data"]) for one in sorted(found, key=lambda one: int(one["n"])))
        assert hashlib.sha256(whole).hexdigest() == digest
    return set(pieces)


async def documents(place: Place, collection: str) -> list[dict[str, Any]]:
    """As the driver has them, past the stores."""
    found: list[dict[str, Any]] = await place.database.handle[collection].find({}).to_list(None)
    return found


def bytes_of(manifest: ModelManifest) -> tuple[str, str]:
    return manifest.sha256, manifest.lineage.weights_sha256


@pytest.mark.timeout(600)
async def test_killed_at_every_state_of_a_run_its_version_is_published_once_and_no_bytes_are_left(place: Place) -> None:
    await place.rows(0, 90)
    run_id = await place.ask("killed")
    strikes = [*learning(place.folder(run_id)), *publishing(), *ending()]
    async with Turnstile.before(place.mongo_url) as (turnstile, url):
        for strike in strikes:
            await struck(place, turnstile, url, strike)
        turnstile.strike(None, lambda: None)
        with place.trainer(LEPTON_MONGO_URL=url):
            await looks_as_if_never_killed(place, run_id, strikes)
            # The same once more and undisturbed: what the kills left behind is the same model to the bit.
            whole = await place.ended(await place.ask("whole", promote=False), 240)
            assert whole.progress.state == SUCCEEDED, whole.progress.failure
            collected = await place.ended(await place.ask("collect", kind=COLLECT))
            assert collected.progress.metrics["files"] == 0
    first, second = (await place.models.state(place.name)).versions
    assert bytes_of(first.manifest) == bytes_of(second.manifest)


async def looks_as_if_never_killed(place: Place, run_id: str, strikes: list[Strike]) -> None:
    run = await place.ended(run_id)
    assert (run.progress.state, run.progress.version) == (SUCCEEDED, 1), (run.progress.failure, place.said())
    assert (await place.told(run_id))[-1].state == SUCCEEDED

    async def swept() -> bool:
        return not place.folder(run_id).exists()

    await apoll_until(swept, f"the run's folder to be removed; the trainer said: {place.said()}", 60)
    # One state of the model, and each who was killed before it knew that it had announced it said it again.
    said = await announcements(place)
    assert len(set(said)) == 1
    assert len(said) <= 1 + sum(strike.name == "announced" for strike in strikes)
    state = ModelState.FromString(said[0])
    verify_message(place.trust(), "trainer", state, state.changed_at.ToDatetime().astimezone())
    (version,) = state.versions
    verify_manifest(place.trust(), version, state.changed_at.ToDatetime().astimezone())
    assert (state.revision, state.champion, version.manifest.lineage.run_id) == (1, 1, run_id)
    (record,) = await documents(place, "models")
    assert (record["announcement"], record["pending"], record["last_version"]) == (said[0], False, 1)
    rows = {str(one["digest"]) for one in await documents(place, "segments")}
    assert await stored(place) == rows | {*bytes_of(version.manifest), version.manifest.card_sha256,
                                          version.model_signing_sha256}
