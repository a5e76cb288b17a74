"""The registry: versions never change, a state is signed and numbered, an old fence writes nothing."""

import asyncio

import pytest

from lepton.clock import FakeClock
from lepton.contracts.pb.models_pb2 import Lineage, ModelManifest, ModelState, ModelVersion, VersionStatus
from lepton.errors import Missing, Refused
from lepton.store.documents import DocumentDatabase
from lepton.store.models import Models


def sign(state: ModelState) -> None:
    state.key_id = "trainer-1"
    state.signature = f"{state.model}/{state.revision}/{state.champion}".encode()


def version(number: int, status: VersionStatus.ValueType = VersionStatus.VERSION_STATUS_READY,
            parent: int = 0) -> ModelVersion:
    manifest = ModelManifest(model="m", version=number, lineage=Lineage(parent_version=parent))
    return ModelVersion(model="m", version=number, status=status, manifest=manifest, signature=b"sig%d" % number)


@pytest.fixture
def models(database: DocumentDatabase, clock: FakeClock) -> Models:
    return Models(database, clock, sign, keep=3)


async def test_a_promoted_version_becomes_champion_of_a_signed_state(models: Models) -> None:
    state = await models.publish("m", version(1), promote=True, fence=1)
    assert (state.revision, state.champion, state.previous_champion, state.reason) == (1, 1, 0, "published")
    assert (state.key_id, state.signature) == ("trainer-1", b"m/1/1")
    assert await models.state("m") == state
    assert await models.list() == [state]
    assert await models.next_version("m") == 2


async def test_a_version_without_promotion_leaves_the_champion(models: Models) -> None:
    await models.publish("m", version(1), promote=True, fence=1)
    state = await models.publish("m", version(2), promote=False, fence=2)
    assert (state.champion, [kept.version for kept in state.versions]) == (1, [1, 2])


async def test_publishing_a_version_again_has_no_second_effect(models: Models) -> None:
    first = await models.publish("m", version(1), promote=True, fence=1)
    assert await models.publish("m", version(1), promote=True, fence=1) == first


async def test_a_number_that_is_taken_or_skips_is_refused(models: Models) -> None:
    await models.publish("m", version(1), promote=True, fence=1)
    other = version(1)
    other.signature = b"another run's"
    for wrong in (other, version(3)):
        with pytest.raises(Refused, match="next version of m is 2"):
            await models.publish("m", wrong, promote=True, fence=2)


async def test_an_old_fence_is_refused(models: Models) -> None:
    await models.publish("m", version(1), promote=True, fence=7)
    with pytest.raises(Refused, match="fence 6"):
        await models.publish("m", version(2), promote=True, fence=6)
    assert (await models.state("m")).revision == 1


async def test_a_rejected_version_is_kept_and_never_promoted(models: Models) -> None:
    await models.publish("m", version(1), promote=True, fence=1)
    rejected = version(2, VersionStatus.VERSION_STATUS_REJECTED)
    with pytest.raises(Refused):
        await models.publish("m", rejected, promote=True, fence=2)
    state = await models.publish("m", rejected, promote=False, fence=2)
    assert (state.champion, state.reason) == (1, "rejected")
    with pytest.raises(Refused, match="gate"):
        await models.promote("m", 2)


async def test_rolling_back_answers_with_the_version_before_once(models: Models) -> None:
    await models.publish("m", version(1), promote=True, fence=1)
    await models.publish("m", version(2), promote=True, fence=2)
    state = await models.roll_back("m", 2)
    assert (state.champion, state.previous_champion, state.reason, state.revision) == (1, 0, "rolled_back", 3)
    assert state.versions[1].status == VersionStatus.VERSION_STATUS_ROLLED_BACK
    assert await models.roll_back("m", 2) == state


async def test_a_roll_back_with_nothing_before_or_from_another_version_is_refused(models: Models) -> None:
    with pytest.raises(Missing):
        await models.roll_back("m", 1)
    await models.publish("m", version(1), promote=True, fence=1)
    with pytest.raises(Refused, match="no version before"):
        await models.roll_back("m", 1)
    await models.publish("m", version(2), promote=True, fence=2)
    with pytest.raises(Refused, match="not the champion"):
        await models.roll_back("m", 1)


async def test_a_person_may_promote_a_rolled_back_version_again(models: Models) -> None:
    await models.publish("m", version(1), promote=True, fence=1)
    await models.publish("m", version(2), promote=True, fence=2)
    await models.roll_back("m", 2)
    state = await models.promote("m", 2)
    assert (state.champion, state.previous_champion, state.reason) == (2, 1, "promoted")
    assert state.versions[1].status == VersionStatus.VERSION_STATUS_READY
    assert await models.promote("m", 2) == state
    with pytest.raises(Missing):
        await models.promote("m", 9)


async def test_the_newest_versions_and_those_in_use_are_kept(models: Models) -> None:
    await models.publish("m", version(1), promote=True, fence=1)
    await models.publish("m", version(2, parent=1), promote=True, fence=1)
    for number in range(3, 8):
        await models.publish("m", version(number), promote=False, fence=1)
    state = await models.state("m")
    assert [kept.version for kept in state.versions] == [1, 2, 5, 6, 7]
    await models.promote("m", 7)
    state = await models.publish("m", version(8), promote=False, fence=1)
    assert [kept.version for kept in state.versions] == [2, 6, 7, 8]
    assert await models.next_version("m") == 9


async def test_changes_at_once_are_all_kept_under_growing_revisions(models: Models) -> None:
    await models.publish("m", version(1), promote=True, fence=1)
    await models.publish("m", version(2), promote=False, fence=1)
    await asyncio.gather(models.promote("m", 2), models.publish("m", version(3), promote=False, fence=1))
    state = await models.state("m")
    assert (state.revision, state.champion, len(state.versions)) == (4, 2, 3)


async def test_of_two_versions_of_one_run_one_is_published(models: Models) -> None:
    first, second = version(1), version(2)
    first.manifest.lineage.run_id = second.manifest.lineage.run_id = "run-1"
    await models.publish("m", first, promote=True, fence=1)
    state = await models.publish("m", second, promote=True, fence=2)
    assert [kept.version for kept in state.versions] == [1]
