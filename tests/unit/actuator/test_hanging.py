"""Who runs and answers no more is ended, a few times; who begins, is down, was suspended, or is late is not."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from deploy.actuator.guarding.hanging import (
    AGAIN_S,
    ANSWER_S,
    BEGINS_S,
    EVERY_S,
    LATE_S,
    MOST,
    WITHIN_S,
    Answer,
    Guard,
    Watched,
    parse,
    readiness,
)
from deploy.supervisor import Process, ProcessManager
from lepton.clock import FakeClock
from lepton.errors import Invalid, LeptonError, Missing, Unavailable
from lepton.runtime.service import Service
from lepton.runtime.settings import LeptonSettings
from tests.harness.servers import free_ports
from tests.unit.watchdog.alerting.receivers import web

HUNG_S = 10.0
LOOK_S = EVERY_S + ANSWER_S


class Host:
    """A watchdog under a process manager; its door answers `status`, 0: nothing within its time."""

    def __init__(self) -> None:
        self.status, self.pid, self.state, self.instance = 200, 100, "RUNNING", "watchdog"
        self.answers: Exception | None = None
        """What the process manager answers instead."""
        self.refuses: LeptonError | None = None
        """What it answers to a signal."""
        self.mends = True
        """Whether one that begins anew answers."""
        self.killed: list[int] = []
        self.told: list[tuple[str, str, str]] = []
        self.clock = FakeClock()
        self.guard = Guard("watchdog", cast("ProcessManager", self), self.ask, lambda *told: self.told.append(told),
                           self.clock, HUNG_S)

    def process(self, name: str) -> Process:
        if self.answers:
            raise self.answers
        return Process(name, self.state, self.pid, 0, 0, "")

    def signal(self, name: str, signal_name: str) -> None:
        assert (name, signal_name) == ("watchdog", "KILL")
        if self.refuses:
            raise self.refuses
        self.killed.append(self.pid)
        self.pid += 1
        self.status = 200 if self.mends else 0

    async def ask(self) -> Answer:
        if not self.status:
            await self.clock.advance(ANSWER_S)
        return Answer(self.status, self.instance if self.status else "")

    async def live(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            await self.clock.advance(EVERY_S)
            await self.guard.look()


@pytest.fixture
async def host() -> Host:
    made = Host()
    await made.live(5)
    return made


async def test_one_that_hangs_is_ended_and_told_of_and_one_that_answers_is_left_alone(host: Host) -> None:
    host.status = 0
    await host.live(HUNG_S - LOOK_S)
    assert host.killed == []
    await host.live(LOOK_S)
    assert host.killed == [100]
    assert host.told == [("hung", "pid 100 ran and did not answer for 12.0 s, and was ended to begin anew", "watchdog")]
    await host.live(3600)
    assert len(host.killed) == 1


@pytest.mark.parametrize("status", [200, 503])
async def test_any_answer_in_between_is_one(host: Host, status: int) -> None:
    for _ in range(10):
        host.status = 0
        await host.live(HUNG_S - LOOK_S)
        host.status = status
        await host.live(EVERY_S)
    assert host.killed == []


async def test_one_that_begins_has_time_and_one_that_is_down_or_stopped_is_not_hanging(host: Host) -> None:
    host.pid, host.status = 200, 0
    await host.live(BEGINS_S)
    assert host.killed == []
    await host.live(2 * LOOK_S)
    assert host.killed == [200]
    for state in ("STOPPED", "STARTING", "STOPPING", "BACKOFF"):
        host.state, host.status = state, 0
        await host.live(BEGINS_S + AGAIN_S)
    assert len(host.killed) == 1


async def test_time_in_which_the_actuator_itself_did_not_run_says_nothing(host: Host) -> None:
    host.status = 0
    for _ in range(20):
        await host.live(HUNG_S - LOOK_S)
        await host.clock.advance(600)
    assert host.killed == []


async def test_looks_that_come_a_little_late_are_counted_as_if_they_were_in_time(host: Host) -> None:
    host.status = 0
    for looks in range(3):
        assert host.killed == [], looks
        await host.clock.advance(LATE_S / 2)
        await host.live(EVERY_S)
    assert host.killed == [100]


async def test_one_that_answers_slowly_is_not_hanging(host: Host) -> None:
    for _ in range(100):
        await host.clock.advance(ANSWER_S)
        await host.live(EVERY_S)
    assert (host.killed, host.told) == ([], [])


async def test_one_that_hangs_over_and_over_is_left_alone_and_a_person_is_told_until_a_later_time(host: Host) -> None:
    host.status, host.mends = 0, False
    await host.live(MOST * (BEGINS_S + AGAIN_S))
    assert len(host.killed) == MOST
    assert {kind for kind, _, _ in host.told} == {"hung", "hangs_again"}
    before = len(host.told)
    await host.live(2 * AGAIN_S)
    assert len(host.killed) == MOST
    assert 0 < len(host.told) - before <= 3, "told in every look"
    await host.live(WITHIN_S)
    assert MOST < len(host.killed) <= 2 * MOST


async def test_between_two_ends_some_time_passes(host: Host) -> None:
    host.status = 0
    await host.live(HUNG_S)
    await host.live(EVERY_S)
    host.status = 0
    await host.live(AGAIN_S - EVERY_S - LOOK_S)
    assert len(host.killed) == 1
    await host.live(2 * LOOK_S)
    assert len(host.killed) == 2


@pytest.mark.parametrize(("answer", "told"), [
    (Missing("no such program", field="watchdog"), ["unknown"]), (Unavailable("gone"), []),
    (Invalid("SHUTDOWN_STATE"), [])])
async def test_without_the_process_manager_nobody_is_ended_and_later_it_goes_on(
        host: Host, answer: Exception, told: list[str]) -> None:
    host.status, host.answers = 0, answer
    await host.live(5 * HUNG_S)
    assert (host.killed, [kind for kind, _, _ in host.told]) == ([], told)
    host.answers, host.status = None, 200
    await host.live(EVERY_S)
    host.status = 0
    await host.live(HUNG_S)
    assert host.killed == [100]


async def test_a_look_without_an_answer_of_the_process_manager_forgets_nothing_but_how_long_it_was_silent(
        host: Host) -> None:
    host.status = 0
    await host.live(HUNG_S - LOOK_S)
    host.answers = Unavailable("busy")
    await host.live(EVERY_S)
    host.answers = None
    await host.live(HUNG_S - LOOK_S)
    assert host.killed == []
    await host.live(LOOK_S)
    assert host.killed == [100]


async def test_a_process_manager_that_refuses_to_end_it_is_asked_again(host: Host) -> None:
    host.status, host.refuses = 0, Invalid("the process manager refused signalProcess: FAILED")
    await host.live(3 * HUNG_S)
    assert (host.killed, host.told) == ([], [])
    host.refuses = None
    await host.live(LOOK_S)
    assert host.killed == [100]


async def test_one_whose_door_was_never_heard_is_told_of_and_not_ended() -> None:
    host = Host()
    host.status = 0
    await host.live(BEGINS_S - LOOK_S)
    assert host.told == []
    await host.live(1200)
    assert host.killed == [] and {kind for kind, _, _ in host.told} == {"unheard"}
    assert len(host.told) <= 1200 / AGAIN_S, "told in every look"


async def test_at_the_door_of_another_nobody_is_ended_whatever_becomes_of_that_one() -> None:
    host = Host()
    host.instance = "gateway"
    await host.live(AGAIN_S + LOOK_S)
    assert [kind for kind, _, _ in host.told] == ["unheard"] * 2 and "of gateway" in host.told[0][1]
    host.status = 0
    await host.live(600)
    assert host.killed == []


async def test_a_door_answers_with_its_status_and_one_that_nobody_opened_with_none() -> None:
    async with web() as door:
        door.statuses = [503]
        assert await readiness(Watched("watchdog", "127.0.0.1", door.port)) == Answer(503)
    assert await readiness(Watched("watchdog", "127.0.0.1", free_ports(1)[0])) == Answer()


async def test_the_door_of_a_process_says_whose_it_is() -> None:
    (port,) = free_ports(1)
    door = Service("watchdog", LeptonSettings(instance="watchdog-2", admin_port=port)).admin
    await door.start()
    try:
        assert await readiness(Watched("watchdog", "127.0.0.1", port)) == Answer(503, "watchdog-2")
    finally:
        await door.stop()


def test_whom_to_watch_is_told_by_name_and_door() -> None:
    assert parse("") == []
    assert parse("watchdog=http://127.0.0.1:81, watchdog-2=http://there:82") == [
        Watched("watchdog", "127.0.0.1", 81), Watched("watchdog-2", "there", 82)]


@pytest.mark.parametrize("entry", ["watchdog", "watchdog=127.0.0.1:81", "watchdog=https://127.0.0.1:81",
                                   "watchdog=http://127.0.0.1", "watchdog=http://127.0.0.1:0", "=http://a:1",
                                   "watchdog=http://127.0.0.1:65536", "watchdog=http://ada@a:1",
                                   "watchdog=http://a..b:1"])
def test_what_cannot_be_read_is_named(entry: str) -> None:
    with pytest.raises(Invalid) as invalid:
        parse(f"other=http://127.0.0.1:81,{entry}")
    assert (invalid.value.field, invalid.value.place) == ("LEPTON_ACTUATOR_WATCHED", entry)


async def test_a_process_manager_that_ends_amid_its_answer_is_not_available(tmp_path: Path) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 100\r\n\r\n<?xml version='1.0'?>")
        writer.close()

    async with await asyncio.start_unix_server(cut, tmp_path / "s"):
        with pytest.raises(Unavailable):
            await asyncio.to_thread(ProcessManager(tmp_path / "s").process, "watchdog")
