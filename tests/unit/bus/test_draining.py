"""A process is drained by command: what it has ends, it is never the last that serves, and it serves again in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lepton.bus.care import Care
from lepton.bus.commands.draining import Draining
from lepton.bus.commands.log import CommandLog, Course, Duties
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Reader, Record, TopicPlan
from lepton.clock import SystemClock
from lepton.contracts import codec, topics
from lepton.contracts.admission import Admission
from lepton.contracts.pb import recovery_pb2, telemetry_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.pb.telemetry_pb2 import Instance
from lepton.contracts.signing import Identity, TrustedKey, TrustStore, sign_message
from lepton.contracts.topics import Topic
from lepton.errors import Busy, Invalid, Refused
from lepton.runtime.service import Service
from lepton.runtime.settings import LeptonSettings
from tests.harness.wait import apoll_until

DRAIN, RESTORE = recovery_pb2.RECOVERY_ACTION_DRAIN, recovery_pb2.RECOVERY_ACTION_RESTORE
READY, DRAINING = telemetry_pb2.INSTANCE_STATE_READY, telemetry_pb2.INSTANCE_STATE_DRAINING


class Ahead(SystemClock):
    """What a clock shows, set forward by a test."""

    def __init__(self) -> None:
        self.by = timedelta()

    def now(self) -> datetime:
        return super().now() + self.by

    def monotonic(self) -> float:
        return super().monotonic() + self.by.total_seconds()


class Process:
    """One that says on the bus how it is; `requests` of it are under way."""

    def __init__(self, broker: MemoryBroker, name: str, service: str = "predictor",
                 clock: SystemClock | None = None) -> None:
        self.broker, self.name, self.requests = broker, name, 0
        self.service = Service(service, LeptonSettings(instance=name, heartbeat_interval_s=0.02), clock)
        self.service.health.enter(READY)
        self.draining = Draining(self.service, broker, lambda: self.requests)

    async def say(self, message: Instance | None) -> None:
        value = codec.encode(Topic.INSTANCES, message) if message is not None else None
        await self.broker.writer("test").send(Outgoing(topics.name(Topic.INSTANCES), value, self.name.encode()))

    async def drain(self, issued_s_ago: float = 0, **arguments: str) -> Course:
        verb = self.draining.duties().verbs[DRAIN]
        course = await verb("", ordered(DRAIN, self.name, issued_s_ago, **arguments), RECORD)
        assert not isinstance(course, str)
        return course

    async def let_go(self) -> str:
        told = await self.draining.duties().verbs[RESTORE]("", ordered(RESTORE, self.name), RECORD)
        assert isinstance(told, str)
        return told

    @property
    def drained(self) -> bool:
        return self.service.health.drained


RECORD = Record("lepton-recovery-commands", 0, 0, None, None, (), 0)


def ordered(action: "recovery_pb2.RecoveryAction.ValueType", instance: str, issued_s_ago: float = 0,
            **arguments: str) -> RecoveryCommand:
    one = RecoveryCommand(command_id=f"c-{instance}", action=action, target=f"instance:{instance}", issuer="watchdog",
                          arguments=arguments, fence=1)
    issued = datetime.now(UTC) - timedelta(seconds=issued_s_ago)
    one.issued_at.FromDatetime(issued)
    one.expires_at.FromDatetime(issued + timedelta(minutes=10))
    return one


@asynccontextmanager
async def processes(*named: tuple[str, str], clock: SystemClock | None = None,
                    own: SystemClock | None = None) -> AsyncIterator[list[Process]]:
    """Processes of those names and services, all announcing themselves; `clock` of the broker, `own` of theirs."""
    broker, stop = MemoryBroker(clock or SystemClock()), asyncio.Event()
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
    made = [Process(broker, name, service, own) for name, service in named]
    async with asyncio.TaskGroup() as group:
        for one in made:
            group.create_task(one.service.telemetry.announce_loop(stop, one.say, lambda _: None))
        try:
            await apoll_until(lambda: _all_said(broker, len(made)), "all to announce themselves", 10, every_s=0.01)
            yield made
        finally:
            stop.set()


async def _all_said(broker: MemoryBroker, count: int) -> bool:
    return len({record.key for record in broker.topic(Topic.INSTANCES).logs[0].records}) >= count


async def ended(course: Course) -> str:
    async def said() -> str | None:
        return course()
    told = await apoll_until(said, "the drain to end", 10, every_s=0.02)
    assert told is not None
    return told


async def test_what_a_drained_process_has_ends_before_it_is_said_and_it_serves_again_when_let_go() -> None:
    async with processes(("predictor-0", "predictor"), ("predictor-1", "predictor")) as (one, _):
        one.requests = 2
        course = await one.drain()
        last = one.broker.topic(Topic.INSTANCES).logs[0].records[-1]
        said = codec.decode_as(Topic.INSTANCES, Instance, last.value or b"")
        assert (said.instance, said.state, said.drained) == ("predictor-0", DRAINING, True)
        assert not one.service.health.ready
        assert course() is None
        one.requests = 0
        assert "predictor-0 has no more requests" in await ended(course)
        assert one.drained
        assert await one.let_go() == "predictor-0 serves again"
        assert one.service.health.ready
        assert await one.let_go() == "predictor-0 serves, as it did before"


async def test_requests_that_do_not_end_in_time_are_told_and_a_drain_that_ends_early_is_none() -> None:
    async with processes(("predictor-0", "predictor"), ("predictor-1", "predictor")) as (one, _):
        one.requests = 3
        course = await one.drain(within_s="0.01")
        with pytest.raises(Busy, match="3 requests of predictor-0 have not ended"):
            await ended(course)
        assert one.drained
        await one.let_go()
        with pytest.raises(Refused, match="let go"):
            course()


async def test_it_serves_again_after_its_time_which_counts_from_when_it_was_ordered() -> None:
    ahead = Ahead()
    async with processes(("predictor-0", "predictor"), ("predictor-1", "predictor"), own=ahead) as (one, _):
        one.requests = 1
        course = await one.drain(issued_s_ago=60, within_s="300", for_s="360")
        assert course() is None
        ahead.by = timedelta(seconds=301)
        with pytest.raises(Refused, match="time was over"):
            await ended(course)
        assert one.service.health.ready
        ahead.by = timedelta()
        with pytest.raises(Refused, match="is over"):
            await one.drain(issued_s_ago=60, for_s="59")


class Still(SystemClock):
    """A broker's clock by which nothing said goes stale, however slow the machine is."""

    def now(self) -> datetime:
        return datetime(2026, 5, 4, tzinfo=UTC)


