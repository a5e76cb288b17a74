"""How predictors are called: a gRPC channel each; deadline, key and trace on every call; statuses as outcomes."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import Message
from opentelemetry.trace import SpanKind

from lepton.contracts.calls import trailers
from lepton.contracts.pb import grpc_service_pb2 as inference
from lepton.contracts.pb.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from lepton.contracts.pb.prediction_pb2 import FeedbackRequest, FeedbackResponse, PredictRequest, PredictResponse
from lepton.contracts.pb.prediction_pb2_grpc import PredictionStub
from lepton.contracts.pb.telemetry_pb2 import CALL_WAY_REQUEST
from lepton.errors import Busy, Invalid, LeptonError, Missing, Refused, Unavailable
from lepton.runtime import tracing
from lepton.runtime.telemetry import Telemetry
from services.gateway.flow.predictions import Call, Failed, TooLate

if TYPE_CHECKING:
    from lepton.contracts.pb.grpc_service_pb2_grpc import GRPCInferenceServiceAsyncStub

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
OPTIONS = (
    # A predictor that was restarted must be found again at once, not after gRPC's usual two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A frozen one still has its connection; without an answer to a ping the call moves on to another replica.
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)

Answer = TypeVar("Answer")


class Predictors:
    """See `flow.predictions.PredictorPool` for the promises."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def start(self) -> None:
        """Connections are opened by the first call to each address."""

    async def stop(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def predict(self, address: str, request: PredictRequest, call: Call) -> PredictResponse:
        return await self._call("Predict", address, PredictionStub(self._channel(address)).Predict, request, call)

    async def feedback(self, address: str, request: FeedbackRequest, call: Call) -> FeedbackResponse:
        return await self._call("Feedback", address, PredictionStub(self._channel(address)).Feedback, request, call)

    async def infer(self, address: str, request: inference.ModelInferRequest,
                    call: Call) -> inference.ModelInferResponse:
        return await self._call("ModelInfer", address, self._protocol(address).ModelInfer, request, call)

    async def model_metadata(self, address: str, request: inference.ModelMetadataRequest,
                             call: Call) -> inference.ModelMetadataResponse:
        return await self._call("ModelMetadata", address, self._protocol(address).ModelMetadata, request, call)

    async def model_ready(self, address: str, request: inference.ModelReadyRequest, call: Call) -> bool:
        return (await self._call("ModelReady", address, self._protocol(address).ModelReady, request, call)).ready

    async def server_metadata(self, address: str, call: Call) -> inference.ServerMetadataResponse:
        request = inference.ServerMetadataRequest()
        return await self._call("ServerMetadata", address, self._protocol(address).ServerMetadata, request, call)

    async def model_config(self, address: str, request: inference.ModelConfigRequest,
                           call: Call) -> inference.ModelConfigResponse:
        return await self._call("ModelConfig", address, self._protocol(address).ModelConfig, request, call)

    async def model_statistics(self, address: str, request: inference.ModelStatisticsRequest,
                               call: Call) -> inference.ModelStatisticsResponse:
        return await self._call("ModelStatistics", address, self._protocol(address).ModelStatistics, request, call)

    async def index(self, address: str, request: inference.RepositoryIndexRequest,
                    call: Call) -> inference.RepositoryIndexResponse:
        return await self._call("RepositoryIndex", address, self._protocol(address).RepositoryIndex, request, call)

    async def load(self, address: str, request: inference.RepositoryModelLoadRequest, call: Call) -> None:
        await self._call("RepositoryModelLoad", address, self._protocol(address).RepositoryModelLoad, request, call)

    async def unload(self, address: str, request: inference.RepositoryModelUnloadRequest, call: Call) -> None:
        await self._call("RepositoryModelUnload", address, self._protocol(address).RepositoryModelUnload, request,
                         call)

    async def operate(self, address: str, request: Message, call: Call) -> Any:
        name = request.DESCRIPTOR.name.removesuffix("Request")
        return await self._call(name, address, getattr(self._protocol(address), name), request, call)

    def _protocol(self, address: str) -> "GRPCInferenceServiceAsyncStub":
        return GRPCInferenceServiceStub(self._channel(address))

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=OPTIONS)
        return self._channels[address]

    async def _call(self, name: str, address: str, method: Callable[..., Awaitable[Answer]], request: Message,
                    call: Call) -> Answer:
        with (self._telemetry.calls.timed(CALL_WAY_REQUEST, address),
              self._telemetry.span(name, kind=SpanKind.CLIENT, **{"rpc.system": "grpc", "server.address": address})):
            metadata = [("authorization", call.authorization)]
            if (parent := tracing.traceparent()) is not None:
                metadata.append((tracing.HEADER, parent))
            try:
                return await method(request, timeout=call.timeout_s, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise _outcome_of(error, address) from error


def _outcome_of(error: grpc.aio.AioRpcError, address: str) -> LeptonError:
    said = error.details() or error.code().name
    match error.code():
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE | grpc.StatusCode.UNIMPLEMENTED:
            return Invalid(said)
        case grpc.StatusCode.NOT_FOUND:
            return Missing(said)
        case grpc.StatusCode.UNAUTHENTICATED:
            return Refused(said, field="authorization")
        case grpc.StatusCode.PERMISSION_DENIED:
            return Refused(said, field="scope")
        case grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.ABORTED | grpc.StatusCode.ALREADY_EXISTS:
            return Refused(said)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Busy(said, retry_after_s=trailers.retry_after_s(error.trailing_metadata()))
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TooLate("the predictor did not answer in time", place=address, remedy="try again with fewer rows")
        case _:
            # Whatever it is, another replica may answer.
            if any(name == trailers.ANSWERED for name, _ in error.trailing_metadata() or ()):
                return Failed(f"the predictor could not answer: {said}", field="predictor", place=address)
            return Unavailable(f"the predictor did not answer: {said}", field="predictor", place=address)
