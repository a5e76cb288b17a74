"""Transactions of three round trips: what is asked of the broker, what a lost answer does, and who fences whom."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import errors
from aiokafka.client import AIOKafkaClient

from lepton.bus import kafka
from lepton.bus.aio import transaction
from lepton.bus.records import Broker, Outgoing, Place
from lepton.errors import Refused
from lepton.runtime.settings import BrokerOptions
from tests.contract.bus_suite.conftest import MakeTopic
from tests.harness.bus import committed, read_all

pytestmark = pytest.mark.kafka

WRITE, NOTE, END = "ProduceRequest", "OffsetsRequest", "EndRequest"


@pytest_asyncio.fixture
async def broker(kafka_bootstrap: str) -> AsyncIterator[Broker]:
    opened = kafka.connect(BrokerOptions(bootstrap=kafka_bootstrap, client_id="bus-suite"))
    yield opened
    await opened.close()


class Asked:
    """Counts what is asked of the brokers, and loses the first answer to some of it after it has been worked on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        self.lose: set[str] = set()
        send = AIOKafkaClient.send

        async def sent(client: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
            answer = await send(client, node, request, **options)
            name = type(request).__name__
            self.counts[name] += 1
            if name in self.lose:
                self.lose.remove(name)
                raise errors.RequestTimedOutError
            return answer

        monkeypatch.setattr(AIOKafkaClient, "send", sent)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


async def test_a_transaction_is_a_write_the_offsets_and_its_end(
        broker: Broker, make_topic: MakeTopic, group: str, asked: Asked) -> None:
    source, results, state = await make_topic("in"), await make_topic("out", 2), await make_topic("state")
    writer = broker.transactional_writer(f"tx-{group}")
    await writer.start()
    records = [Outgoing(results, b"a", partition=0), Outgoing(results, b"b", partition=1), Outgoing(state, b"s")]
    await writer.commit(records, {Place(source, 0): 1}, group)
    asked.counts.clear()
    await writer.commit(records, {Place(source, 0): 2}, group)
    # The broker may be busy with the end of the one before.
    assert set(asked.counts) - {"MetadataRequest"} == {WRITE, NOTE, END}
    assert (asked.counts[NOTE], asked.counts[END]) == (1, 1)
    await writer.stop()


@pytest.mark.parametrize("lost", [{WRITE}, {NOTE}, {END}, {WRITE, NOTE, END}], ids=lambda lost: " ".join(sorted(lost)))
async def test_a_transaction_whose_answers_are_lost_counts_once(
        broker: Broker, make_topic: MakeTopic, group: str, asked: Asked, lost: set[str]) -> None:
    source, results = await make_topic("in"), await make_topic("out", 2)
    writer = broker.transactional_writer(f"tx-{group}")
    await writer.start()
    for number in range(3):
        asked.lose = set(lost)
        placed = await writer.commit([Outgoing(results, b"%d" % number, partition=partition) for partition in (0, 1)],
                                     {Place(source, 0): number + 1}, group)
        assert not asked.lose
        assert [record.partition for record in placed] == [0, 1]
    await writer.stop()
    found = await read_all(broker, results)
    assert [(record.partition, record.value) for record in found] == \
        [(partition, b"%d" % number) for partition in (0, 1) for number in range(3)]
    await committed(broker, group, {Place(source, 0): 3})


@pytest.mark.parametrize("first", ["short", "long"])
async def test_short_and_long_transactions_fence_each_other(
        broker: Broker, make_topic: MakeTopic, group: str, asked: Asked, first: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    source, results = await make_topic("in"), await make_topic("out")
    older, newer = (broker.transactional_writer(f"tx-{group}") for _ in range(2))
    for writer, kind in ((older, first), (newer, "long" if first == "short" else "short")):
        # A cluster that has not agreed upon them yet.
        monkeypatch.setattr(transaction, "_LEVEL", 2 if kind == "short" else 99)
        await writer.start()
        asked.counts.clear()
        await writer.commit([Outgoing(results, kind.encode())], {Place(source, 0): 1}, group)
        assert ("AddPartitionsToTxnRequest" in asked.counts) == (kind == "long")
        assert (END in asked.counts) == (kind == "short")
    with pytest.raises(Refused, match="newer holder"):
        await older.commit([Outgoing(results, b"zombie")], {Place(source, 0): 9}, group)
    await newer.commit([Outgoing(results, b"last")], {Place(source, 0): 2}, group)
    await newer.stop()
    await older.stop()
    expected = [b"short", b"long"] if first == "short" else [b"long", b"short"]
    assert [record.value for record in await read_all(broker, results)] == [*expected, b"last"]
    await committed(broker, group, {Place(source, 0): 2})