class Late(MemoryBroker):
    """A bus that takes a minute of a process's clock to be read."""

    def __init__(self, ahead: Ahead) -> None:
        super().__init__(Still())
        self._ahead = ahead

    def reader(self, *given: Any, **named: Any) -> Reader:
        self._ahead.by += timedelta(minutes=1)
        return super().reader(*given, **named)


async def ready_or_not(one: Process, state: "telemetry_pb2.InstanceState.ValueType") -> None:
    """Another process, that says so once."""
    await Process(one.broker, "predictor-1").say(
        Instance(instance="predictor-1", service="predictor", boot_id="b", state=state))


@asynccontextmanager
async def announcing(one: Process) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(one.service.telemetry.announce_loop(stop, one.say, lambda _: None))
        yield
        stop.set()


async def test_a_bus_that_answers_late_makes_no_drain_longer() -> None:
    ahead = Ahead()
    broker = Late(ahead)
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
    one = Process(broker, "predictor-0", clock=ahead)
    async with announcing(one):
        await ready_or_not(one, READY)
        began = ahead.monotonic()
        await one.drain(for_s="600")
        assert one.drained and one.service.health.drained_until < began + 630
        await one.let_go()
        ahead.by = timedelta()
        with pytest.raises(Refused, match="is over"):
            await one.drain(for_s="50")
        assert not one.drained


async def test_an_order_that_fails_leaves_all_as_it_was() -> None:
    broker = MemoryBroker(Still())
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
    one = Process(broker, "predictor-0")
    async with announcing(one):
        await ready_or_not(one, READY)
        await one.drain(for_s="600")
        until = one.service.health.drained_until
        await ready_or_not(one, telemetry_pb2.INSTANCE_STATE_NOT_READY)
        with pytest.raises(Refused):
            await one.drain(for_s="3000")
        assert one.drained and one.service.health.drained_until == until
        await one.let_go()
    # Nobody announces it now: the order waits until it is called off.
    await ready_or_not(one, READY)
    order = asyncio.ensure_future(one.drain())

    async def drained() -> bool:
        return one.drained
    await apoll_until(drained, "the drain to begin", 10, every_s=0.01)
    order.cancel()
    with pytest.raises(asyncio.CancelledError):
        await order
    assert one.service.health.ready


