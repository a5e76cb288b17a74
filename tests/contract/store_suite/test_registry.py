"""Who was champion when and why; tags, retired versions, and garbage that is nobody's."""

import asyncio
from datetime import timedelta

import pytest

from lepton.clock import FakeClock
from lepton.contracts.pb.models_pb2 import Lineage, ModelManifest, ModelState, ModelVersion, VersionStatus
from lepton.contracts.pb.training_pb2 import TRAINING_KIND_FINE_TUNE, RunState, TrainingCommand
from lepton.errors import Invalid, Missing, Refused
from lepton.store.artifacts import Artifacts, sha256_hex
from lepton.store.documents import DocumentDatabase
from lepton.store.models import Models
from lepton.store.registry.garbage import MODEL_FILES, Garbage
from lepton.store.registry.states import MAX_TAGS, Why
from lepton.store.runs import Runs


def sign(state: ModelState) -> None:
    state.key_id, state.signature = "trainer-1", b"signed"


def version(number: int, digest: str = "", weights: str = "", parent: int = 0) -> ModelVersion:
    lineage = Lineage(parent_version=parent, weights_sha256=weights)
    manifest = ModelManifest(model="m", version=number, sha256=digest, lineage=lineage)
    return ModelVersion(model="m", version=number, status=VersionStatus.VERSION_STATUS_READY, manifest=manifest,
                        signature=b"sig%d" % number)


@pytest.fixture
def models(database: DocumentDatabase, clock: FakeClock) -> Models:
    return Models(database, clock, sign, keep=2)


async def three(models: Models, clock: FakeClock) -> None:
    for number in (1, 2, 3):
        await clock.advance(60)
        await models.publish("m", version(number, digest=f"{number}" * 64), promote=True, fence=1,
                             why=Why(f"run-{number}", "accuracy 0.9"))


async def test_the_history_says_who_answered_when_and_why(models: Models, clock: FakeClock) -> None:
    begun = clock.now()
    await three(models, clock)
    await clock.advance(60)
    await models.roll_back("m", 3, why=Why("watchdog", "errors doubled"))
    await clock.advance(60)
    state = await models.promote("m", 3, why=Why("lk_1", "the errors were elsewhere"))
    told = [(one.version, one.reason, one.by, one.note) for one in state.champions]
    assert told == [(1, "published", "run-1", "accuracy 0.9"), (2, "published", "run-2", "accuracy 0.9"),
                    (3, "published", "run-3", "accuracy 0.9"), (2, "rolled_back", "watchdog", "errors doubled"),
                    (3, "promoted", "lk_1", "the errors were elsewhere")]
    assert [one.sha256[:1] for one in state.champions] == ["1", "2", "3", "2", "3"]
    for before, after in zip(state.champions, state.champions[1:], strict=False):
        assert before.until == after.since
    assert state.champions[0].since.ToDatetime(begun.tzinfo) == begun + timedelta(seconds=60)
    assert not state.champions[-1].HasField("until")


async def test_a_promotion_that_changes_nothing_adds_no_term(models: Models, clock: FakeClock) -> None:
    await three(models, clock)
    before = await models.state("m")
    assert await models.promote("m", 3) == before


async def test_tags_are_set_changed_and_taken_away(models: Models, clock: FakeClock) -> None:
    await three(models, clock)
    await models.tag("m", 2, {"stage": "canary", "owner": "risk"})
    state = await models.tag("m", 2, {"stage": "stable", "owner": ""})
    assert dict(state.versions[-2].tags) == {"stage": "stable"}
    assert await models.tag("m", 2, {"stage": "stable"}) == state
    with pytest.raises(Missing):
        await models.tag("m", 9, {"stage": "x"})
    for wrong in ({"Stage": "x"}, {"": "x"}, {"a" * 41: "x"}, {"stage": "x" * 201},
                  {f"tag{number}": "x" for number in range(MAX_TAGS)}):
        with pytest.raises(Invalid):
            await models.tag("m", 2, wrong)


async def test_a_tagged_version_is_not_forgotten(models: Models, clock: FakeClock) -> None:
    await three(models, clock)
    await models.tag("m", 2, {"release": "2026-01"})
    for number in range(4, 9):
        await models.publish("m", version(number), promote=True, fence=1)
    assert [one.version for one in (await models.state("m")).versions] == [2, 7, 8]


