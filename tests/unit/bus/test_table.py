"""Tables without a bus, and the broker in memory where it must refuse."""

import asyncio

import pytest

from lepton.bus.care import Care
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Place, Record, TopicPlan
from lepton.bus.table import Table
from lepton.clock import FakeClock
from lepton.errors import Invalid, Missing, Unavailable
from lepton.runtime.health import Health
from tests.harness.wait import apoll_until


async def test_a_table_keeps_what_it_knows_while_the_bus_is_away(clock: FakeClock) -> None:
    broker = MemoryBroker(clock)
    await broker.create_topics([TopicPlan("table", 1, {})])
    await broker.writer("test").send_all([Outgoing("table", b"1", b"a"), Outgoing("table", b"no key")])
    health = Health(clock)
    refused: list[Record] = []
    table = Table(broker, "table", lambda record: record.value, client_id="test",
                  care=Care(clock, health.check("table", 5.0)), on_invalid=lambda record, _: refused.append(record))
    await table.start()
    assert [record.value for record in refused] == [b"no key"]
    away = True
    real = table._reader.poll

    async def poll(*, max_records: int, timeout_s: float) -> object:
        if away:
            raise Unavailable("no broker")
        return await real(max_records=max_records, timeout_s=timeout_s)

    table._reader.poll = poll  # type: ignore[method-assign,assignment]
    stop = asyncio.Event()
    task = asyncio.ensure_future(table.run(stop))
    for _ in range(6):
        await clock.advance(1)
    assert table.values == {"a": b"1"}
    assert "no progress" in str(health.failing())
    away = False
    await broker.writer("test").send(Outgoing("table", b"2", b"a"))
    await clock.advance(1)

    async def followed() -> bool:
        return table.values == {"a": b"2"}

    await apoll_until(followed, "the table to follow")
    assert not health.failing()
    stop.set()
    await task
    await table.stop()


async def test_memory_refuses_what_kafka_would(clock: FakeClock) -> None:
    broker = MemoryBroker(clock)
    await broker.create_topics([TopicPlan("in", 1, {})])
    with pytest.raises(Missing):
        await broker.reader(["absent"], group="g", client_id="one").start()
    alone = broker.reader(["in"], group=None, client_id="one")
    await alone.start()
    with pytest.raises(Invalid, match="without a group"):
        await alone.commit({Place("in", 0): 1})
    with pytest.raises(Invalid, match="without a group"):
        await alone.committed([Place("in", 0)])
    await alone.rejoin()
    assert alone.assignment() == {Place("in", 0)}
    await alone.stop()
    assert await broker.group_offsets("never heard of") == {}
    await broker.ping()
    await broker.close()
