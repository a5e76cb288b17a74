"""Ingest while something under it is gone: nothing acknowledged is lost, lag caught up, readiness tells the truth."""

import asyncio
import json
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from lepton.bus import kafka
from lepton.bus.records import Outgoing, Writer
from lepton.contracts import features, topics
from lepton.contracts.topics import Topic
from lepton.errors import LeptonError, Unavailable
from lepton.runtime.settings import BrokerOptions
from lepton.store.mongo import Database
from lepton.store.segments import Segments
from tests.harness.bus import read_all
from tests.harness.disk import BrokerOnADisk, broker_on_a_disk
from tests.harness.process import service_process
from tests.harness.servers import Server, free_ports, start_database
from tests.harness.wait import apoll_until
from tests.unit.ingest.house import House
from tests.unit.ingest.samples import order, pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(500)]

AWAY_S = 60
DISK_MB = 160


@dataclass
class Scene:
    """One ingest process, its admin port, and a database of its own."""

    house: House
    environment: dict[str, str]
    log: Path
    database: Server
    admin: str

    async def ready(self) -> httpx.Response | None:
        async with httpx.AsyncClient(timeout=5) as client:
            try:
                return await client.get(f"{self.admin}/readyz")
            except httpx.HTTPError:
                return None

    async def becomes_ready(self) -> None:
        said = ""

        async def answered() -> bool:
            nonlocal said
            answer = await self.ready()
            said = answer.text if answer is not None else "no answer"
            return answer is not None and answer.status_code == 200

        try:
            await apoll_until(answered, "ingest to be ready", 90)
        except AssertionError as error:
            raise AssertionError(f"{error}: {said}; its log ends: {self.log.read_text()[-2000:]}") from error

    async def accepted(self, count: int, timeout_s: float = 90) -> Counter[str]:
        """Event ids in the features once there are so many."""
        found: Counter[str] = Counter()

        async def enough() -> bool:
            nonlocal found
            found = Counter(event_id for record in await read_all(
                self.house.broker, topics.name(Topic.FEATURES, self.house.name))
                for event_id in features.decode_batch(record.value or b"").column("_event_id").to_pylist())
            return len(found) >= count

        try:
            await apoll_until(enough, f"{count} rows", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {len(found)} rows are there; ingest's log ends: "
                                 + self.log.read_text()[-6000:]) from error
        return found

    async def stored(self) -> Counter[str]:
        found: Counter[str] = Counter()
        async for segment in Segments(self.house.database).read("features", self.house.name, 1):
            found.update(features.decode_table(segment.data).column("_event_id").to_pylist())
        return found


@asynccontextmanager
async def scene(tmp_path: Path, bootstrap: str) -> AsyncIterator[Scene]:
    name = f"o{uuid.uuid4().hex[:8]}"
    database = start_database(tmp_path / "database")
    house = House(tmp_path, kafka.connect(BrokerOptions(bootstrap=bootstrap, client_id="outage")),
                  Database.connect(f"mongodb://{database.address}", name), name)
    await house.furnish()
    (port,) = free_ports(1)
    environment = {**{key: value for key, value in os.environ.items() if not key.startswith("LEPTON_")},
                   "LEPTON_KAFKA_BOOTSTRAP": bootstrap, "LEPTON_MONGO_URL": f"mongodb://{database.address}",
                   "LEPTON_MONGO_DATABASE": name, "LEPTON_TRUST_DIR": str(tmp_path / "trust"),
                   "LEPTON_ADMIN_PORT": str(port), "LEPTON_LOG_FORMAT": "text", "LEPTON_INSTANCE": f"ingest-{name}"}
    try:
        yield Scene(house, environment, tmp_path / "ingest.log", database, f"http://127.0.0.1:{port}")
    finally:
        await house.database.stop()
        await house.broker.close()
        database.kill()


async def test_a_database_away_for_a_minute_stops_no_event_and_loses_no_row(
        tmp_path: Path, kafka_bootstrap: str) -> None:
    async with scene(tmp_path, kafka_bootstrap) as here:
        await outlast_the_database(here)


async def outlast_the_database(here: Scene) -> None:
    house = here.house
    await house.apply(pipeline(("name: shop", f"name: {house.name}")))
    with service_process("services.ingest", here.environment, here.log):
        await house.send(*(order(number) for number in range(100)))
        await here.accepted(100)
        await here.becomes_ready()
        here.database.kill()
        gone_at = asyncio.get_running_loop().time()
        await house.send(*(order(number) for number in range(100, 1000)))
        # Events flow on: rows wait in the log for the store.
        await here.accepted(1000)

        async def told() -> bool:
            answer = await here.ready()
            return answer is not None and answer.status_code == 503 and "keep features" in answer.text \
                and asyncio.get_running_loop().time() - gone_at >= AWAY_S

        await apoll_until(told, "a minute without the database, and readiness that says so", 150, every_s=0.5)
        await house.send(*(order(number) for number in range(1000, 1200)))
        await here.accepted(1200)
        here.database.restart()
        await here.becomes_ready()

        async def caught_up() -> bool:
            try:
                return len(await here.stored()) >= 1200
            except Unavailable:
                return False

        await apoll_until(caught_up, f"all rows in segments; it said: {here.log.read_text()[-2000:]}", 90)
        assert await here.stored() == Counter({f"o-{number}": 1 for number in range(1200)})
    await house.write(Topic.PIPELINES, None, house.name)


async def test_a_brokers_disk_that_runs_full_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """The broker gives up when its disk is full; with room again it is started again."""
    with broker_on_a_disk(tmp_path, DISK_MB) as broker:
        async with scene(tmp_path, broker.address) as here:
            await here.house.apply(pipeline(("name: shop", f"name: {here.house.name}")))
            with service_process("services.ingest", here.environment, here.log):
                await here.becomes_ready()
                writer = here.house.broker.writer("producer")
                await writer.start()
                acknowledged = await send_until_full(here, broker, writer)
                (broker.disk / "filler").unlink()
                await asyncio.to_thread(broker.start_again)
                await writer.stop()
                # A transaction the broker died in holds committed readers back until it times out, a minute later.
                found = await here.accepted(acknowledged, 240)
                assert not [number for number in range(acknowledged) if found[f"o-{number}"] != 1]
                await here.becomes_ready()


async def send_until_full(here: Scene, broker: BrokerOnADisk, writer: Writer) -> int:
    """Send numbered events batch by batch and fill the disk meanwhile; how many were acknowledged in the end."""
    name, acknowledged = topics.name(Topic.EVENTS, here.house.name), 0
    with (broker.disk / "filler").open("wb", buffering=0) as filler:
        while broker.runs:
            records = [Outgoing(name, _event(number), b"k", (), 0) for number in range(acknowledged, acknowledged + 50)]
            with suppress(LeptonError, TimeoutError, OSError):
                async with asyncio.timeout(20):
                    await writer.send_all(records)
                acknowledged += len(records)
                filler.write(bytes(4 * 1024 * 1024))
    assert acknowledged > 0
    return acknowledged


def _event(number: int) -> bytes:
    return json.dumps(order(number, note="x" * 2000)).encode()
