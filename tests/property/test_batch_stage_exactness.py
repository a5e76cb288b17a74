"""Whatever fails at whichever batch, each numbered record counts exactly once and state agrees with output."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum

from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.bus.care import Care
from lepton.bus.consumer import Subscription
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Place, Record, TopicPlan, TransactionalWriter
from lepton.bus.stage import BatchStage
from lepton.errors import Unavailable
from tests.harness.bus import Summing, read_all
from tests.harness.wait import apoll_until

PARTITIONS = 3
RECORDS = 120


class Fault(Enum):
    """What happens to a batch."""

    NONE = "nothing"
    HANDLER_WAITS = "the handler says Unavailable"
    HANDLER_CRASHES = "the process ends inside the handler"
    ABORTED = "the commit fails and nothing was written"
    UNKNOWN = "the commit succeeds and its answer is lost"
    CRASH_AFTER = "the process ends just after its commit"
    FENCED = "another holder starts with the same id before the commit"


class Crash(Exception):
    """The process is gone."""


class Hurried:
    """A clock on which every pause is over when one looks again."""

    def __init__(self) -> None:
        self._monotonic = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        self._monotonic += 100.0
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Faulty(MemoryBroker):
    """The broker in memory, with the faults of a schedule at commits."""

    def __init__(self, schedule: list[Fault]) -> None:
        super().__init__()
        self.schedule = schedule
        self.faults: dict[int, Fault] = {}
        self.happened: list[Fault] = []

    def draw(self, partition: int) -> Fault:
        """Fault of the next batch; batches after the schedule have none."""
        fault = self.schedule.pop(0) if self.schedule else Fault.NONE
        self.faults[partition] = fault
        self.happened.append(fault)
        return fault

    def transactional_writer(self, transactional_id: str) -> TransactionalWriter:
        return _FaultyWriter(self, transactional_id, super().transactional_writer(transactional_id))


class _FaultyWriter:
    def __init__(self, broker: Faulty, transactional_id: str, inner: TransactionalWriter) -> None:
        self._broker = broker
        self._id = transactional_id
        self._inner = inner

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self) -> None:
        await self._inner.stop()

    async def commit(self, records: Sequence[Outgoing], offsets: Mapping[Place, int], group: str) -> list[Record]:
        fault = self._broker.faults.pop(int(self._id.rpartition(".")[2]), Fault.NONE)
        if fault is Fault.ABORTED:
            await self._inner.stop()
            raise Unavailable("aborted")
        if fault is Fault.FENCED:
            self._broker.fence(self._id)
        placed = await self._inner.commit(records, offsets, group)
        if fault is Fault.UNKNOWN:
            await self._inner.stop()
            raise Unavailable("no answer")
        if fault is Fault.CRASH_AFTER:
            raise Crash
        return placed


class _FaultyHandler(Summing):
    def __init__(self, broker: Faulty) -> None:
        super().__init__("out", "state")
        self._broker = broker

    async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
        results = await super().handle(place, records)
        fault = self._broker.draw(place.partition)
        if fault is Fault.HANDLER_WAITS:
            raise Unavailable("not now")
        if fault is Fault.HANDLER_CRASHES:
            raise Crash
        return results


async def _play(schedule: list[Fault], max_records: int) -> list[Fault]:
    broker = Faulty(list(schedule))
    await broker.create_topics([TopicPlan("in", PARTITIONS, {}), TopicPlan("out", PARTITIONS, {}),
                                TopicPlan("state", PARTITIONS, {})])
    writer = broker.writer("test")
    await writer.send_all([Outgoing("in", b"%d" % number, partition=number % PARTITIONS) for number in range(RECORDS)])
    stop = asyncio.Event()

    async def processes() -> None:
        """One process after another: each that crashes is replaced."""
        while not stop.is_set():
            stage = BatchStage(broker, Subscription(["in"], "group", "one"), _FaultyHandler(broker), Care(Hurried()),
                               writer_prefix="stage", max_records=max_records)
            try:
                await stage.run(stop)
            except Crash:
                continue

    running = asyncio.ensure_future(processes())

    async def done() -> bool:
        return running.done() or sum((await broker.group_offsets("group")).values()) >= RECORDS

    await apoll_until(done, "all records committed", 20, every_s=0.0)
    stop.set()
    await running
    await _check(broker)
    return broker.happened


async def _check(broker: MemoryBroker) -> None:
    outputs = await read_all(broker, "out")
    assert sorted(int(record.value or b"") for record in outputs) == list(range(RECORDS))
    latest = {record.partition: record.value for record in await read_all(broker, "state")}
    for partition in range(PARTITIONS):
        mine = [int(record.value or b"") for record in outputs if record.partition == partition]
        assert mine == list(range(partition, RECORDS, PARTITIONS))
        assert latest[partition] == b"%d %d" % (sum(mine), len(mine))


@settings(max_examples=60, deadline=None)
@given(schedule=st.lists(st.sampled_from(Fault), max_size=25), max_records=st.integers(1, 60))
def test_each_record_counts_once_whatever_fails(schedule: list[Fault], max_records: int) -> None:
    asyncio.run(_play(schedule, max_records))


def test_every_fault_one_after_another() -> None:
    happened = asyncio.run(_play([fault for fault in Fault for _ in range(3)], 4))
    assert {fault: happened.count(fault) >= 3 for fault in Fault} == dict.fromkeys(Fault, True)
