"""The predictor as a process of its own, over a real broker and a real database."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from lepton.bus import kafka
from lepton.bus.records import Broker
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import grpc_service_pb2_grpc as oip_grpc
from lepton.contracts.signing import Identity
from lepton.runtime.settings import BrokerOptions
from lepton.store.mongo import Database
from tests.harness.registry import Registry, trainer
from tests.harness.servers import free_ports
from tests.harness.wait import apoll_until

ROOT = Path(__file__).parents[3]


@dataclass
class Predictor:
    """A running predictor process."""

    process: subprocess.Popen[str]
    grpc_address: str
    admin_address: str

    async def metrics(self) -> str:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://{self.admin_address}/metrics")).text

    async def metric(self, line: str, timeout_s: float = 20) -> None:
        """Wait for a line of /metrics."""
        async def probe() -> bool:
            return line in await self.metrics()
        await apoll_until(probe, line, timeout_s)

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 20)


@dataclass
class Ground:
    """What a predictor stands on: broker, database, trust; `home` holds keys, trust and state."""

    bootstrap: str
    mongo_url: str
    database_name: str
    home: Path
    registry: Registry
    broker: Broker
    database: Database

    @asynccontextmanager
    async def predictor(self, instance: str = "predictor-0", **settings: str) -> AsyncIterator[Predictor]:
        """The process, ready; ended with SIGTERM, and expected to exit 0, unless it ended before."""
        grpc_port, admin_port = free_ports(2)
        given = {
            "LEPTON_INSTANCE": instance, "LEPTON_PREDICTOR_PORT": str(grpc_port), "LEPTON_ADMIN_PORT": str(admin_port),
            "LEPTON_KAFKA_BOOTSTRAP": self.bootstrap, "LEPTON_MONGO_URL": self.mongo_url,
            "LEPTON_MONGO_DATABASE": self.database_name, "LEPTON_TRUST_DIR": str(self.home / "trust"),
            "LEPTON_STATE_DIR": str(self.home / "state"), "LEPTON_DEVICE": "cpu", "LEPTON_LOG_FORMAT": "text",
        }
        process = _begin({**os.environ, **given, **settings}, self.home / f"{instance}.log")
        running = Predictor(process, f"127.0.0.1:{grpc_port}", f"127.0.0.1:{admin_port}")
        try:
            await apoll_until(lambda: _ready(running), f"{instance} to be ready; see {self.home}/{instance}.log", 30)
            yield running
            if process.poll() is None:
                assert await running.terminate() == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    @asynccontextmanager
    async def stub(self, predictor: Predictor) -> AsyncIterator[Any]:
        async with grpc.aio.insecure_channel(predictor.grpc_address) as channel:
            yield oip_grpc.GRPCInferenceServiceStub(channel)


def _begin(environment: dict[str, str], log: Path) -> subprocess.Popen[str]:
    with log.open("a") as sink:
        return subprocess.Popen([sys.executable, "-m", "services.predictor"], cwd=ROOT, stderr=sink, stdout=sink,
                                env=environment, text=True)


async def _ready(predictor: Predictor) -> bool:
    assert predictor.process.poll() is None, "it ended"
    async with httpx.AsyncClient(timeout=1) as client:
        try:
            return (await client.get(f"http://{predictor.admin_address}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
async def ground(tmp_path: Path, kafka_bootstrap: str, mongo_url: str) -> AsyncIterator[Ground]:
    """A database of its own, on the run's broker; the registry's topic is shared, so use model names of your own."""
    identity: Identity = trainer(tmp_path)
    broker = kafka.connect(BrokerOptions(kafka_bootstrap, "ground"))
    name = f"predictor-{uuid.uuid4().hex[:8]}"
    database = Database.connect(mongo_url, name)
    await database.start()
    registry = Registry(broker, database, identity)
    await registry.start()
    yield Ground(kafka_bootstrap, mongo_url, name, tmp_path, registry, broker, database)
    await registry.stop()
    await broker.close()
    await database.drop()
    await database.close()


@pytest.fixture
def model() -> str:
    """A model name no other test uses."""
    return f"m-{uuid.uuid4().hex[:8]}"


def amounts(model: str, *values: float) -> oip.ModelInferRequest:
    """A request for a model with the one field `amount`, in typed contents as any client may send it."""
    request = oip.ModelInferRequest(model_name=model, id=uuid.uuid4().hex)
    tensor = request.inputs.add(name="amount", datatype="FP64", shape=[len(values)])
    tensor.contents.fp64_contents.extend(values)
    return request