async def test_the_last_that_is_ready_is_refused_and_goes_on() -> None:
    ahead = Ahead()
    async with processes(("predictor-0", "predictor"), ("gateway", "gateway"), clock=ahead) as (one, _):
        with pytest.raises(Refused, match="predictor-0 is the last predictor that is ready"):
            await one.drain()
        other = Process(one.broker, "predictor-1")
        for state in (telemetry_pb2.INSTANCE_STATE_STARTING, telemetry_pb2.INSTANCE_STATE_NOT_READY, DRAINING):
            await other.say(Instance(instance="predictor-1", service="predictor", boot_id="b", state=state))
            with pytest.raises(Refused):
                await one.drain()
        await other.say(Instance(instance="predictor-1", service="predictor", boot_id="b", state=READY))
        ahead.by = timedelta(seconds=30)
        await Process(one.broker, "ingest").say(Instance(instance="ingest", service="ingest", boot_id="b", state=READY))
        with pytest.raises(Refused):
            await one.drain()
        assert one.service.health.ready
        await other.say(Instance(instance="predictor-1", service="predictor", boot_id="b", state=READY))
        await one.drain()
        assert one.drained


async def test_of_two_that_are_told_at_once_one_serves() -> None:
    async with processes(("predictor-0", "predictor"), ("predictor-1", "predictor")) as both:
        told = await asyncio.gather(*(one.drain() for one in both), return_exceptions=True)
        refused = [one for one in told if isinstance(one, Refused)]
        assert refused and sum(one.drained for one in both) == 2 - len(refused)


@pytest.mark.parametrize(("arguments", "field"), [
    ({"within_s": "0"}, "arguments.within_s"), ({"within_s": "soon"}, "arguments.within_s"),
    ({"for_s": "-1"}, "arguments.for_s"), ({"for_s": "1e9"}, "arguments.for_s"), ({"for_s": "nan"}, "arguments.for_s")])
async def test_times_that_make_no_sense_are_refused(arguments: dict[str, str], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        await Process(MemoryBroker(), "predictor-0").drain(0, **arguments)
    assert refused.value.field == field


async def test_only_the_named_process_obeys_and_one_that_began_since_does_not(tmp_path: Path) -> None:
    identity, broker, obeyed, clock = Identity.create(tmp_path, "watchdog"), MemoryBroker(), [], SystemClock()
    now = datetime.now(UTC)
    TrustedKey("watchdog", identity.public_bytes(), frozenset({"watchdog"}), now - timedelta(hours=1),
               now + timedelta(hours=1)).write(tmp_path)
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
    answers: list[RecoveryResult] = []
    waits = [1]

    async def verb(name: str, command: RecoveryCommand, _: Record) -> str | Course:
        obeyed.append((command.command_id, name))
        return (lambda: None if waits else "it ended") if command.command_id == "slow" else "done"

    async def answer(result: RecoveryResult) -> None:
        answers.append(result)

    async def order(command_id: str, instance: str) -> None:
        one = ordered(DRAIN, instance)
        one.command_id = command_id
        sign_message(identity, one)
        value = codec.encode(Topic.RECOVERY_COMMANDS, one)
        await broker.writer("test").send(Outgoing(topics.name(Topic.RECOVERY_COMMANDS), value, one.target.encode()))

    duties = Duties("instance:", {DRAIN: verb}, only="predictor-0", passing=True)
    log = CommandLog(broker, Admission(TrustStore.load(tmp_path)), answer, Care(clock), (duties,), "predictor-0")
    await order("before", "predictor-0")
    await log.start()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(log.run(stop))
        for command_id, instance in (("slow", "predictor-0"), ("other", "predictor-01"), ("quick", "predictor-0")):
            await order(command_id, instance)

        async def answered(count: int) -> bool:
            return len(answers) >= count
        await apoll_until(lambda: answered(1), "the quick one to be answered", 10)
        assert [one.command_id for one in answers] == ["quick"]
        waits.clear()
        await apoll_until(lambda: answered(2), "the slow one to be answered", 10)
        stop.set()
    await log.stop()
    assert obeyed == [("slow", "predictor-0"), ("quick", "predictor-0")]
    assert [(one.command_id, one.outcome, one.evidence) for one in answers][1:] == [
        ("slow", recovery_pb2.RECOVERY_OUTCOME_DONE, "it ended")]