async def test_a_version_a_run_waits_for_is_not_forgotten(models: Models, clock: FakeClock) -> None:
    await three(models, clock)
    for number in range(4, 9):
        await models.publish("m", version(number), promote=True, fence=1, also={2})
    assert [one.version for one in (await models.state("m")).versions] == [2, 7, 8]


async def test_a_retired_version_is_never_promoted_and_then_forgotten(models: Models, clock: FakeClock) -> None:
    await three(models, clock)
    with pytest.raises(Refused, match="is the champion"):
        await models.retire("m", 3)
    state = await models.retire("m", 2)
    assert (state.reason, state.previous_champion) == ("retired", 0)
    assert await models.retire("m", 2) == state
    with pytest.raises(Refused, match="is retired"):
        await models.promote("m", 2)
    with pytest.raises(Refused, match="no version before"):
        await models.roll_back("m", 3)
    assert 2 in [one.version for one in (await models.forget_retired("m", also={2})).versions]
    state = await models.forget_retired("m")
    assert 2 not in [one.version for one in state.versions]
    assert [one.version for one in state.champions] == [1, 2, 3]
    assert await models.next_version("m") == 4


async def test_garbage_is_what_nothing_names(database: DocumentDatabase, clock: FakeClock, models: Models) -> None:
    artifacts, runs = Artifacts(database), Runs(database, clock)
    garbage = Garbage(models.list, runs, artifacts)
    digests = {name: await artifacts.put(name.encode(), MODEL_FILES)
               for name in ("file", "weights", "noted", "asked", "orphan", "champion's")}
    rows = await artifacts.put(b"rows of ingest")
    await models.publish("m", version(1, digests["file"], digests["weights"]), promote=False, fence=1)
    await runs.enqueue(TrainingCommand(command_id="c1", model="m", kind=TRAINING_KIND_FINE_TUNE, parent_version=1,
                                       artifact_sha256=digests["asked"]))
    claimed = await runs.claim("trainer", 60)
    assert claimed is not None
    await runs.note(claimed.run_id, claimed.fence, [digests["noted"]])
    assert await garbage.waited_for("m") == {1}
    assert {one.digest for one in await garbage.remove()} == {digests["orphan"], digests["champion's"]}
    with pytest.raises(Missing):
        await artifacts.get(digests["orphan"])
    assert await artifacts.get(rows) == b"rows of ingest"
    await runs.finish(claimed.run_id, claimed.fence, RunState.RUN_STATE_FAILED)
    assert await garbage.waited_for("m") == set()
    assert {one.digest for one in await garbage.remove()} == {digests["noted"], digests["asked"]}
    assert {one.digest for one in await artifacts.of_kind(MODEL_FILES)} == {digests["file"], digests["weights"]}


async def test_bytes_put_again_since_they_were_listed_stay(database: DocumentDatabase) -> None:
    artifacts = Artifacts(database)
    data = b"m" * 700_000
    digest = await artifacts.put(data, MODEL_FILES)
    (listed,) = await artifacts.of_kind(MODEL_FILES)
    await artifacts.put(data, MODEL_FILES)
    assert not await artifacts.remove(listed)
    assert await artifacts.get(digest) == data


@pytest.mark.parametrize("kind", [MODEL_FILES, ""])
async def test_bytes_put_while_they_are_removed_are_whole_afterwards(database: DocumentDatabase, kind: str) -> None:
    artifacts = Artifacts(database)
    data = b"w" * 600_000
    await artifacts.put(data, MODEL_FILES)
    (listed,) = await artifacts.of_kind(MODEL_FILES)
    await asyncio.gather(artifacts.remove(listed), artifacts.put(data, kind))
    assert await artifacts.get(sha256_hex(data)) == data


async def test_bytes_of_two_kinds_are_nobody_s_to_remove(database: DocumentDatabase) -> None:
    artifacts = Artifacts(database)
    await artifacts.put(b"the same", MODEL_FILES)
    await artifacts.put(b"the same", "")
    assert await artifacts.of_kind(MODEL_FILES) == []
