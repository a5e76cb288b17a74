"""What the predictor's benchmarks run it in: a broker, a database and a registry of their own, on loopback."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from lepton.bus import kafka
from lepton.runtime.settings import BrokerOptions
from lepton.store.mongo import Database
from tests.harness.registry import Registry, trainer
from tests.harness.servers import free_ports, start_database, start_kafka
from tests.harness.wait import poll_until

_NAME = "bench"


@dataclass(frozen=True, slots=True)
class Place:
    """Where models are published, and predictors are told to find them; `key` lets a caller in."""

    home: Path
    registry: Registry
    key: str
    environment: Mapping[str, str]

    @contextmanager
    def predictor(self, **settings: str) -> Iterator[tuple[str, str, psutil.Process]]:
        """gRPC address, admin address and process of a predictor that is ready; `settings` are added to its own."""
        grpc_port, admin_port = free_ports(2)
        with (self.home / "predictor.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.predictor"], stdout=log, stderr=log,
                env={**os.environ, **self.environment, "LEPTON_PREDICTOR_PORT": str(grpc_port),
                     "LEPTON_ADMIN_PORT": str(admin_port), "LEPTON_DEVICE": "cpu", **settings})
        admin = f"127.0.0.1:{admin_port}"
        try:
            poll_until(lambda: process.poll() is not None or _ready(admin), "the predictor", 60)
            if process.poll() is not None:
                raise RuntimeError((self.home / "predictor.log").read_text()[-2000:])
            yield f"127.0.0.1:{grpc_port}", admin, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def in_place(work: Callable[[Place], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """What `work` finds in a place that is there for it alone."""
    async def _work(home: Path, bootstrap: str, mongo_url: str) -> dict[str, Any]:
        async with _furnished(home, bootstrap, mongo_url) as place:
            return await work(place)

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in ("kafka", "database"):
            (home / name).mkdir()
        broker, database = start_kafka(home / "kafka"), start_database(home / "database")
        try:
            return asyncio.run(_work(home, broker.address, f"mongodb://{database.address}"))
        finally:
            broker.stop()
            database.stop()


@contextmanager
def echo(*command: str | Path) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of a server that says its address first, and lives until it is ended."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def with_cpu(server: psutil.Process, load: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a load saw, with the server's CPU microseconds a request beside."""
    before = sum(server.cpu_times()[:2])
    seen = load()
    return {**seen, "cpu_us": (sum(server.cpu_times()[:2]) - before) / max(1, seen["requests"]) * 1e6}


@asynccontextmanager
async def _furnished(home: Path, bootstrap: str, mongo_url: str) -> AsyncIterator[Place]:
    broker = kafka.connect(BrokerOptions(bootstrap, _NAME))
    database = Database.connect(mongo_url, _NAME)
    await database.start()
    registry = Registry(broker, database, trainer(home))
    await registry.start()
    try:
        yield Place(home, registry, await registry.key(), {
            "LEPTON_KAFKA_BOOTSTRAP": bootstrap, "LEPTON_MONGO_URL": mongo_url, "LEPTON_MONGO_DATABASE": _NAME,
            "LEPTON_TRUST_DIR": str(home / "trust"), "LEPTON_STATE_DIR": str(home / "state")})
    finally:
        await registry.stop()
        await broker.close()
        await database.close()


def _ready(admin: str) -> bool:
    try:
        return httpx.get(f"http://{admin}/readyz", timeout=1).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
