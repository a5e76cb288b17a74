"""What a Kafka reader does when the client underneath it dies, falls silent or is replaced."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest

from lepton.bus import kafka
from lepton.bus.aio.client import Subscription
from lepton.bus.aio.reader import KafkaReader
from lepton.bus.kafka import KafkaBroker
from lepton.bus.records import Outgoing, Place, TopicPlan
from lepton.clock import SystemClock
from lepton.errors import Unavailable
from lepton.runtime.settings import BrokerOptions
from tests.harness.bus import holding, take
from tests.harness.wait import apoll_until

pytestmark = pytest.mark.kafka


@pytest.fixture
async def broker(kafka_bootstrap: str) -> AsyncIterator[KafkaBroker]:
    opened = kafka.connect(BrokerOptions(bootstrap=kafka_bootstrap, client_id="reader"))
    yield opened
    await opened.close()


@pytest.fixture
async def topic(broker: KafkaBroker) -> AsyncIterator[str]:
    name = f"reader-{uuid.uuid4().hex[:8]}"
    await broker.create_topics([TopicPlan(name, 2, {})])
    yield name
    await broker.delete_topics([name])


async def write(broker: KafkaBroker, topic: str, count: int) -> None:
    writer = broker.writer("reader")
    await writer.start()
    await writer.send_all([Outgoing(topic, b"%d" % number, partition=number % 2) for number in range(count)])
    await writer.stop()


@pytest.mark.parametrize("group", [None, "group"])
async def test_a_reader_whose_client_died_goes_on_where_it_was(
        broker: KafkaBroker, topic: str, group: str | None) -> None:
    await write(broker, topic, 10)
    reader = broker.reader([topic], group=group and f"{group}-{topic}", client_id="one")
    assert isinstance(reader, KafkaReader)
    await reader.start()
    await take(reader, 10)
    if group:
        await reader.commit({Place(topic, 0): 5, Place(topic, 1): 5})
    reader.pause(Place(topic, 1))
    assert reader._consumer is not None
    await reader._consumer.stop()
    await write(broker, topic, 4)
    assert [(record.partition, record.offset) for record in await take(reader, 2)] == [(0, 5), (0, 6)]
    reader.resume(Place(topic, 1))
    assert [(record.partition, record.offset) for record in await take(reader, 2)] == [(1, 5), (1, 6)]
    await reader.stop()


async def test_a_client_that_fell_silent_with_records_waiting_is_replaced(
        broker: KafkaBroker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton.bus.aio.reader.QUIET_S", 0.2)
    reader = broker.reader([topic], group=f"silent-{topic}", client_id="one")
    assert isinstance(reader, KafkaReader)
    await reader.start()
    await holding(reader, 2)
    silent = reader._consumer
    assert silent is not None
    silent.pause(*silent.assignment())
    await write(broker, topic, 4)
    assert len(await take(reader, 4)) == 4
    assert reader._consumer is not silent
    await reader.stop()


@pytest.mark.parametrize("fault", ["ended", "forgotten"])
@pytest.mark.parametrize("group", [None, "group"])
async def test_a_client_that_refreshes_its_metadata_no_more_is_replaced(
        broker: KafkaBroker, topic: str, group: str | None, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await write(broker, topic, 4)
    reader = broker.reader([topic], group=group and f"{group}-{topic}", client_id="one")
    assert isinstance(reader, KafkaReader)
    await reader.start()
    await take(reader, 4)
    stuck = reader._consumer
    assert stuck is not None
    if fault == "ended":
        stuck._client._sync_task.cancel()
        # As a broken connection would have it do: from here on everything that asks where a partition is waits.
        stuck._client.force_metadata_update()
    else:
        monkeypatch.setattr("lepton.bus.aio.client.REFRESH_WITHIN_S", 0.2)
        stuck._client._md_update_fut = asyncio.get_running_loop().create_future()

    async def replaced() -> bool:
        await reader.poll(max_records=1, timeout_s=0.05)
        return reader._consumer is not stuck and len(reader.assignment()) == 2

    await apoll_until(replaced, "another client", 30)
    assert await reader.end_offsets([Place(topic, 0)]) == {Place(topic, 0): 2}
    await reader.stop()


async def test_a_quiet_topic_does_not_replace_the_client(
        broker: KafkaBroker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton.bus.aio.reader.QUIET_S", 0.05)
    reader = broker.reader([topic], group=f"quiet-{topic}", client_id="one")
    assert isinstance(reader, KafkaReader)
    await reader.start()
    await holding(reader, 2)
    before = reader._consumer
    for _ in range(8):
        assert await reader.poll(max_records=10, timeout_s=0.1) == {}
    assert reader._consumer is before
    await reader.stop()


async def test_what_a_callback_raises_reaches_the_poller(broker: KafkaBroker, topic: str) -> None:
    async def assigned(places: Sequence[Place]) -> None:
        raise ZeroDivisionError

    reader = broker.reader([topic], group=f"callback-{topic}", client_id="one", on_assigned=assigned)
    await reader.start()
    with pytest.raises(ZeroDivisionError):
        await holding(reader, 3)
    await reader.stop()


async def test_past_its_patience_a_reader_says_that_the_bus_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton.bus.aio.reader.PATIENCE_S", 0.5)
    connection = {"bootstrap_servers": "127.0.0.1:1", "client_id": "x", "security_protocol": "PLAINTEXT",
                  "ssl_context": None, "sasl_mechanism": "PLAIN", "sasl_plain_username": None,
                  "sasl_plain_password": None}
    reader = KafkaReader(connection, Subscription(("away",), None, "x"), SystemClock())
    assert await reader.poll(max_records=1, timeout_s=0.1) == {}
    with pytest.raises(Unavailable, match="nothing listens there"):
        for _ in range(5):
            await reader.poll(max_records=1, timeout_s=0.1)
    with pytest.raises(Unavailable, match="not connected"):
        await reader.commit({})
    assert reader.position(Place("away", 0)) == -1
    await reader.stop()
