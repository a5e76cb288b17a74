"""The batch stage: every record counts once, whatever fails between reading and committing."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer

from lepton.bus.care import Care
from lepton.bus.consumer import Subscription
from lepton.bus.letters.refusing import DeadLetters, LineStopped
from lepton.bus.records import Broker, Outgoing, Place, Record
from lepton.bus.stage import BatchStage
from lepton.clock import SystemClock
from lepton.contracts.topics import dead_letter_name
from lepton.errors import Invalid, Unavailable
from lepton.runtime.health import Health
from tests.contract.bus_suite.conftest import MakeTopic
from tests.harness.bus import Summing, read_all, running
from tests.harness.wait import apoll_until


class World:
    """Topics, a group and stages over them."""

    def __init__(self, broker: Broker, group: str, names: tuple[str, str, str]) -> None:
        self.broker = broker
        self.group = group
        self.source, self.output, self.state = names
        self.health = Health(SystemClock())
        self.written = 0

    def stage(self, handler: Summing, client_id: str = "one", max_records: int = 16_000) -> BatchStage:
        care = Care(SystemClock(), self.health.check(client_id, 10.0))
        return BatchStage(self.broker, Subscription([self.source], self.group, client_id), handler, care,
                          writer_prefix=self.group, max_records=max_records)

    def handler(self) -> Summing:
        return Summing(self.output, self.state)

    async def write(self, count: int) -> None:
        writer = self.broker.writer("suite")
        await writer.start()
        await writer.send_all([Outgoing(self.source, b"%d" % number, partition=number % 2)
                               for number in range(self.written, self.written + count)])
        await writer.stop()
        self.written += count

    async def outputs(self) -> list[int]:
        return [int(record.value or b"") for record in await read_all(self.broker, self.output)]

    async def wait_for(self, count: int) -> None:
        """Until the group's offsets stand behind `count` records."""
        async def done() -> bool:
            return sum((await self.broker.group_offsets(self.group)).values()) >= count

        await apoll_until(done, f"{count} records committed", 60)

    async def check(self) -> None:
        """Each record once in the output, in order, and the state agrees."""
        outputs = await self.outputs()
        assert sorted(outputs) == list(range(self.written))
        for partition in (0, 1):
            mine = [number for number in outputs if number % 2 == partition]
            assert mine == sorted(mine)
        latest = {record.partition: record.value for record in await read_all(self.broker, self.state)}
        sums = {partition: [number for number in outputs if number % 2 == partition] for partition in latest}
        assert latest == {partition: b"%d %d" % (sum(mine), len(mine)) for partition, mine in sums.items()}


@pytest.fixture
async def world(broker: Broker, make_topic: MakeTopic, group: str) -> World:
    return World(broker, group, (await make_topic("in", 2), await make_topic("out", 2, max_message_bytes="1000000"),
                                 await make_topic("state", 2, cleanup_policy="compact")))


async def test_every_record_counts_once_and_state_follows(world: World) -> None:
    await world.write(1000)
    handler = world.handler()
    async with running(world.stage(handler, max_records=100).run):
        await world.wait_for(1000)
    await world.check()
    assert handler.calls["committed"] >= 10
    assert handler.kept == {}, "released at the end"


async def test_a_stage_that_comes_back_goes_on_with_the_state_it_left(world: World) -> None:
    for _ in range(3):
        await world.write(100)
        handler = world.handler()
        async with running(world.stage(handler).run):
            await world.wait_for(world.written)
        assert handler.calls["restore"] == 2
    await world.check()


async def test_a_batch_that_cannot_be_handled_now_is_tried_again_in_order(world: World) -> None:
    await world.write(200)
    handler = _Failing(world.output, world.state, failures=3)
    async with running(world.stage(handler, max_records=20).run):
        await world.wait_for(200)
    await world.check()
    assert handler.calls["aborted"] == 3


class _Failing(Summing):
    """Cannot handle its first `failures` batches."""

    def __init__(self, output: str, state: str, failures: int) -> None:
        super().__init__(output, state)
        self.failures = failures

    async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
        results = await super().handle(place, records)
        if self.failures:
            self.failures -= 1
            raise Unavailable("the world is away")
        return results


async def test_a_failure_that_is_a_bug_ends_the_stage_and_commits_nothing(world: World) -> None:
    await world.write(2)

    class Broken(Summing):
        async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await world.stage(Broken(world.output, world.state)).run(asyncio.Event())
    assert await world.outputs() == []
    assert await world.broker.group_offsets(world.group) == {}


async def test_a_second_process_shares_the_work_and_nothing_counts_twice(world: World) -> None:
    await world.write(500)
    first, second = world.stage(world.handler(), "one", max_records=50), world.stage(world.handler(), "two")
    async with running(first.run):
        await world.wait_for(100)
        async with running(second.run):
            async def shared() -> bool:
                return len(first.places) == len(second.places) == 1

            await apoll_until(shared, "one partition each")
            await world.write(500)
            await world.wait_for(1000)

        async def alone() -> bool:
            return len(first.places) == 2

        await apoll_until(alone, "both partitions back")
        await world.write(200)
        await world.wait_for(1200)
    await world.check()


