"""Pipelines, keys, incidents, leases, and the relay that announces what changed."""

import asyncio
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from lepton.clock import FakeClock
from lepton.contracts.pb.incidents_pb2 import Incident, IncidentState
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.errors import Invalid, Missing, Refused, Unavailable
from lepton.store.announce import Announcement, Relay
from lepton.store.documents import DocumentDatabase
from lepton.store.incidents import Incidents, Lease
from lepton.store.keys import Keys
from lepton.store.pipelines import Pipelines, SourceBoard
from lepton.store.runs import MAX_SKEW_S
from tests.harness.wait import apoll_until


async def test_applying_a_pipeline_makes_versions_and_the_same_again_makes_none(
        database: DocumentDatabase, clock: FakeClock) -> None:
    pipelines = Pipelines(database, clock)
    first = await pipelines.apply("p", "{}", "d1", 1, 4, "key")
    assert (first.version, first.spec_json, first.applied_by) == (1, "{}", "key")
    assert await pipelines.apply("p", "{}", "d1", 1, 4, "other") == first
    second = await pipelines.apply("p", "{2}", "d2", 1, 4, "key")
    assert second.version == 2
    assert await pipelines.get("p") == second
    assert await pipelines.list() == [second]


async def test_partitions_and_generations_do_not_go_back(database: DocumentDatabase, clock: FakeClock) -> None:
    pipelines = Pipelines(database, clock)
    await pipelines.apply("p", "{}", "d1", 2, 4, "key")
    with pytest.raises(Refused, match="4 partitions"):
        await pipelines.apply("p", "{}", "d2", 2, 5, "key")
    with pytest.raises(Refused, match="generation 2"):
        await pipelines.apply("p", "{}", "d2", 1, 4, "key")
    assert (await pipelines.apply("p", "{}", "d2", 3, 5, "key")).version == 2


async def test_pipelines_applied_at_once_all_get_their_version(database: DocumentDatabase, clock: FakeClock) -> None:
    pipelines = Pipelines(database, clock)
    states = await asyncio.gather(*(pipelines.apply("p", "{}", f"d{i}", 1, 4, "key") for i in range(4)))
    assert sorted(state.version for state in states) == [1, 2, 3, 4]


async def test_a_deleted_pipeline_is_missing_and_may_come_back(database: DocumentDatabase, clock: FakeClock) -> None:
    pipelines = Pipelines(database, clock)
    await pipelines.apply("p", "{}", "d1", 1, 4, "key")
    deleted = await pipelines.delete("p")
    assert (deleted.deleted, deleted.version) == (True, 2)
    assert await pipelines.delete("p") == deleted
    assert await pipelines.list() == []
    with pytest.raises(Missing):
        await pipelines.get("p")
    with pytest.raises(Missing):
        await pipelines.delete("q")
    again = await pipelines.apply("p", "{}", "d1", 1, 4, "key")
    assert (again.deleted, again.version) == (False, 3)


async def test_of_many_gateways_one_makes_the_first_key(database: DocumentDatabase) -> None:
    keys = Keys(database)
    assert not await keys.any()
    made = await asyncio.gather(*(Keys(database).create_first({"key_id": f"k{i}", "hash": b"h"}) for i in range(8)))
    assert made.count(True) == 1
    (record,) = await keys.list()
    assert record == {"key_id": f"k{made.index(True)}", "hash": b"h"}
    assert await keys.create_first(record)
    assert await keys.any()


async def test_a_first_key_is_made_once_even_after_it_was_revoked(database: DocumentDatabase) -> None:
    keys = Keys(database)
    await keys.create_first({"key_id": "k1"})
    await keys.revoke("k1")
    assert not await keys.any()
    assert not await keys.create_first({"key_id": "k2"})


async def test_a_key_is_created_once_read_and_revoked(database: DocumentDatabase) -> None:
    keys = Keys(database)
    await keys.create({"key_id": "k1", "scopes": ["read"]})
    with pytest.raises(Refused):
        await keys.create({"key_id": "k1", "scopes": ["admin"]})
    await keys.revoke("k1")
    assert await keys.get("k1") == {"key_id": "k1", "scopes": ["read"], "revoked": True}
    for call in (keys.get("k2"), keys.revoke("k2")):
        with pytest.raises(Missing):
            await call


