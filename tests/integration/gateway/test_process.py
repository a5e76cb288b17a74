"""One real gateway process on a real Kafka and a real database."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from lepton.bus import kafka
from lepton.bus.records import Record, TopicPlan
from lepton.contracts import topics
from lepton.contracts.auditing.chain import digest
from lepton.contracts.envelope import Envelope
from lepton.contracts.pb import pipelines_pb2, telemetry_pb2
from lepton.runtime.settings import BrokerOptions
from tests.harness.servers import free_ports
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]

ROOT = Path(__file__).parents[3]


def pipeline(name: str) -> str:
    return (f"apiVersion: lepton/v1\nkind: Pipeline\nmetadata: {{name: {name}}}\n"
            "events:\n  entity: customer\n  partitions: 3\n  fields: {price: {type: float}}\n"
            "  label: {field: bought, type: bool}\n")


@dataclass
class Process:
    """A gateway that was started; `stop` asks it to end and gives its exit code."""

    bootstrap: str
    environment: dict[str, str]
    folder: Path
    port: int
    popen: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def instance(self) -> str:
        return self.environment["LEPTON_INSTANCE"]

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.popen = subprocess.Popen([sys.executable, "-m", "services.gateway"], cwd=ROOT, stderr=log,
                                          env=self.environment)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        assert self.popen is not None
        self.popen.send_signal(with_signal)
        return self.popen.wait(15)

    def client(self) -> httpx.AsyncClient:
        key = (self.folder / "admin-key").read_text().strip()
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=30,
                                 headers={"authorization": f"Bearer {key}"})

    async def ready(self) -> None:
        async def probe() -> bool:
            assert self.popen is not None and self.popen.poll() is None, self.log
            try:
                async with httpx.AsyncClient(trust_env=False) as client:
                    admin = self.environment["LEPTON_ADMIN_PORT"]
                    return (await client.get(f"http://127.0.0.1:{admin}/readyz")).status_code == 200
            except httpx.TransportError:
                return False
        await apoll_until(probe, "the gateway to be ready", 30)

    async def read(self, topic_name: str) -> list[Record]:
        broker = kafka.connect(BrokerOptions(bootstrap=self.bootstrap, client_id="test"))
        reader = broker.reader([topic_name], group=None, client_id="test")
        await reader.start()
        try:
            places = sorted(reader.assignment())
            ends = await reader.end_offsets(places)
            found: list[Record] = []
            while any(reader.position(place) < ends[place] for place in places):
                for records in (await reader.poll(max_records=1000, timeout_s=0.5)).values():
                    found.extend(records)
            return found
        finally:
            await reader.stop()
            await broker.close()


async def create_platform_topics(bootstrap: str) -> None:
    broker = kafka.connect(BrokerOptions(bootstrap=bootstrap, client_id="test"))
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
    await broker.close()


@pytest_asyncio.fixture
async def gateway(kafka_bootstrap: str, mongo_url: str, tmp_path: Path) -> AsyncIterator[Process]:
    await create_platform_topics(kafka_bootstrap)
    port, admin_port = free_ports(2)
    name = f"gateway-{uuid.uuid4().hex[:8]}"
    environment = {variable: value for variable, value in os.environ.items() if not variable.startswith("LEPTON_")} | {
        "LEPTON_INSTANCE": name, "LEPTON_KAFKA_BOOTSTRAP": kafka_bootstrap, "LEPTON_MONGO_URL": mongo_url,
        "LEPTON_MONGO_DATABASE": name, "LEPTON_GATEWAY_PORT": str(port), "LEPTON_ADMIN_PORT": str(admin_port),
        "LEPTON_GATEWAY_BOOTSTRAP_FILE": str(tmp_path / "admin-key"), "LEPTON_KEYS_DIR": str(tmp_path / "keys")}
    process = Process(kafka_bootstrap, environment, tmp_path, port)
    process.start()
    try:
        await process.ready()
        yield process
    finally:
        if process.popen is not None and process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()


async def test_a_pipeline_and_its_events_survive_the_process(gateway: Process) -> None:
    name = f"p-{uuid.uuid4().hex[:8]}"
    lines = "\n".join(json.dumps({"event_id": f"e-{n}", "customer": f"c-{n % 7}", "price": n}) for n in range(500))
    async with gateway.client() as client:
        applied = await client.post("/v1/pipelines", content=pipeline(name))
        assert applied.status_code == 201, applied.text
        written = await client.post(f"/v1/pipelines/{name}/events", content=lines,
                                    headers={"content-type": "application/x-ndjson"})
        assert written.status_code == 202, written.text
        places = {one["event_id"]: one["place"] for one in written.json()["events"]}
    assert await asyncio.to_thread(gateway.stop, signal.SIGKILL) == -signal.SIGKILL

    records = await gateway.read(f"lepton-events-{name}")
    assert {Envelope.from_headers(record.headers).event_id: record.place for record in records} == places
    by_customer: dict[bytes, set[int]] = {}
    for record in records:
        by_customer.setdefault(record.key or b"", set()).add(record.partition)
    assert len(by_customer) == 7
    assert all(len(partitions) == 1 for partitions in by_customer.values())

    gateway.start()
    await gateway.ready()
    async with gateway.client() as client:
        again = (await client.post("/v1/pipelines", content=pipeline(name))).json()
        assert (again["version"], again["changed"]) == (1, False)
        assert (await client.post("/v1/keys", json={"scopes": ["read"]})).status_code == 201
        page = (await client.get("/v1/audit")).json()
    mine = [(one["sequence"], one["action"], one["previous_hash"]) for one in page["records"]
            if one["writer"] == gateway.instance]
    assert [one[:2] for one in mine] == [(1, "pipeline.apply"), (2, "key.create")], "one chain over the restart"
    before = next(one["record"] for one in page["records"] if one["writer"] == gateway.instance)
    assert mine[1][2] == digest(base64.b64decode(before)).hex()

    async def announced() -> bool:
        states = [pipelines_pb2.PipelineState.FromString(record.value or b"")
                  for record in await gateway.read("lepton-pipelines") if record.key == name.encode()]
        return [(state.version, state.partitions) for state in states][:1] == [(1, 3)]

    await apoll_until(announced, "the pipeline on lepton-pipelines", 10)
    assert await asyncio.to_thread(gateway.stop) == 0


async def test_sigterm_ends_well_and_takes_the_instance_back(gateway: Process) -> None:
    async def announced() -> list[Record]:
        return [record for record in await gateway.read("lepton-instances")
                if record.key == gateway.instance.encode() and record.value]

    (first, *_) = await apoll_until(announced, "the announcement", 10)
    instance = telemetry_pb2.Instance.FromString(first.value or b"")
    assert instance.address == f"127.0.0.1:{gateway.port}"
    assert await asyncio.to_thread(gateway.stop) == 0
    own = [record for record in await gateway.read("lepton-instances") if record.key == gateway.instance.encode()]
    assert own[-1].value is None, "a tombstone"
    beats = [telemetry_pb2.Telemetry.FromString(record.value or b"")
             for record in await gateway.read("lepton-telemetry") if record.key == gateway.instance.encode()]
    assert [beat.sequence for beat in beats] == list(range(1, len(beats) + 1))
    assert beats[-1].state == telemetry_pb2.INSTANCE_STATE_STOPPED
    assert "Traceback" not in gateway.log


async def test_a_request_under_way_is_answered_before_the_process_ends(gateway: Process) -> None:
    name = f"p-{uuid.uuid4().hex[:8]}"
    arrived = asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield b'{"event_id": "slow",'
        arrived.set()
        await stopping.wait()
        yield b' "customer": "c"}'

    stopping = asyncio.Event()
    async with gateway.client() as client:
        assert (await client.post("/v1/pipelines", content=pipeline(name))).status_code == 201
        posted = asyncio.ensure_future(client.post(f"/v1/pipelines/{name}/events", content=slow_body()))
        await arrived.wait()
        assert gateway.popen is not None
        gateway.popen.send_signal(signal.SIGTERM)

        async def is_stopping() -> bool:
            return "is stopping" in gateway.log

        await apoll_until(is_stopping, "the gateway to begin stopping", 10)
        stopping.set()
        assert (await posted).status_code == 202
    assert await asyncio.to_thread(gateway.popen.wait, 15) == 0
    assert len(await gateway.read(f"lepton-events-{name}")) == 1


@pytest.mark.parametrize(("variable", "value", "said"), [
    ("LEPTON_KAFKA_BOOTSTRAP", "127.0.0.1:1", "127.0.0.1:1"),
    ("LEPTON_MONGO_URL", "mongodb://127.0.0.1:1", "database"),
])
async def test_a_dependency_that_is_away_at_start_is_named_in_one_line(
        gateway: Process, variable: str, value: str, said: str) -> None:
    assert await asyncio.to_thread(gateway.stop) == 0
    (gateway.folder / "log").unlink()
    gateway.environment[variable] = value
    gateway.start()
    assert gateway.popen is not None
    assert await asyncio.to_thread(gateway.popen.wait, 60) == 3
    lines = [json.loads(line) for line in gateway.log.splitlines()]
    fatal = [line for line in lines if line["level"] == "critical"]
    assert len(fatal) == 1 and said in fatal[0]["message"], gateway.log
    assert "Traceback" not in gateway.log


async def test_a_taken_port_is_named_and_nothing_stays_half_started(gateway: Process) -> None:
    second = Process(gateway.bootstrap, gateway.environment | {"LEPTON_INSTANCE": "second", "LEPTON_ADMIN_PORT": "0"},
                     gateway.folder, gateway.port)
    second.start()
    assert second.popen is not None
    assert await asyncio.to_thread(second.popen.wait, 60) == 3
    assert f"cannot listen on 127.0.0.1:{gateway.port}" in second.log
