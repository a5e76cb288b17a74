"""The whole predictor in one process over memory, its gRPC door on loopback, driven only by messages."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from lepton.bus.memory import MemoryBroker
from lepton.contracts import codec, topics
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import grpc_service_pb2_grpc as oip_grpc
from lepton.contracts.pb import predictions_pb2, telemetry_pb2
from lepton.contracts.topics import Topic
from lepton.errors import Unavailable
from lepton.runtime.service import Service
from lepton.store.memory import MemoryDatabase
from services.predictor.app import assemble
from services.predictor.settings import PredictorSettings
from tests.harness.bus import read_all
from tests.harness.predictions import served
from tests.harness.registry import Registry, trainer
from tests.harness.wait import apoll_until


@dataclass
class World:
    """A predictor and what stands around it. `metadata` carries a key with scope predict."""

    service: Service
    registry: Registry
    broker: MemoryBroker
    database: MemoryDatabase
    address: str
    metadata: tuple[tuple[str, str], ...]
    channel: grpc.aio.Channel
    _asked: int = 0

    @property
    def stub(self) -> Any:
        return oip_grpc.GRPCInferenceServiceStub(self.channel)

    async def serving(self, model: str, version: int) -> None:
        """Wait until `version` answers."""
        async def probe() -> bool:
            index = await self.stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True), metadata=self.metadata)
            if not any(one.name == model and one.version == str(version) for one in index.models):
                return False
            answer = await self.stub.ModelInfer(amounts(model, 1.0), metadata=self.metadata)
            return bool(answer.model_version == str(version))
        await apoll_until(probe, f"{model} v{version} to answer", 10)

    async def predictions(self, pipeline: str, count: int,
                          generation: int = 1) -> list[predictions_pb2.PredictionServed]:
        """Everything on the pipeline's predictions topic, once it is at least `count`."""
        found: list[predictions_pb2.PredictionServed] = []
        topic = topics.name(Topic.PREDICTIONS, pipeline, generation)

        async def probe() -> bool:
            found[:] = served(await read_all(self.broker, topic))
            return len(found) >= count
        await apoll_until(probe, f"{count} predictions", 10)
        return found

    @contextmanager
    def away(self) -> Iterator[None]:
        """The database does not answer inside the block."""
        documents = self.database.collection("keys")
        asked, self._asked = documents.get, 0

        async def get(key: str) -> None:
            self._asked += 1
            raise Unavailable("the database is away")

        documents.get = get  # type: ignore[method-assign]
        try:
            yield
        finally:
            documents.get = asked  # type: ignore[method-assign]

    async def lookups(self, count: int) -> None:
        """Wait until the database was asked so often while it was away."""
        async def probe() -> bool:
            return self._asked >= count
        await apoll_until(probe, f"{count} look-ups", 10)

    def checks(self) -> list[str]:
        """Names of the health checks there are."""
        return list(self.service.health.report()["checks"])  # type: ignore[call-overload, no-any-return]

    def metrics(self) -> str:
        return self.service.telemetry.exposition().decode()

    async def metric(self, line: str) -> None:
        """Wait for a line of /metrics."""
        async def probe() -> bool:
            return line in self.metrics()
        await apoll_until(probe, f"{line} in\n{self.metrics()}", 10)


@asynccontextmanager
async def world(home: Path, **settings: Any) -> AsyncIterator[World]:
    """Ready when entered; stopped in good order when left, and expected to exit 0."""
    broker, database = MemoryBroker(), MemoryDatabase()
    mine = Registry(broker, database, trainer(home))
    await mine.start()
    given = PredictorSettings(**{
        "instance": "predictor-0", "port": 0, "device": "cpu", "trust_dir": home / "trust",
        "state_dir": home / "state", "heartbeat_interval_s": 0.05, "drain_s": 4.0, **settings})
    service = Service("predictor", given)
    assemble(given, service, broker, database)
    running = asyncio.ensure_future(service.run())
    address = await _address(broker)
    async with grpc.aio.insecure_channel(address) as channel:
        key = await mine.key()
        try:
            yield World(service, mine, broker, database, address, (("authorization", key),), channel)
        finally:
            service.request_stop()
            assert await asyncio.wait_for(running, 15) == 0
            await mine.stop()


async def _address(broker: MemoryBroker) -> str:
    ready: list[str] = []

    async def probe() -> bool:
        for record in await read_all(broker, Topic.INSTANCES):
            if record.value is not None:
                instance = codec.decode_as(Topic.INSTANCES, telemetry_pb2.Instance, record.value)
                if instance.state == telemetry_pb2.INSTANCE_STATE_READY:
                    ready.append(instance.address)
        return bool(ready)

    await apoll_until(probe, "the predictor to be ready", 10)
    return ready[-1]


def amounts(model: str, *values: float, request_id: str = "") -> oip.ModelInferRequest:
    """A request for a model with the one field `amount`."""
    request = oip.ModelInferRequest(model_name=model, id=request_id)
    tensor = request.inputs.add(name="amount", datatype="FP64", shape=[len(values)])
    tensor.contents.fp64_contents.extend(values)
    return request


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a call that must fail ended."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


async def turned_away(count: int, calls: set[asyncio.Task[Any]]) -> None:
    """Wait for `count` of the calls to be refused for want of room, each told when to come back; they are taken out."""
    for _ in range(count):
        (ended, *_), _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        calls.remove(ended)
        error = ended.exception()
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert float(dict(error.trailing_metadata() or ())["retry-after-s"]) > 0
