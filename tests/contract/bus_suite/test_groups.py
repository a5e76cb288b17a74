"""Members of a group: shares, rebalances, offsets."""

from collections.abc import Sequence

import pytest

from lepton.bus.records import Broker, Outgoing, Place
from lepton.errors import Unavailable
from tests.contract.bus_suite.conftest import MakeTopic
from tests.harness.bus import holding, take
from tests.harness.wait import apoll_until


async def write(broker: Broker, topic: str, count: int, partitions: int) -> None:
    writer = broker.writer("suite")
    await writer.start()
    await writer.send_all([Outgoing(topic, b"%d" % number, partition=number % partitions) for number in range(count)])
    await writer.stop()


async def test_a_group_resumes_where_it_committed(broker: Broker, make_topic: MakeTopic, group: str) -> None:
    name = await make_topic()
    await write(broker, name, 10, 1)
    first = broker.reader([name], group=group, client_id="one")
    await first.start()
    await take(first, 10)
    await first.commit({Place(name, 0): 4})
    assert await first.committed([Place(name, 0)]) == {Place(name, 0): 4}
    await first.stop()
    assert await broker.group_offsets(group) == {Place(name, 0): 4}
    second = broker.reader([name], group=group, client_id="two")
    await second.start()
    assert [record.offset for record in await take(second, 6)] == [4, 5, 6, 7, 8, 9]
    await second.stop()


async def test_without_commit_records_come_again(broker: Broker, make_topic: MakeTopic, group: str) -> None:
    name = await make_topic()
    await write(broker, name, 3, 1)
    for client_id in ("one", "two"):
        reader = broker.reader([name], group=group, client_id=client_id)
        await reader.start()
        assert [record.offset for record in await take(reader, 3)] == [0, 1, 2]
        assert await reader.committed([Place(name, 0)]) == {}
        await reader.stop()


async def test_a_new_group_may_begin_at_the_end(broker: Broker, make_topic: MakeTopic, group: str) -> None:
    name = await make_topic()
    await write(broker, name, 3, 1)
    reader = broker.reader([name], group=group, client_id="one", start="latest")
    await reader.start()
    await holding(reader, 1)

    async def at_the_end() -> bool:
        await reader.poll(max_records=1, timeout_s=0.05)
        return reader.position(Place(name, 0)) == 3

    await apoll_until(at_the_end, "the end of the topic")
    await write(broker, name, 1, 1)
    assert [record.offset for record in await take(reader, 1)] == [3]
    await reader.stop()


async def test_a_reader_that_is_no_member_shares_with_nobody_and_keeps_offsets_in_the_groups_name(
        broker: Broker, make_topic: MakeTopic, group: str) -> None:
    name = await make_topic(partitions=2)
    await write(broker, name, 6, 2)
    places = [Place(name, 0), Place(name, 1)]
    first = broker.reader([name], group=group, client_id="one", member=False)
    second = broker.reader([name], group=group, client_id="two", member=False)
    await first.start()
    await second.start()
    assert first.assignment() == second.assignment() == set(places)
    assert await first.committed(places) == {}
    # Both have read before anything is committed: where a reader begins is settled by its first poll.
    assert len(await take(first, 6)) == len(await take(second, 6)) == 6
    await first.commit({places[0]: 2})
    assert await second.committed(places) == {places[0]: 2}
    await first.stop()
    await second.stop()
    assert await broker.group_offsets(group) == {places[0]: 2}


async def test_members_share_the_partitions_and_take_over_what_a_leaver_held(
        broker: Broker, make_topic: MakeTopic, group: str) -> None:
    name = await make_topic(partitions=4)
    told: list[tuple[str, int]] = []

    async def assigned(places: Sequence[Place]) -> None:
        told.append(("assigned", len(places)))

    async def revoked(places: Sequence[Place]) -> None:
        told.append(("revoked", len(places)))

    one = broker.reader([name], group=group, client_id="one", on_assigned=assigned, on_revoked=revoked)
    two = broker.reader([name], group=group, client_id="two")
    await one.start()
    await holding(one, 4)
    await two.start()
    await holding(two, 2)
    await holding(one, 2)
    assert not one.assignment() & two.assignment()
    assert told == [("assigned", 4), ("revoked", 4), ("assigned", 2)]
    await write(broker, name, 8, 4)
    assert {record.partition for record in await take(one, 4)} == {place.partition for place in one.assignment()}
    assert {record.partition for record in await take(two, 4)} == {place.partition for place in two.assignment()}
    await two.stop()
    await holding(one, 4)
    await one.stop()


async def test_a_member_of_the_same_name_takes_over_at_once(
        broker: Broker, make_topic: MakeTopic, group: str) -> None:
    name = await make_topic(partitions=2)
    before = broker.reader([name], group=group, client_id="one")
    await before.start()
    await holding(before, 2)
    after = broker.reader([name], group=group, client_id="one")
    await after.start()
    await holding(after, 2)
    with pytest.raises(Unavailable):
        await before.commit({Place(name, 0): 1})
    await after.stop()
    await before.stop()


async def test_a_member_that_lost_its_partitions_cannot_commit(
        broker: Broker, make_topic: MakeTopic, group: str) -> None:
    name = await make_topic(partitions=1)
    await write(broker, name, 3, 1)
    late = broker.reader([name], group=group, client_id="z-late")
    await late.start()
    await take(late, 3)
    early = broker.reader([name], group=group, client_id="a-early")
    await early.start()
    readers = {"late": late, "early": early}

    async def settled() -> bool:
        for reader in readers.values():
            await reader.poll(max_records=1, timeout_s=0.05)
        return sum(len(reader.assignment()) for reader in readers.values()) == 1

    await apoll_until(settled, "one owner")
    loser = next(reader for reader in readers.values() if not reader.assignment())
    with pytest.raises(Unavailable):
        await loser.commit({Place(name, 0): 3})
    assert await broker.group_offsets(group) == {}
    await early.stop()
    await late.stop()


async def test_a_pause_outlives_a_rebalance(broker: Broker, make_topic: MakeTopic, group: str) -> None:
    name = await make_topic(partitions=2)
    one = broker.reader([name], group=group, client_id="one")
    await one.start()
    await holding(one, 2)
    two = broker.reader([name], group=group, client_id="two")
    kept = Place(name, 0)
    one.pause(kept)
    await two.start()
    await holding(one, 1)
    await holding(two, 1)
    owner = one if kept in one.assignment() else two
    await two.stop()
    await holding(one, 2)
    await write(broker, name, 2, 2)
    expected = {1} if owner is one else {0, 1}
    assert {record.partition for record in await take(one, len(expected))} == expected
    one.resume(kept)
    await one.stop()


async def test_rejoining_gives_the_same_partitions_back(broker: Broker, make_topic: MakeTopic, group: str) -> None:
    name = await make_topic(partitions=2)
    await write(broker, name, 4, 2)
    reader = broker.reader([name], group=group, client_id="one")
    await reader.start()
    await take(reader, 4)
    await reader.commit({Place(name, 0): 2})
    await reader.rejoin()
    found = await take(reader, 2)
    assert [(record.partition, record.offset) for record in found] == [(1, 0), (1, 1)]
    await reader.stop()
