"""Tables: a compacted topic as a dictionary."""

import pytest

from lepton.bus.care import Care
from lepton.bus.records import Broker, Outgoing, Record
from lepton.bus.table import Table
from lepton.clock import SystemClock
from lepton.errors import Invalid
from lepton.runtime.health import Health
from tests.contract.bus_suite.conftest import MakeTopic
from tests.harness.bus import running
from tests.harness.wait import apoll_until


async def write(broker: Broker, topic: str, *pairs: tuple[str, bytes | None]) -> None:
    writer = broker.writer("suite")
    await writer.start()
    await writer.send_all([Outgoing(topic, value, key.encode()) for key, value in pairs])
    await writer.stop()


def number(record: Record) -> int:
    try:
        return int(record.value or b"")
    except ValueError as error:
        raise Invalid("not a number", place=record.place) from error


@pytest.fixture
async def topic(make_topic: MakeTopic) -> str:
    return await make_topic("table", 3, cleanup_policy="compact")


async def test_a_table_holds_the_last_value_of_each_key_when_it_has_started(broker: Broker, topic: str) -> None:
    await write(broker, topic, ("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"4"), ("b", None))
    table = Table(broker, topic, number, client_id="table", care=Care(SystemClock()))
    assert not table.loaded
    await table.start()
    assert table.loaded
    assert table.values == {"a": 3, "c": 4}
    await table.stop()


async def test_a_table_tells_what_it_loaded_and_then_every_change(broker: Broker, topic: str) -> None:
    await write(broker, topic, ("a", b"1"))
    told: list[tuple[str, int | None]] = []

    async def changed(key: str, value: int | None) -> None:
        told.append((key, value))

    progress = Health(SystemClock()).check("table", 3.0)
    table = Table(broker, topic, number, client_id="table", care=Care(SystemClock(), progress), on_change=changed)
    await table.start()
    assert told == []
    async with running(table.run):
        await write(broker, topic, ("a", b"2"), ("a", None), ("a", None), ("a", b"3"))

        async def all_told() -> bool:
            return len(told) == 4

        await apoll_until(all_told, "four changes")
        assert progress.failure() is None
    assert told == [("a", 1), ("a", 2), ("a", None), ("a", 3)]
    assert table.values == {"a": 3}
    await table.stop()


async def test_a_record_that_cannot_be_read_is_reported_and_keeps_the_value_before(broker: Broker, topic: str) -> None:
    await write(broker, topic, ("a", b"1"), ("a", b"one"), ("b", b"two"))
    refused: list[bytes | None] = []
    table = Table(broker, topic, number, client_id="table", care=Care(SystemClock()),
                  on_invalid=lambda record, error: refused.append(record.value))
    await table.start()
    await table.stop()
    assert table.values == {"a": 1}
    assert sorted(value or b"" for value in refused) == [b"one", b"two"]


async def test_an_empty_topic_is_loaded_at_once(broker: Broker, topic: str) -> None:
    table = Table(broker, topic, number, client_id="table", care=Care(SystemClock()))
    await table.start()
    assert table.loaded
    assert table.values == {}
    await table.stop()