async def test_an_owner_that_was_fenced_asks_the_group_and_goes_on(world: World) -> None:
    await world.write(100)
    stage = world.stage(world.handler())
    async with running(stage.run):
        await world.wait_for(100)
        thief = world.broker.transactional_writer(f"{world.group}.0")
        await thief.start()
        await world.write(100)
        await world.wait_for(200)
        await thief.stop()
    await world.check()


async def test_past_the_dead_letter_limit_the_stage_stands_still_and_says_why(
        world: World, make_topic: MakeTopic) -> None:
    letters = await make_topic(name=dead_letter_name(world.source))
    dead = DeadLetters("suite", SystemClock(), limit=lambda _: 5)
    told: list[LineStopped] = []

    class Refusing(Summing):
        async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
            results = await super().handle(place, records)
            if place.partition == 1:
                return results
            return [dead.letter(record, Invalid("unreadable", field="x")) for record in records]

    async def on_limit(error: LineStopped) -> None:
        told.append(error)

    stage = BatchStage(world.broker, Subscription([world.source], world.group, "one"),
                       Refusing(world.output, world.state), Care(SystemClock(), world.health.check("stage", 10.0)),
                       writer_prefix=world.group, on_limit=on_limit)
    async with running(stage.run):
        await world.write(10)
        await world.wait_for(10)
        assert len(await read_all(world.broker, letters)) == 5
        await world.write(10)

        async def stopped() -> bool:
            return stage.stopped_by is not None and not stage.places

        await apoll_until(stopped, "the line to stop")
        await world.write(10)
        offsets = await world.broker.group_offsets(world.group)
    assert await world.broker.group_offsets(world.group) == offsets
    assert offsets[Place(world.source, 0)] == 5, "nothing of the refused batch is committed"
    assert len(await read_all(world.broker, letters)) == 5
    assert len(told) == 1
    assert "more than 5 records" in str(world.health.failing())


async def test_a_stage_that_stopped_goes_on_from_what_was_committed_when_it_is_resumed(
        world: World, make_topic: MakeTopic) -> None:
    letters = await make_topic(name=dead_letter_name(world.source))
    dead = DeadLetters("suite", SystemClock(), limit=lambda _: 5)

    class Picky(Summing):
        async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
            results = await super().handle(place, records)
            return [*results, *(dead.letter(record, Invalid("unreadable")) for record in records
                                if place.partition == 0 and record.offset % 2)]

    stage = BatchStage(world.broker, Subscription([world.source], world.group, "one"),
                       Picky(world.output, world.state), Care(SystemClock(), world.health.check("stage", 10.0)),
                       writer_prefix=world.group)
    async with running(stage.run):
        await world.write(60)

        async def stopped() -> bool:
            return stage.stopped_by is not None

        await apoll_until(stopped, "the line to stop")
        await world.write(60)
        dead.lift(world.source)
        assert stage.resume()
        await world.wait_for(120)
        assert not stage.resume()
    await world.check()
    refused = [dict(record.headers)["lepton-dead-place"] for record in await read_all(world.broker, letters)]
    assert len(set(refused)) == len(refused) == 30


async def test_progress_is_shown_while_records_flow_and_while_none_wait(world: World) -> None:
    clock = SystemClock()
    progress = world.health.check("stage", 2.0)
    started = clock.monotonic()
    stage = BatchStage(world.broker, Subscription([world.source], world.group, "one"), world.handler(),
                       Care(clock, progress), writer_prefix=world.group)
    async with running(stage.run):
        async def long_idle() -> bool:
            assert progress.failure() is None
            return clock.monotonic() - started > 4.0

        await apoll_until(long_idle, "four quiet seconds")


async def test_results_no_topic_takes_stop_the_line(world: World) -> None:
    await world.write(2)

    class TooMuch(Summing):
        async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
            return [*await super().handle(place, records), Outgoing(self.output, b"x" * 2_000_000)]

    stage = world.stage(TooMuch(world.output, world.state))
    async with running(stage.run):
        async def stopped() -> bool:
            return stage.stopped_by is not None

        await apoll_until(stopped, "the line to stop")
    assert isinstance(stage.stopped_by, Invalid)
    assert await world.outputs() == []


@pytest.mark.kafka
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
async def test_a_state_behind_the_open_transaction_of_another_writer_is_waited_for(
        world: World, kafka_bootstrap: str) -> None:
    """What was committed behind one that is open cannot be read, though the group's offsets count it."""
    frozen = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=f"frozen-{world.group}",
                              transaction_timeout_ms=300_000)
    await frozen.start()
    try:
        await world.write(100)
        async with running(world.stage(world.handler()).run):
            await world.wait_for(100)
            await frozen.begin_transaction()
            await frozen.send_and_wait(world.state, b"never", b"cursor", partition=0)
            await world.write(100)
            await world.wait_for(200)
        await world.write(100)
        handler = world.handler()
        stage = world.stage(handler, "two")
        async with running(stage.run):
            async def other_done() -> bool:
                offsets = await world.broker.group_offsets(world.group)
                return offsets[Place(world.source, 1)] == 150 and handler.calls["restore"] > 1

            await apoll_until(other_done, "the partition beside it to go on", 60)
            assert stage.places == {Place(world.source, 1)}
            await frozen.abort_transaction()
            await world.wait_for(300)
    finally:
        await frozen.stop()
    await world.check()