def incident(state: IncidentState.ValueType = IncidentState.INCIDENT_STATE_SUSPECTED, at_s: int = 1) -> Incident:
    return Incident(incident_id=uuid4().hex, state=state, symptom="silence", opened_at=Timestamp(seconds=at_s))


async def test_a_symptom_has_one_open_incident(database: DocumentDatabase) -> None:
    opened = await asyncio.gather(*(Incidents(database).open(incident(), "silence/x") for _ in range(8)))
    assert len({one.incident_id for one in opened}) == 1
    assert len(await Incidents(database).list()) == 1


async def test_a_verified_incident_frees_its_symptom(database: DocumentDatabase) -> None:
    incidents = Incidents(database)
    first = await incidents.open(incident(), "silence/x")
    assert (await incidents.open(first, "silence/x")) == first
    first.state = IncidentState.INCIDENT_STATE_VERIFIED
    assert (await incidents.advance(first)).revision == 2
    second = await incidents.open(incident(at_s=2), "silence/x")
    assert second.incident_id != first.incident_id
    assert [one.incident_id for one in await incidents.list()] == [second.incident_id, first.incident_id]
    assert await incidents.still_open() == [second]


async def test_an_incident_advances_only_from_the_revision_that_was_read(database: DocumentDatabase) -> None:
    incidents = Incidents(database)
    stored = await incidents.open(incident(), "silence/x")
    stored.state = IncidentState.INCIDENT_STATE_COMMANDED
    after = await incidents.advance(stored)
    assert await incidents.get(stored.incident_id) == after
    with pytest.raises(Refused, match="moved on"):
        await incidents.advance(stored)
    with pytest.raises(Missing):
        await incidents.advance(incident())


async def test_of_many_watchdogs_one_gets_the_lease(database: DocumentDatabase, clock: FakeClock) -> None:
    fences = await asyncio.gather(*(Lease(database, clock).acquire("act", f"w{i}", 5) for i in range(8)))
    assert len([fence for fence in fences if fence]) == 1


async def test_a_lease_ends_and_its_fence_grows(database: DocumentDatabase, clock: FakeClock) -> None:
    lease = Lease(database, clock)
    first = await lease.acquire("act", "w1", 5)
    assert first
    await clock.advance(4)
    assert await lease.renew("act", first, 5)
    await clock.advance(5 + MAX_SKEW_S - 0.01)
    assert await lease.acquire("act", "w2", 5) is None
    await clock.advance(0.02)
    second = await lease.acquire("act", "w2", 5)
    assert second and second > first
    assert not await lease.renew("act", first, 5)
    await lease.release("act", first)
    assert await lease.acquire("act", "w1", 5) is None


async def test_an_owner_takes_its_own_lease_at_once_and_a_released_one_is_free(
        database: DocumentDatabase, clock: FakeClock) -> None:
    lease = Lease(database, clock)
    first = await lease.acquire("act", "w1", 5)
    assert first and await lease.acquire("act", "w1", 5) == first + 1
    await lease.release("act", first + 1)
    assert await lease.acquire("act", "w2", 5) == first + 2


@pytest.mark.parametrize("back", [False, True])
async def test_a_lease_that_was_lost_or_came_back_from_a_backup_is_taken_with_a_higher_fence(
        database: DocumentDatabase, clock: FakeClock, back: bool) -> None:
    lease, leases = Lease(database, clock), database.collection("leases")
    before = await lease.acquire("act", "w1", 5)
    kept = await leases.get("act")
    assert before and kept is not None
    highest = before
    for _ in range(3):
        highest = await lease.acquire("act", "w1", 5) or 0
    await leases.delete({"_id": "act"})
    if back:
        await leases.insert(kept)
    await clock.advance(10 + MAX_SKEW_S)
    assert (await lease.acquire("act", "w2", 5) or 0) > highest


class Topic:
    """What was published, and a switch that lets the bus be away."""

    def __init__(self) -> None:
        self.seen: list[Announcement] = []
        self.away = False

    async def publish(self, announcement: Announcement) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("the broker is away")
        self.seen.append(announcement)


