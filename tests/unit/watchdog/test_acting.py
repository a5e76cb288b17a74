"""Decisions are carried out once, in order, only under the lease they were made under, and survive outages."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta

import pytest
import pytest_asyncio
from msgspec.structs import replace

from lepton.clock import FakeClock
from lepton.errors import Unavailable
from lepton.store.documents import Document, Documents, Index, Match
from lepton.store.incidents import Incidents, Lease
from lepton.store.memory import MemoryDatabase
from services.watchdog.core import incident as life
from services.watchdog.core.inputs import AlreadyOpen, Decision, Incident, Leads, Tick
from services.watchdog.core.orders.command import Command
from services.watchdog.flow.acting import Acting, Voice
from services.watchdog.flow.observing import Observing
from services.watchdog.flow.translate import from_message, to_message
from tests.harness.wait import apoll_until

LEASE_S = 5.0


class Flaky:
    """A database that can be away, or slow."""

    def __init__(self, clock: FakeClock) -> None:
        self.real = MemoryDatabase()
        self.clock = clock
        self.away = False
        self.slow_s = 0.0

    def collection(self, name: str) -> Documents:
        return _FlakyDocuments(self, self.real.collection(name))

    async def ensure(self, index: Index) -> None:
        await self.real.ensure(index)

    async def ping(self) -> None:
        await self.real.ping()

    async def migrate(self) -> None:
        await self.real.migrate()

    async def start(self) -> None:
        await self.real.start()

    async def stop(self) -> None:
        await self.real.stop()

    async def close(self) -> None:
        await self.real.close()


class _FlakyDocuments:
    def __init__(self, database: Flaky, real: Documents) -> None:
        self._database = database
        self._real = real
        self.name = real.name

    async def _check(self) -> None:
        if self._database.slow_s:
            await self._database.clock.sleep(self._database.slow_s)
        if self._database.away:
            raise Unavailable("the database is away")

    async def insert(self, document: Document) -> bool:
        await self._check()
        return await self._real.insert(document)

    async def put(self, document: Document) -> None:
        await self._check()
        await self._real.put(document)

    async def get(self, key: str) -> Document | None:
        await self._check()
        return await self._real.get(key)

    async def find(self, match: Match, *, order: str = "_id", limit: int = 0) -> list[Document]:
        await self._check()
        return await self._real.find(match, order=order, limit=limit)

    async def swap(self, key: str, expected: Match, changes: Document) -> bool:
        await self._check()
        return await self._real.swap(key, expected, changes)

    async def delete(self, match: Match) -> int:
        await self._check()
        return await self._real.delete(match)


class Skipping(FakeClock):
    """A clock on which a process that was frozen finds that time has passed."""

    skipped_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped_s

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.skipped_s)


class Stage:
    """Acting with everything around it; `sent` and `audited` are what left it."""

    def __init__(self) -> None:
        self.clock = Skipping()
        self.database = Flaky(self.clock)
        self.observing = Observing("w1", self.clock)
        self.fences: list[int] = []
        self.sent: list[tuple[str, int]] = []
        self.left_s: list[float] = []
        self.audited: list[str] = []
        self.told: list[str] = []
        self.known: list[list[str]] = []
        self.bus_away = False
        self.incidents = Incidents(self.database)
        self.acting = Acting(
            self.incidents, Lease(self.database, self.clock), self.observing,
            Voice(self._command, self._audit, lambda: None, lambda decision: self.told.append(decision.alert),
                  lambda incidents: self.known.append([one.id for one in incidents])),
            self.clock, owner="w1", lease_s=LEASE_S)

    async def _command(self, command: Command, fence: int) -> None:
        if self.bus_away:
            raise Unavailable("the bus is away")
        self.sent.append((command.command_id, 1 + self.fences.index(fence)))
        self.left_s.append(command.valid_s)

    async def _audit(self, action: str, target: str, detail: str) -> None:
        if self.bus_away:
            raise Unavailable("the bus is away")
        self.audited.append(detail)

    def decide(self, turn: int, decisions: Sequence[Decision]) -> None:
        """Made under the fence of that turn at the lease, counted from 1; under none: 0, or a fence nobody had."""
        self.acting.decide(self.fences[turn - 1] if 0 < turn <= len(self.fences) else turn, decisions)

    async def leads(self, turn: int) -> Leads:
        """Let time pass until the lease is held for the `turn`th time (0: lost); what the engine is told."""
        async def told() -> Leads | None:
            await self.clock.advance(0.5)
            found = [one for one in self.observing.take() if isinstance(one, Leads)]
            self.fences += [one.fence for one in found if one.fence]
            return found[-1] if found and turn == (len(self.fences) if found[-1].fence else 0) else None

        leads = await apoll_until(told, f"turn {turn}", 10, every_s=0.0)
        assert leads is not None
        return leads

    async def until(self, what: str, holds: Callable[[], object]) -> None:
        async def probe() -> bool:
            await self.clock.advance(0.1)
            return bool(holds())

        await apoll_until(probe, what, 10, every_s=0.01)


def opened(at: float = 1.0) -> Incident:
    return life.opened("silence", "process:ingest", "instance:ingest", "", "no heartbeat", Tick(at, 1000.0 + at, 0.25))


def restart(incident: Incident, at: float = 1.0) -> Decision:
    command = Command(f"{incident.id}-{incident.rung + 1}", "restart", incident.target, {}, incident.cause,
                      incident.id, 15.0)
    return Decision(life.commanded(incident, command.command_id, "restart", 15, Tick(at, 1000.0 + at, 0.25)), command,
                    "restart of ingest")


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    built = Stage()
    await built.database.start()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(built.acting.lead(stop))
        tasks.create_task(built.acting.act(stop))
        yield built
        stop.set()
        built.database.away = built.bus_away = False
        built.database.slow_s = 0.0
        await built.clock.advance(10)


async def test_a_decision_is_stored_recorded_sent_and_told_in_that_order(stage: Stage) -> None:
    await stage.leads(1)
    first = opened()
    stage.decide(1, [Decision(first), restart(first)])
    await stage.until("the command", lambda: stage.told[-1:] == ["restart of ingest"])
    assert stage.sent == [(f"{first.id}-1", 1)]
    assert len(stage.audited) == 1
    (stored,) = await stage.incidents.list()
    assert (stored.revision, list(stored.command_ids)) == (2, [f"{first.id}-1"])


async def test_while_the_database_is_away_a_decision_waits_and_loses_nothing(stage: Stage) -> None:
    await stage.leads(1)
    stage.database.away = True
    first = opened()
    stage.decide(1, [Decision(first), restart(first)])
    await stage.clock.advance(1)
    assert stage.sent == []
    stage.database.away = False
    await stage.until("the command", lambda: stage.sent)
    assert stage.sent == [(f"{first.id}-1", 1)]


async def test_while_the_bus_is_away_the_command_waits_and_the_incident_is_stored(stage: Stage) -> None:
    await stage.leads(1)
    stage.bus_away = True
    first = opened()
    stage.decide(1, [restart(first)])
    await stage.clock.advance(1)
    stage.bus_away = False
    await stage.until("the command", lambda: stage.sent)
    assert len(await stage.incidents.list()) == 1


async def test_without_the_lease_nothing_is_done(stage: Stage) -> None:
    await stage.leads(1)
    stage.decide(0, [restart(opened())])
    stage.decide(7, [restart(opened())])
    await stage.clock.advance(2)
    assert stage.sent == []
    assert await stage.incidents.list() == []


async def test_a_lease_that_cannot_be_renewed_is_lost_and_taken_again_with_a_higher_fence(stage: Stage) -> None:
    await stage.leads(1)
    stage.database.away = True
    await stage.leads(0)
    stage.decide(1, [restart(opened())])
    await stage.clock.advance(1)
    stage.database.away = False
    await stage.leads(2)
    assert stage.fences[1] > stage.fences[0]
    assert stage.sent == []


async def lapsed(stage: Stage, slow_s: float) -> None:
    """The database is slow, and the lease no longer surely held: its renewal is under way."""
    stage.database.slow_s = slow_s
    await stage.until("the lapse", lambda: not stage.acting.leading)


async def test_what_is_decided_while_the_lease_is_slowly_renewed_is_stored_once_it_is_held_again(stage: Stage) -> None:
    await stage.leads(1)
    first = opened()
    stage.decide(1, [Decision(first)])
    await stage.until("the incident", lambda: stage.told)
    await lapsed(stage, 3.0)
    stage.decide(1, [Decision(life.verified(first, "quiet", Tick(2.0, 2.0, 1.0)), None, "well again")])
    await stage.until("the end", lambda: stage.told[-1:] == ["well again"])
    stage.database.slow_s = 0.0
    assert await stage.incidents.still_open() == []
    assert not any(isinstance(one, Leads) for one in stage.observing.take())


async def test_what_is_decided_while_the_lease_is_being_lost_is_not_done(stage: Stage) -> None:
    """Another may have led meanwhile: what is known then is what the store knows."""
    await stage.leads(1)
    first = opened()
    stage.decide(1, [Decision(first)])
    await stage.until("the incident", lambda: stage.told)
    await lapsed(stage, 20.0)
    stage.decide(1, [restart(first)])
    await stage.clock.advance(1)
    stage.database.slow_s = 0.0
    (known,) = (await stage.leads(2)).incidents
    assert known.state == life.SUSPECTED
    await stage.clock.advance(2)
    assert stage.sent == []


async def test_a_lease_that_was_lost_is_taken_again_however_slowly_incidents_are_read(stage: Stage) -> None:
    await stage.leads(1)
    stage.database.away = True
    await stage.leads(0)
    stage.database.away, stage.database.slow_s = False, 3.0
    await stage.leads(2)
    first = opened()
    stage.decide(2, [restart(first)])
    await stage.until("the command", lambda: stage.sent)
    assert stage.sent == [(f"{first.id}-1", 2)]


@pytest.mark.parametrize(("valid_s", "sent"), [(15.0, True), (2.0, False)])
async def test_a_command_that_waited_has_what_is_left_of_its_time_and_is_void_after(stage: Stage, valid_s: float,
                                                                                  sent: bool) -> None:
    await stage.leads(1)
    stage.bus_away = True
    first = opened()
    asked = restart(first)
    assert asked.command is not None
    stage.decide(1, [Decision(asked.incident, replace(asked.command, valid_s=valid_s), asked.alert)])
    await stage.clock.advance(3)
    stage.bus_away = False
    await stage.until("the telling", lambda: stage.told)
    assert stage.sent == ([(f"{first.id}-1", 1)] if sent else [])
    assert all(0 < left_s <= valid_s - 3 for left_s in stage.left_s)
    (stored,) = await stage.incidents.list()
    assert list(stored.command_ids) == [f"{first.id}-1"]


async def test_what_lets_go_is_sent_however_long_it_waited(stage: Stage) -> None:
    """No incident is open any more that would let go again."""
    await stage.leads(1)
    stage.bus_away = True
    first = opened()
    lift = Command(f"{first.id}-lift", "restore", "client:lk_1", {}, "c", first.id, 2.0)
    stage.decide(1, [Decision(first), Decision(life.verified(first, "quiet", Tick(2.0, 2.0, 1.0)), lift)])
    await stage.clock.advance(4)
    stage.bus_away = False
    await stage.until("the command", lambda: stage.sent)
    assert stage.left_s == [2.0]


async def test_a_watchdog_that_stood_still_begins_anew_from_the_store(stage: Stage) -> None:
    await stage.leads(1)
    first = opened()
    stage.decide(1, [Decision(first), restart(first)])
    await stage.until("the command", lambda: stage.sent)
    # Frozen: no renewal happens, and when it wakes the lease has long run out.
    stage.clock.skipped_s = 60
    leads = await stage.leads(2)
    (incident,) = leads.incidents
    assert (incident.id, incident.state, incident.command_ids) == (first.id, "commanded", (f"{first.id}-1",))
    # Who tells people of them begins anew too, and told nothing in between.
    assert stage.known == [[], [], [first.id]]


async def test_an_end_that_lets_go_of_two_sends_both_and_stays_the_end(stage: Stage) -> None:
    await stage.leads(1)
    first = opened()
    closed = life.verified(first, "quiet", Tick(2.0, 2.0, 1.0))
    stage.decide(1, [Decision(first), *(Decision(closed, Command(f"{first.id}-lift{one}", "restore", target, {}, "c",
                                                                 first.id, 60.0))
                                        for one, target in (("", "client:lk_1"), ("-2", "model:m")))])
    await stage.until("both", lambda: len(stage.sent) == 2)
    assert stage.sent == [(f"{first.id}-lift", 1), (f"{first.id}-lift-2", 1)]
    assert await stage.incidents.still_open() == []


async def test_what_another_watchdog_opened_before_is_gone_on_with(stage: Stage) -> None:
    await stage.leads(1)
    theirs = opened(at=0.5)
    await stage.incidents.open(to_message(theirs), theirs.key)
    ours = opened(at=2.0)
    stage.decide(1, [restart(ours)])


    def told() -> bool:
        return any(isinstance(one, AlreadyOpen) and one.incident.id == theirs.id for one in stage.observing.take())

    await stage.until("the other incident", told)
    assert stage.sent == []


async def test_an_incident_that_another_changed_means_the_lease_is_gone(stage: Stage) -> None:
    await stage.leads(1)
    first = opened()
    stage.decide(1, [Decision(first)])

    async def stored() -> bool:
        await stage.clock.advance(0.1)
        return bool(await stage.incidents.list())

    await apoll_until(stored, "the incident", 10)
    (message,) = await stage.incidents.list()
    message.verdict = "by another"
    await stage.incidents.advance(message)
    stage.decide(1, [restart(first)])
    await stage.leads(2)
    assert stage.sent == []


@pytest.mark.parametrize("state", ["suspected", "commanded", "escalated"])
def test_an_incident_is_the_same_after_the_wire_but_for_working_memory(state: str) -> None:
    tick = Tick(5.0, 1005.25, 0.25)
    incident = opened()
    if state != "suspected":
        incident = restart(incident).incident
    if state == "escalated":
        incident = life.escalated(incident, "no effect", tick)
    again = from_message(to_message(incident))
    for field in ("id", "symptom", "cause", "target", "state", "timeline", "command_ids", "verdict", "opened_s",
                  "action", "decided_s", "closed_s", "key"):
        assert getattr(again, field) == getattr(incident, field), field
