"""Topics, plain writers and readers without a group."""

import asyncio

import pytest

from lepton.bus.records import Broker, Outgoing, Place, Record, TopicPlan, partition_for
from lepton.errors import Invalid, Missing, Refused
from tests.contract.bus_suite.conftest import MakeTopic
from tests.harness.bus import read_all, take


async def test_a_topic_is_created_once_and_described(broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic(partitions=3, max_message_bytes="2000000")
    assert await broker.create_topics([TopicPlan(name, 3, {})]) == []
    described = await broker.describe_topics([name, "suite-no-such-topic"])
    assert set(described) == {name}
    assert described[name].partitions == 3
    assert described[name].config["max.message.bytes"] == "2000000"
    assert name in await broker.list_topics()
    await broker.ping()


async def test_a_topic_with_other_partitions_is_refused(broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic(partitions=2)
    with pytest.raises(Refused, match="2 partitions, not 4"):
        await broker.create_topics([TopicPlan(name, 4, {})])


async def test_a_plan_the_cluster_cannot_follow_is_invalid(broker: Broker) -> None:
    with pytest.raises(Invalid, match="cannot be created"):
        await broker.create_topics([TopicPlan("suite-impossible", 0, {})])


async def test_a_deleted_topic_is_gone(broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic()
    await broker.delete_topics([name])
    assert await broker.describe_topics([name]) == {}
    await broker.delete_topics([name])


async def test_records_of_a_key_stay_in_order_in_the_partition_of_their_key(
        broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic(partitions=4)
    writer = broker.writer("suite")
    await writer.start()
    sent = [Outgoing(name, b"%d" % number, b"key-%d" % (number % 7)) for number in range(500)]
    places = await writer.send_all(sent)
    await writer.stop()
    assert [record.value for record in places] == [record.value for record in sent]
    found = await read_all(broker, name)
    assert len(found) == 500
    for key in {record.key for record in found}:
        assert key is not None
        mine = [record for record in found if record.key == key]
        assert {record.partition for record in mine} == {partition_for(key, 4)}
        numbers = [int(record.value or b"") for record in mine]
        assert numbers == sorted(numbers)
    assert {(record.partition, record.offset, record.value) for record in found} == \
        {(record.partition, record.offset, record.value) for record in places}


async def test_value_key_headers_and_partition_arrive_as_sent(broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic(partitions=3)
    writer = broker.writer("suite")
    await writer.start()
    headers = (("traceparent", b"00-1"), ("empty", b""), ("twice", b"1"), ("twice", b"2"))
    place = await writer.send(Outgoing(name, b"\x00\xff", None, headers, partition=2))
    await writer.send(Outgoing(name, None, b"gone", partition=2))
    await writer.flush()
    await writer.stop()
    first, second = await read_all(broker, name)
    assert place.place == f"{name}/2@0" == first.place
    assert (first.value, first.key, first.headers) == (b"\x00\xff", None, headers)
    assert first.timestamp_ms > 1_700_000_000_000
    assert (second.value, second.key) == (None, b"gone")


@pytest.mark.parametrize(("record", "error"), [
    (Outgoing("suite-no-such-topic", b"x"), Missing),
    (Outgoing("TOPIC", b"x", partition=9), Invalid),
    (Outgoing("TOPIC", None), Invalid),
    (Outgoing("TOPIC", b"x" * 200_000), Invalid),
])
async def test_a_record_that_fits_nowhere_is_told_apart(
        broker: Broker, make_topic: MakeTopic, record: Outgoing, error: type[Exception]) -> None:
    name = await make_topic(max_message_bytes="100000")
    writer = broker.writer("suite")
    await writer.start()
    with pytest.raises(error):
        await writer.send(Outgoing(name if record.topic == "TOPIC" else record.topic, record.value,
                                   partition=record.partition))
    assert (await writer.send(Outgoing(name, b"still works"))).offset == 0
    await writer.stop()


async def test_a_record_of_several_megabytes_passes_where_its_topic_allows(
        broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic(max_message_bytes=str(16 * 1024 * 1024))
    writer = broker.writer("suite")
    await writer.start()
    await writer.send_all([Outgoing(name, bytes([number]) * 6_000_000) for number in range(3)])
    await writer.stop()
    assert [(record.value or b"")[0] for record in await read_all(broker, name)] == [0, 1, 2]


async def test_a_reader_without_a_group_holds_everything_and_seeks_pauses_resumes(
        broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic(partitions=2)
    writer = broker.writer("suite")
    await writer.start()
    await writer.send_all([Outgoing(name, b"%d" % number, partition=number % 2) for number in range(20)])
    reader = broker.reader([name], group=None, client_id="suite")
    await reader.start()
    places = [Place(name, 0), Place(name, 1)]
    assert reader.assignment() == set(places)
    assert await reader.begin_offsets(places) == dict.fromkeys(places, 0)
    assert await reader.end_offsets(places) == dict.fromkeys(places, 10)
    await take(reader, 20)
    assert [reader.position(place) for place in places] == [10, 10]
    await reader.seek(places[0], 8)
    assert [record.offset for record in await take(reader, 2)] == [8, 9]
    reader.pause(places[0])
    await reader.seek(places[0], 0)
    await reader.seek(places[1], 9)
    assert {record.partition for record in await take(reader, 1)} == {1}
    assert await reader.poll(max_records=10, timeout_s=0.3) == {}
    reader.resume(places[0])
    assert [record.offset for record in await take(reader, 10)] == list(range(10))
    await reader.stop()
    await writer.stop()


async def test_a_poll_gives_no_more_than_asked_for(broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic()
    writer = broker.writer("suite")
    await writer.start()
    await writer.send_all([Outgoing(name, b"%d" % number) for number in range(10)])
    reader = broker.reader([name], group=None, client_id="suite")
    await reader.start()
    seen: list[int] = []
    while len(seen) < 10:
        found = await reader.poll(max_records=3, timeout_s=1.0)
        assert sum(len(records) for records in found.values()) <= 3
        seen.extend(record.offset for records in found.values() for record in records)
    assert seen == list(range(10))
    await reader.stop()
    await writer.stop()


async def test_partitions_left_out_of_a_poll_come_with_a_later_one(broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic(partitions=2)
    writer = broker.writer("suite")
    await writer.start()
    await writer.send_all([Outgoing(name, b"%d" % number, partition=number % 2) for number in range(20)])
    reader = broker.reader([name], group=None, client_id="suite")
    await reader.start()
    left, other = Place(name, 0), Place(name, 1)
    seen: list[int] = []
    while len(seen) < 10:
        found = await reader.poll(max_records=4, timeout_s=1.0, without={left})
        assert set(found) <= {other}
        seen.extend(record.offset for record in found.get(other, ()))
    assert seen == list(range(10))
    assert await reader.poll(max_records=4, timeout_s=0.05, without={left, other}) == {}
    assert [(record.partition, record.offset) for record in await take(reader, 10)] == [(0, at) for at in range(10)]
    await reader.stop()
    await writer.stop()


@pytest.mark.parametrize("left_out", [(), (0,), (0, 1)])
async def test_a_poll_that_waits_ends_as_soon_as_it_is_told(
        broker: Broker, make_topic: MakeTopic, left_out: tuple[int, ...]) -> None:
    name = await make_topic(partitions=2)
    writer = broker.writer("suite")
    await writer.start()
    reader = broker.reader([name], group=None, client_id="suite")
    await reader.start()
    told = asyncio.Event()
    without = [Place(name, number) for number in left_out]
    waiting = asyncio.ensure_future(reader.poll(max_records=10, timeout_s=3600, without=without, until=told))
    await asyncio.sleep(0)
    told.set()
    async with asyncio.timeout(30):
        assert await waiting == {}
    # What comes later is not lost by it.
    await writer.send(Outgoing(name, b"late", partition=1))
    assert [record.value for record in await take(reader, 1)] == [b"late"]
    await reader.stop()
    await writer.stop()


async def test_what_comes_while_a_partition_is_left_out_comes_all_at_once(
        broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic(partitions=2)
    writer = broker.writer("suite")
    await writer.start()
    await writer.send(Outgoing(name, b"first", partition=0))
    reader = broker.reader([name], group=None, client_id="suite")
    await reader.start()
    await take(reader, 1)
    place = Place(name, 0)
    for number in range(5):
        await writer.send(Outgoing(name, b"%d" % number, partition=0))
        assert await reader.poll(max_records=10, timeout_s=0.02, without={place}) == {}
    found = await reader.poll(max_records=10, timeout_s=5.0)
    # Not only the first of them, fetched ahead as soon as it was there.
    assert [record.value for record in found[place]] == [b"%d" % number for number in range(5)]
    await reader.stop()
    await writer.stop()


async def test_a_reader_of_an_absent_topic_says_which(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton.bus.aio.client.TOPICS_WITHIN_S", 0.5)
    with pytest.raises(Missing, match="suite-no-such-topic"):
        await broker.reader(["suite-no-such-topic"], group=None, client_id="suite").start()


async def test_a_reader_knows_how_much_waits_for_it(broker: Broker, make_topic: MakeTopic) -> None:
    name = await make_topic(partitions=1)
    writer = broker.writer("suite")
    await writer.start()
    await writer.send_all([Outgoing(name, b"%d" % number) for number in range(20)])
    await writer.stop()
    reader = broker.reader([name], group=None, client_id="suite")
    await reader.start()
    place = Place(name, 0)
    assert reader.behind(Place(name, 7)) == 0
    found: list[Record] = []
    while not found:
        found += (await reader.poll(max_records=5, timeout_s=0.2)).get(place, [])
    assert reader.behind(place) == 20 - len(found)
    await take(reader, 20 - len(found))
    assert reader.behind(place) == 0
    await reader.stop()
    assert reader.behind(place) == 0