async def test_a_change_is_announced_once_with_its_latest_state(database: DocumentDatabase, clock: FakeClock) -> None:
    pipelines, topic = Pipelines(database, clock), Topic()
    relay = Relay([pipelines.announcing], topic.publish, clock)
    await pipelines.apply("p", "{}", "d1", 1, 4, "key")
    last = await pipelines.apply("p", "{}", "d2", 1, 4, "key")
    await pipelines.apply("q", "{}", "d1", 1, 4, "key")
    assert await relay.drain() == 2
    assert await relay.drain() == 0
    assert [(one.collection, one.key, one.revision) for one in topic.seen] == [("pipelines", "p", 2),
                                                                                ("pipelines", "q", 1)]
    assert PipelineState.FromString(topic.seen[0].value) == last


async def test_a_relay_killed_between_publishing_and_marking_publishes_again(
        database: DocumentDatabase, clock: FakeClock) -> None:
    pipelines, topic = Pipelines(database, clock), Topic()
    await pipelines.apply("p", "{}", "d1", 1, 4, "key")

    async def publish_and_die(announcement: Announcement) -> None:
        await topic.publish(announcement)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Relay([pipelines.announcing], publish_and_die, clock).drain()
    await Relay([pipelines.announcing], topic.publish, clock).drain()
    assert [one.revision for one in topic.seen] == [1, 1]


async def test_a_change_while_its_predecessor_is_published_is_announced_after_it(
        database: DocumentDatabase, clock: FakeClock) -> None:
    pipelines, topic = Pipelines(database, clock), Topic()
    await pipelines.apply("p", "{}", "d1", 1, 4, "key")

    async def publish_slowly(announcement: Announcement) -> None:
        if announcement.revision == 1:
            await pipelines.apply("p", "{}", "d2", 1, 4, "key")
        await topic.publish(announcement)

    relay = Relay([pipelines.announcing], publish_slowly, clock)
    await relay.drain()
    await relay.drain()
    assert [one.revision for one in topic.seen] == [1, 2]


async def test_what_the_bus_cannot_take_is_told_of_once_and_holds_no_other_back(
        database: DocumentDatabase, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    pipelines, topic = Pipelines(database, clock), Topic()
    await pipelines.apply("large", "{}", "d1", 1, 4, "key")
    await pipelines.apply("small", "{}", "d1", 1, 4, "key")

    async def publish(announcement: Announcement) -> None:
        if announcement.key == "large" and announcement.revision == 1:
            raise Invalid("larger than its topic allows")
        await topic.publish(announcement)

    relay = Relay([pipelines.announcing], publish, clock)
    assert [await relay.drain(), await relay.drain()] == [1, 0]
    assert caplog.text.count("pipelines large, revision 1, is not announced: larger than its topic allows") == 1
    await pipelines.apply("large", "{2}", "d2", 1, 4, "key")
    assert await relay.drain() == 1
    assert [(one.key, one.revision) for one in topic.seen] == [("small", 1), ("large", 2)]


async def test_a_running_relay_waits_for_the_bus_and_drains_at_the_stop(
        database: DocumentDatabase, clock: FakeClock) -> None:
    incidents, topic = Incidents(database), Topic()
    relay, stop = Relay([incidents.announcing], topic.publish, clock), asyncio.Event()
    topic.away = True
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(relay.run(stop))
        await incidents.open(incident(), "a")
        relay.kick()
        await clock.advance(0.5)
        assert topic.seen == []
        topic.away = False

        async def announced() -> bool:
            await clock.advance(0.5)
            return len(topic.seen) == 1

        await apoll_until(announced, "the announcement")
        await incidents.open(incident(), "b")
        stop.set()
        relay.kick()
    assert len(topic.seen) == 2


async def test_an_owner_that_was_replaced_says_nothing_more_of_a_source(database: DocumentDatabase) -> None:
    board = SourceBoard(database)
    assert await board.put("p", 1, "orders", 2, {"state": "pulling"})
    assert not await board.put("p", 1, "orders", 1, {"state": "failing"})
    assert await board.put("p", 1, "orders", 2, {"state": "following"})
    assert await board.put("p", 1, "orders", 3, {"state": "stopped"})
    assert await board.put("p", 2, "orders", 1, {"state": "starting"})
    assert {name: one["state"] for name, one in (await board.of("p", 1)).items()} == {"orders": "stopped"}
    assert await board.of("q", 1) == {}
