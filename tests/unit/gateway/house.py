"""A whole gateway in the test's own process, on a broker and a database in memory, and a predictor for it to ask."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx

from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, Record, TopicPlan
from lepton.clock import SystemClock
from lepton.contracts import codec, topics
from lepton.contracts.pb import grpc_service_pb2 as inference
from lepton.contracts.pb import grpc_service_pb2_grpc, prediction_pb2, prediction_pb2_grpc, telemetry_pb2
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service
from lepton.store.memory import MemoryDatabase
from services.gateway.app import assemble
from services.gateway.settings import GatewaySettings
from tests.harness.wait import apoll_until

PIPELINE = """\
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events:
  id: event_id
  entity: customer
  partitions: 4
  fields:
    price: {type: float, range: [0, 1000]}
    colour: {type: category, categories: [red, blue]}
  label: {field: bought, type: bool, arrives: later}
"""


@dataclass
class House:
    """The gateway under test. `admin` comes with the key that was made at first start."""

    broker: MemoryBroker
    database: MemoryDatabase
    service: Service
    settings: GatewaySettings
    address: str
    admin: httpx.AsyncClient
    _clients: list[httpx.AsyncClient] = field(default_factory=list)

    def client(self, key: str = "") -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        client = httpx.AsyncClient(base_url=f"http://{self.address}", headers=headers, trust_env=False, timeout=20)
        self._clients.append(client)
        return client

    async def with_scopes(self, *scopes: str) -> httpx.AsyncClient:
        made = await self.admin.post("/v1/keys", json={"scopes": scopes})
        return self.client(made.json()["key"])

    async def apply(self, text: str = PIPELINE, **parameters: Any) -> httpx.Response:
        return await self.admin.post("/v1/pipelines", content=text, params=parameters,
                                     headers={"content-type": "application/yaml"})

    async def records(self, topic_name: str) -> list[Record]:
        """Everything on a topic, by partition and offset."""
        reader = self.broker.reader([topic_name], group=None, client_id="test")
        await reader.start()
        found: list[Record] = []
        ends = await reader.end_offsets(sorted(reader.assignment()))
        while any(reader.position(place) < end for place, end in ends.items()):
            for records in (await reader.poll(max_records=1000, timeout_s=0.1)).values():
                found.extend(records)
        await reader.stop()
        return found

    async def messages(self, topic: Topic) -> list[Any]:
        return [codec.decode(topic, record.value) for record in await self.records(topics.name(topic)) if record.value]

    async def announce(self, topic: Topic, key: str, message: Any) -> None:
        writer = self.broker.writer("test")
        await writer.send(Outgoing(topics.name(topic), codec.encode(topic, message), key.encode()))

    async def until(self, path: str, ready: Callable[[httpx.Response], bool], what: str,
                    wait_s: float = 5) -> httpx.Response:
        """Ask until the answer is as wanted: what is followed from a topic arrives a moment later."""
        async def probe() -> httpx.Response | None:
            response = await self.admin.get(path)
            return response if ready(response) else None
        found = await apoll_until(probe, what, wait_s, every_s=0.01)
        assert found is not None
        return found


@asynccontextmanager
async def open_house(folder: Path, broker: MemoryBroker | None = None, database: MemoryDatabase | None = None,
                     **settings: Any) -> AsyncIterator[House]:
    """A gateway that is ready; afterwards it is stopped and must have ended well."""
    broker, database = broker or MemoryBroker(), database or MemoryDatabase()
    await broker.create_topics([TopicPlan(*plan) for plan in topics.plans()])
    told = GatewaySettings(port=0, bootstrap_file=folder / "admin-key", keys_dir=folder / "keys", drain_s=2,
                           state_dir=folder / "state", heartbeat_interval_s=0.1, **settings)
    service = assemble(told, broker, database, SystemClock())
    running = asyncio.ensure_future(service.run())

    async def ready() -> bool:
        return service.health.ready or running.done()

    await apoll_until(ready, "the gateway to be ready", 10, every_s=0.01)
    assert not running.done(), "the gateway ended at start"
    house = House(broker, database, service, told, await _address(broker), httpx.AsyncClient())
    key = told.bootstrap_file.read_text().strip() if told.bootstrap_file.exists() else ""
    await house.admin.aclose()
    house.admin = house.client(key)
    try:
        yield house
    finally:
        for client in house._clients:
            await client.aclose()
        service.request_stop()
        assert await running == 0


async def _address(broker: MemoryBroker) -> str:
    async def probe() -> str:
        for record in reversed(broker.topic(Topic.INSTANCES).logs[0].records):
            if record.key == b"gateway" and record.value:
                address = telemetry_pb2.Instance.FromString(record.value).address
                return "" if address.endswith(":0") else address
        return ""
    return await apoll_until(probe, "the gateway to announce its address", 5, every_s=0.01)


Answer = Callable[[Any, Any], Awaitable[Any]]


class Predictor(grpc_service_pb2_grpc.GRPCInferenceServiceServicer, prediction_pb2_grpc.PredictionServicer):
    """A predictor's wire: records what it is asked and says what it is told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.deadlines: list[float] = []
        self.fails: tuple[Any, ...] | None = None
        """Status, details, and trailing metadata where there is some."""
        self.hangs = False
        self.answers: inference.ModelInferResponse | None = None
        """What ModelInfer gives instead of its inputs."""
        self.regions: dict[str, Any] = {}

    async def _enter(self, request: Any, context: Any) -> None:
        self.asked.append(request)
        self.metadata.append({name: str(value) for name, value in context.invocation_metadata()})
        self.deadlines.append(context.time_remaining())
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            await context.abort(*self.fails)

    async def Predict(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        return prediction_pb2.PredictResponse(
            model=request.model, version=request.version or 7, request_id=request.request_id,
            rows=[prediction_pb2.RowPrediction(label=self.name, probabilities={self.name: 0.75})
                  for _ in request.rows or request.entities])

    async def Feedback(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        return prediction_pb2.FeedbackResponse(
            event_ids=[one.event_id or "found" for one in request.outcomes],
            opinion_event_ids=[one.event_id or "found" for one in request.opinions])

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Gives every input back as an output."""
        await self._enter(request, context)
        if self.answers is not None:
            return self.answers
        outputs = [inference.ModelInferResponse.InferOutputTensor(
            name=tensor.name, datatype=tensor.datatype, shape=tensor.shape) for tensor in request.inputs]
        return inference.ModelInferResponse(model_name=request.model_name, model_version="7", id=request.id,
                                            outputs=outputs, raw_output_contents=request.raw_input_contents)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        tensor = inference.ModelMetadataResponse.TensorMetadata(name="price", datatype="FP64", shape=[-1])
        return inference.ModelMetadataResponse(name=request.name, versions=[request.version or "7"], platform="onnx",
                                               inputs=[tensor])

    async def ModelReady(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        return inference.ModelReadyResponse(ready=request.version != "9")

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        return inference.ServerMetadataResponse(name="lepton", version="1", extensions=["binary_tensor_data"])

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        return inference.ModelConfigResponse(config=inference.ModelConfig(
            name=request.name, platform="onnx", max_batch_size=64,
            input=[inference.ModelInput(name="price", data_type=inference.TYPE_FP64)]))

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        spent = inference.StatisticDuration(count=2, ns=3_000_000_000)
        return inference.ModelStatisticsResponse(model_stats=[inference.ModelStatistics(
            name=request.name or "shop", version="7", inference_count=5, execution_count=1,
            inference_stats=inference.InferStatistics(success=spent), last_inference=len(self.name),
            batch_stats=[inference.InferBatchStatistics(batch_size=5, compute_infer=spent)])])

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        return inference.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        return inference.RepositoryModelUnloadResponse()

    async def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        self.regions[request.name] = request
        return inference.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        self.regions.pop(request.name, None)
        return inference.SystemSharedMemoryUnregisterResponse()

    async def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        status = inference.SystemSharedMemoryStatusResponse.RegionStatus
        return inference.SystemSharedMemoryStatusResponse(regions={name: status(
            name=name, key=one.key, offset=one.offset, byte_size=one.byte_size) for name, one in self.regions.items()})

    async def TraceSetting(self, request: Any, context: Any) -> Any:
        """Has the settings that it is asked for."""
        await self._enter(request, context)
        return inference.TraceSettingResponse(settings={
            name: inference.TraceSettingResponse.SettingValue(value=one.value)
            for name, one in request.settings.items()})

    async def LogSettings(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        return inference.LogSettingsResponse.FromString(request.SerializeToString())

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return inference.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return inference.ServerReadyResponse(ready=True)

    async def ModelStreamInfer(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        async for request in request_iterator:
            yield inference.ModelStreamInferResponse(infer_response=await self.ModelInfer(request, context))

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        await self._enter(request, context)
        return inference.RepositoryIndexResponse(models=[
            inference.RepositoryIndexResponse.ModelIndex(name="shop", version="7", state="READY")])


@asynccontextmanager
async def predictor(house: House, name: str = "predictor-0", model: str = "shop", load: float = 0.0,
                    ) -> AsyncIterator[tuple[Predictor, grpc.aio.Server]]:
    """A predictor that serves `model` and has announced itself to the gateway."""
    # Calls that it does not know are answered with UNIMPLEMENTED, by the servicer it is made from.
    make: Any = Predictor
    said: Predictor = make(name)
    server = grpc.aio.server()
    grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(said, server)
    prediction_pb2_grpc.add_PredictionServicer_to_server(said, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    instance = telemetry_pb2.Instance(
        instance=name, service="predictor", boot_id=f"boot-{name}", state=telemetry_pb2.INSTANCE_STATE_READY,
        address=f"127.0.0.1:{port}", load=load, models=[telemetry_pb2.ServedModel(model=model, version=7, revision=1)])
    instance.at.GetCurrentTime()
    await house.announce(Topic.INSTANCES, name, instance)
    await house.until("/v1/instances", lambda said: name in said.text, f"{name} to be known")
    try:
        yield said, server
    finally:
        await server.stop(0)
