"""Transactions: all or nothing, offsets with their results, and one owner at a time."""

import pytest

from lepton.bus.records import Broker, Outgoing, Place
from lepton.errors import Invalid, Missing, Refused, Unavailable
from tests.contract.bus_suite.conftest import MakeTopic
from tests.harness.bus import committed, read_all


async def test_results_and_offsets_are_committed_together(
        broker: Broker, make_topic: MakeTopic, group: str) -> None:
    source, results, state = await make_topic("in"), await make_topic("out", 2), await make_topic("state")
    writer = broker.transactional_writer(f"tx-{group}")
    await writer.start()
    for batch in range(3):
        placed = await writer.commit(
            [Outgoing(results, b"%d" % batch, b"k", partition=1), Outgoing(state, b"s%d" % batch, b"0")],
            {Place(source, 0): 10 * (batch + 1)}, group)
        assert [record.topic for record in placed] == [results, state]
    await writer.stop()
    assert [(record.partition, record.value) for record in await read_all(broker, results)] == \
        [(1, b"0"), (1, b"1"), (1, b"2")]
    assert [record.value for record in await read_all(broker, state)] == [b"s0", b"s1", b"s2"]
    await committed(broker, group, {Place(source, 0): 30})


async def test_offsets_alone_can_be_committed(broker: Broker, make_topic: MakeTopic, group: str) -> None:
    source = await make_topic()
    writer = broker.transactional_writer(f"tx-{group}")
    await writer.start()
    await writer.commit([], {Place(source, 0): 7}, group)
    await writer.stop()
    await committed(broker, group, {Place(source, 0): 7})


@pytest.mark.parametrize("broken", ["too large", "no such topic", "no such partition"])
async def test_a_transaction_that_fails_leaves_nothing(
        broker: Broker, make_topic: MakeTopic, group: str, broken: str) -> None:
    source, results = await make_topic("in"), await make_topic("out", max_message_bytes="100000")
    other = await make_topic("other")
    bad = {"too large": Outgoing(results, b"x" * 200_000), "no such topic": Outgoing("suite-no-such-topic", b"x"),
           "no such partition": Outgoing(results, b"x", partition=5)}[broken]
    writer = broker.transactional_writer(f"tx-{group}")
    await writer.start()
    await writer.commit([Outgoing(other, b"before")], {Place(source, 0): 1}, group)
    with pytest.raises((Invalid, Missing)):
        await writer.commit([Outgoing(other, b"never"), bad], {Place(source, 0): 2}, group)
    with pytest.raises(Unavailable, match="start it"):
        await writer.commit([Outgoing(other, b"closed")], {Place(source, 0): 3}, group)
    await committed(broker, group, {Place(source, 0): 1})
    await writer.start()
    await writer.commit([Outgoing(other, b"after")], {Place(source, 0): 4}, group)
    await writer.stop()
    assert [record.value for record in await read_all(broker, other)] == [b"before", b"after"]
    await committed(broker, group, {Place(source, 0): 4})


async def test_a_newer_holder_fences_the_older(broker: Broker, make_topic: MakeTopic, group: str) -> None:
    source, results = await make_topic("in"), await make_topic("out")
    older = broker.transactional_writer(f"tx-{group}")
    await older.start()
    await older.commit([Outgoing(results, b"old")], {Place(source, 0): 1}, group)
    newer = broker.transactional_writer(f"tx-{group}")
    await newer.start()
    with pytest.raises(Refused, match="newer holder"):
        await older.commit([Outgoing(results, b"zombie")], {Place(source, 0): 9}, group)
    await newer.commit([Outgoing(results, b"new")], {Place(source, 0): 2}, group)
    assert [record.value for record in await read_all(broker, results)] == [b"old", b"new"]
    await committed(broker, group, {Place(source, 0): 2})
    await newer.stop()
    await older.stop()


async def test_writers_of_different_ids_do_not_fence_each_other(
        broker: Broker, make_topic: MakeTopic, group: str) -> None:
    results = await make_topic("out", 2)
    writers = [broker.transactional_writer(f"tx-{group}.{number}") for number in range(2)]
    for writer in writers:
        await writer.start()
    for number, writer in enumerate(writers):
        await writer.commit([Outgoing(results, b"%d" % number, partition=number)], {}, group)
        await writer.stop()
    assert [record.value for record in await read_all(broker, results)] == [b"0", b"1"]


async def test_a_transaction_larger_than_a_batch_keeps_its_order(
        broker: Broker, make_topic: MakeTopic, group: str) -> None:
    results = await make_topic("out", 2)
    writer = broker.transactional_writer(f"tx-{group}")
    await writer.start()
    placed = await writer.commit([Outgoing(results, b"%06d" % number * 50, partition=number % 2)
                                  for number in range(8000)], {}, group)
    await writer.stop()
    found = await read_all(broker, results)
    assert [(record.partition, record.offset) for record in found] == \
        sorted((record.partition, record.offset) for record in placed)
    for partition in (0, 1):
        numbers = [int((record.value or b"")[:6]) for record in found if record.partition == partition]
        assert numbers == list(range(partition, 8000, 2))
