"""The real process over the real broker and database: it heals, is healed itself, and stops in good order."""

import asyncio
import os
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from lepton.bus import kafka
from lepton.contracts.pb import incidents_pb2, recovery_pb2
from lepton.contracts.signing import verify_message
from lepton.contracts.topics import Topic
from lepton.runtime.settings import BrokerOptions
from lepton.store.mongo import Database
from services.watchdog.core import journal
from tests.harness.process import service_process
from tests.harness.wait import apoll_until
from tests.unit.watchdog.house import House

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]
DRAIN_S = 8


@dataclass
class Place:
    """Where one test's watchdog works."""

    house: House
    environment: dict[str, str]
    log: Path

    @contextmanager
    def watchdog(self, instance: str = "watchdog") -> Iterator[subprocess.Popen[bytes]]:
        """The process, killed at the end if it still lives."""
        environment = {**self.environment, "LEPTON_INSTANCE": f"{self.house.name}-{instance}"}
        with service_process("services.watchdog", environment, self.log) as process:
            yield process

    def said(self) -> str:
        return self.log.read_text()[-4000:]

    async def heard(self) -> None:
        """Until the watchdog leads and wrote down heartbeats of every neighbour."""
        async def all_heard() -> bool:
            entries = await self.house.read(Topic.WATCHDOG_JOURNAL, incidents_pb2.JournalEntry)
            bodies = "".join(one.body_json for one in entries if one.watchdog.startswith(self.house.name))
            return '"Leads"' in bodies and all(f'["Beat","{name}"' in bodies
                                                       for name in self.house.beating)

        await apoll_until(all_heard, f"heartbeats in the journal; it said: {self.said()}", 40)


@pytest_asyncio.fixture
async def place(tmp_path: Path, kafka_bootstrap: str, mongo_url: str) -> AsyncIterator[Place]:
    name = f"w{uuid.uuid4().hex[:8]}"
    broker = kafka.connect(BrokerOptions(bootstrap=kafka_bootstrap, client_id="test-watchdog"))
    database = Database.connect(mongo_url, f"watchdog_{name}")
    house = House(tmp_path, broker, database, name)
    await house.furnish()
    environment = {**{key: value for key, value in os.environ.items() if not key.startswith("LEPTON_")},
                   "LEPTON_KAFKA_BOOTSTRAP": kafka_bootstrap, "LEPTON_MONGO_URL": mongo_url,
                   "LEPTON_MONGO_DATABASE": f"watchdog_{name}", "LEPTON_TRUST_DIR": str(tmp_path / "trust"),
                   "LEPTON_KEYS_DIR": str(tmp_path / "keys"), "LEPTON_DRAIN_S": str(DRAIN_S),
                   "LEPTON_LOG_FORMAT": "text"}
    yield Place(house, environment, tmp_path / "watchdog.log")
    await house.leave()
    await database.drop()
    await database.stop()
    await broker.close()


async def ended(process: "subprocess.Popen[bytes]", timeout_s: float) -> int:
    return await asyncio.wait_for(asyncio.to_thread(process.wait), timeout_s)


async def test_a_silent_process_is_restarted_by_a_signed_command_and_sigterm_ends_the_watchdog(place: Place) -> None:
    house = place.house
    name = await house.neighbour("ingest", "ingest")
    await house.neighbour("gateway", "gateway")
    with place.watchdog() as process:
        async with house.alive():
            await place.heard()
            del house.beating[name]
            command = await house.command(timeout_s=10)
            assert (command.action, command.target) == (recovery_pb2.RECOVERY_ACTION_RESTART, f"instance:{name}")
            verify_message(house.trusted(), "watchdog", command, datetime.now(UTC))
            await house.answer(command)
            house.beating[name] = "boot-2"
            incident = await house.incident("verified", "silence")
            assert list(incident.command_ids) == [command.command_id]

            async def announced() -> bool:
                return incident in await house.read(Topic.INCIDENTS, incidents_pb2.Incident)

            await apoll_until(announced, "the incident on its topic")
            process.send_signal(signal.SIGTERM)
            assert await ended(process, DRAIN_S + 4) == 0, place.said()
    assert len(await house.commands()) == 1
    entries = [one for one in await house.read(Topic.WATCHDOG_JOURNAL, incidents_pb2.JournalEntry)
               if one.watchdog == f"{house.name}-watchdog"]
    written = [journal.read_decisions(one.body_json) for one in entries if one.kind == "decision"]
    assert list(journal.replay(one.body_json for one in entries if one.kind == "signal")) == written


async def test_a_watchdog_killed_after_its_command_goes_on_with_the_incident_when_it_is_back(place: Place) -> None:
    house = place.house
    name = await house.neighbour("ingest", "ingest")
    await house.neighbour("gateway", "gateway")
    async with house.alive():
        with place.watchdog() as process:
            await place.heard()
            del house.beating[name]
            first = await house.command(timeout_s=10)
            process.kill()
            await ended(process, 5)
        with place.watchdog():
            house.beating[name] = "boot-2"
            incident = await house.incident("verified", "silence", 30)
            assert list(incident.command_ids) == [first.command_id]
            house.beating.pop(name)
            second = await house.command(2, 20)
            assert second.fence > first.fence
            assert second.incident_id != first.incident_id


async def test_a_frozen_watchdog_blames_nobody_for_its_own_silence(place: Place) -> None:
    house = place.house
    await house.neighbour("ingest", "ingest")
    await house.neighbour("gateway", "gateway")
    async with house.alive():
        with place.watchdog() as process:
            await place.heard()
            process.send_signal(signal.SIGSTOP)
            await house.beats(60)
            process.send_signal(signal.SIGCONT)
            name = await house.neighbour("predictor-0", "predictor")
            await place.heard()
            assert await house.commands() == []
            del house.beating[name]
            command = await house.command(timeout_s=20)
            assert command.target == f"instance:{name}"
            assert len(await house.commands()) == 1


async def test_without_a_database_it_says_so_in_one_line_and_exits_3(place: Place) -> None:
    place.environment["LEPTON_MONGO_URL"] = "mongodb://127.0.0.1:1"
    with place.watchdog() as process:
        assert await ended(process, 30) == 3
    assert "cannot start" in place.said()
    assert "Traceback" not in place.said()


async def test_without_its_key_it_says_so_in_one_line_and_exits(place: Place) -> None:
    (Path(place.environment["LEPTON_KEYS_DIR"]) / "watchdog.json").unlink()
    with place.watchdog() as process:
        assert await ended(process, 30) == 1
    assert "there is no such key" in place.said()
    assert "Traceback" not in place.said()
