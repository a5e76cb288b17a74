"""A broker that is killed, stopped or frozen under running loops: they go on by themselves and nothing counts twice."""

import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from lepton.bus import kafka
from lepton.bus.care import Care
from lepton.bus.consumer import Consumer, Message, Subscription
from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.records import Broker, Outgoing, TopicPlan
from lepton.bus.stage import BatchStage
from lepton.bus.table import Table
from lepton.clock import SystemClock
from lepton.errors import Unavailable
from lepton.runtime.settings import BrokerOptions
from tests.harness.bus import Summing, read_all, running
from tests.harness.servers import Server, start_kafka
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.process]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start_kafka(tmp_path_factory.mktemp("kafka-of-its-own"))
    yield started
    started.stop()


@pytest.fixture
async def broker(server: Server) -> AsyncIterator[Broker]:
    opened = kafka.connect(BrokerOptions(bootstrap=server.address, client_id="outlives"))
    await opened.create_topics([TopicPlan("in", 2, {}), TopicPlan("out", 2, {}), TopicPlan("in-dead-letters", 1, {}),
                                TopicPlan("state", 2, {"cleanup.policy": "compact"}),
                                TopicPlan("table", 1, {"cleanup.policy": "compact"})])
    yield opened
    await opened.close()


async def write(broker: Broker, first: int, last: int) -> None:
    """Numbers from `first` to before `last`, once each: repeated only while the bus refused the whole batch."""
    writer = broker.writer("outlives")
    records = [Outgoing("in", b"%d" % number, partition=number % 2) for number in range(first, last)]

    async def written() -> bool:
        try:
            await writer.start()
            await writer.send_all(records)
        except Unavailable:
            return False
        return True

    await apoll_until(written, "the write", 60)
    await writer.stop()


def disturb(server: Server, how: str) -> None:
    if how == "killed":
        server.kill()
        server.restart()
    elif how == "stopped":
        server.stop()
        server.restart()


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_loops_go_on_after_the_broker_came_back(server: Server, broker: Broker, how: str) -> None:
    clock = SystemClock()
    stage = BatchStage(broker, Subscription(["in"], "stage", "one"), Summing("out", "state"), Care(clock),
                       writer_prefix="stage", max_records=100)
    seen: list[int] = []

    async def handle(message: Message) -> None:
        seen.append(int(message.record.value or b""))

    consumer = Consumer(broker, Subscription(["in"], "single", "one"), handle, Care(clock),
                        dead_letters=DeadLetters("outlives", clock, limit=lambda _: 10))
    table = Table(broker, "table", lambda record: record.value, client_id="table", care=Care(clock))
    await table.start()

    async def committed(count: int) -> bool:
        try:
            offsets = [await broker.group_offsets(group) for group in ("stage", "single")]
        except Unavailable:
            return False
        return all(sum(found.values()) >= count for found in offsets)

    async with running(stage.run, consumer.run, table.run):
        await write(broker, 0, 2000)
        await apoll_until(lambda: committed(500), "the loops to be at work")
        disturb(server, how)
        await write(broker, 2000, 4000)
        writer = broker.writer("outlives")
        await writer.start()
        await writer.send(Outgoing("table", b"after", b"key"))
        await writer.stop()
        await apoll_until(lambda: committed(4000), "everything committed", 90)

        async def followed() -> bool:
            return table.values == {"key": b"after"}

        await apoll_until(followed, "the table to follow")
    await table.stop()
    numbers = [int(record.value or b"") for record in await read_all(broker, "out")]
    assert sorted(numbers) == list(range(4000))
    for partition in (0, 1):
        mine = [number for number in numbers if number % 2 == partition]
        assert mine == sorted(mine)
    assert set(seen) == set(range(4000)), "at least once"
    latest = {record.partition: record.value for record in await read_all(broker, "state")}
    assert latest == {0: b"%d 2000" % sum(range(0, 4000, 2)), 1: b"%d 2000" % sum(range(1, 4000, 2))}


async def test_a_frozen_broker_is_waited_for(server: Server, broker: Broker) -> None:
    stage = BatchStage(broker, Subscription(["in"], "stage", "one"), Summing("out", "state"), Care(SystemClock()),
                       writer_prefix="stage", max_records=100)
    clock = SystemClock()

    async def committed(count: int) -> bool:
        return sum((await broker.group_offsets("stage")).values()) >= count

    async with running(stage.run):
        await write(broker, 0, 3000)
        await apoll_until(lambda: committed(500), "the stage to be at work")
        server.process.send_signal(signal.SIGSTOP)
        frozen_at = clock.monotonic()

        async def long_enough() -> bool:
            return clock.monotonic() - frozen_at > 8

        await apoll_until(long_enough, "eight seconds without a broker")
        server.process.send_signal(signal.SIGCONT)
        await apoll_until(lambda: committed(3000), "everything committed", 90)
    assert sorted(int(record.value or b"") for record in await read_all(broker, "out")) == list(range(3000))


async def test_an_absent_broker_is_told_with_its_address(server: Server, broker: Broker) -> None:
    server.stop()
    with pytest.raises(Unavailable, match=f"{server.address} refuses connections"):
        await kafka.connect(BrokerOptions(bootstrap=server.address, client_id="late")).ping()
    server.restart()
    await broker.ping()
