"""The Open Inference Protocol over gRPC: which call is which verb of the flow."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import grpc_service_pb2_grpc as oip_grpc
from lepton.errors import LeptonError, Missing, Unavailable
from lepton.runtime.health import Health
from services.predictor.edge import errors
from services.predictor.edge.rpc.auth import Gatekeeper, authorization
from services.predictor.edge.rpc.calls import Calls, Context, end
from services.predictor.edge.rpc.control import Control, Operating
from services.predictor.edge.rpc.unreadable import SAID, takes_none
from services.predictor.flow.library import Library
from services.predictor.flow.predictor import Predictor

MAX_PIPELINED = 64
"""Requests of one stream that may be under way; a client that sends more waits for its answers."""

PROVIDER = "lepton-provider"
"""Initial metadata beside a model's metadata: the execution provider it runs on."""

_INFER = "inference.GRPCInferenceService/ModelInfer"

Answer = asyncio.Task[oip.ModelStreamInferResponse]


@dataclass(frozen=True, slots=True)
class Shown:
    """What the server says of itself."""

    name: str
    extensions: Sequence[str]


class Protocol(Control):
    """Answers; `Control` has the calls of operators."""

    def __init__(self, predictor: Predictor, library: Library, calls: Calls, gate: Gatekeeper, health: Health,
                 shown: Shown, operating: Operating) -> None:
        super().__init__(library, operating)
        self._predictor = predictor
        self._calls = calls
        self._gate = gate
        self._health = health
        self._shown = shown
        self._readers: set[asyncio.Task[bool]] = set()
        self._draining = False

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Context) -> oip.ServerLiveResponse:
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Context) -> oip.ServerReadyResponse:
        return oip.ServerReadyResponse(ready=self._health.ready)

    async def ServerMetadata(self, request: oip.ServerMetadataRequest, context: Context) -> oip.ServerMetadataResponse:
        return oip.ServerMetadataResponse(name=self._shown.name, version="1", extensions=self._shown.extensions)

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Context) -> oip.ModelReadyResponse:
        if self._library.parking.asked(request.name):
            # It answers, once its first request has had it loaded.
            return oip.ModelReadyResponse(ready=True)
        try:
            self._predictor.describe(request.name, request.version)
        except (Missing, Unavailable):
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, context: Context) -> oip.ModelMetadataResponse:
        try:
            await self._predictor.awake(request.name)
            found, provider = self._predictor.describe(request.name, request.version)
        except LeptonError as error:
            await end(context, error)
        await context.send_initial_metadata(((PROVIDER, provider),))
        return found

    async def ModelConfig(self, request: oip.ModelConfigRequest, context: Context) -> oip.ModelConfigResponse:
        try:
            await self._predictor.awake(request.name)
            return oip.ModelConfigResponse(config=self._predictor.config(request.name, request.version))
        except LeptonError as error:
            await end(context, error)

    async def ModelStatistics(self, request: oip.ModelStatisticsRequest,
                              context: Context) -> oip.ModelStatisticsResponse:
        try:
            return self._predictor.statistics(request.name, request.version)
        except LeptonError as error:
            await end(context, error)

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Context) -> oip.ModelInferResponse:
        try:
            with self._calls.begin(context, _INFER, request.model_name) as call:
                response = await self._predictor.infer(request, call)
                call.version = response.model_version
                return response
        except Exception as error:  # noqa: BLE001 - the call has been counted, a bug reported; the caller gets its status
            await end(context, error)

    @takes_none
    async def ModelStreamInfer(self, request_iterator: AsyncIterator[oip.ModelInferRequest | None],
                               context: Context) -> None:
        """Answer in the order asked, many at a time. A stop, or what is no request, ends it after the rest."""
        answers: asyncio.Queue[Answer | None] = asyncio.Queue(MAX_PIPELINED)
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(request_iterator, context, answers, group))
            self._readers.add(reader)
            try:
                while (answer := await answers.get()) is not None:
                    await context.write(await answer)
            finally:
                self._readers.discard(reader)
        if not reader.cancelled() and not reader.result():
            await context.abort(grpc.StatusCode.INTERNAL, SAID, (errors.ANSWERED,))
        if self._draining:
            await end(context, Unavailable("this server is stopping", remedy="open the stream again elsewhere"))

    def drain(self) -> None:
        """Read no more from open streams, so that they end once they are answered."""
        self._draining = True
        for reader in self._readers:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[oip.ModelInferRequest | None], context: Context,
                    answers: asyncio.Queue[Answer | None], group: asyncio.TaskGroup) -> bool:
        """Whether all was read that came."""
        try:
            async for request in requests:
                if request is None:
                    return False
                await answers.put(group.create_task(self._answer(request, context)))
        finally:
            await answers.put(None)
        return True

    async def _answer(self, request: oip.ModelInferRequest, context: Context) -> oip.ModelStreamInferResponse:
        # The flow takes the request apart.
        empty = oip.ModelInferResponse(model_name=request.model_name, id=request.id)
        try:
            with self._calls.begin(context, _INFER, request.model_name) as call:
                # A stream may outlive its key.
                await self._gate.admit(authorization(context.invocation_metadata()))
                response = await self._predictor.infer(request, call)
                call.version = response.model_version
                return oip.ModelStreamInferResponse(infer_response=response)
        except Exception as error:  # noqa: BLE001 - counted, a bug reported; the stream stays open for the others
            return oip.ModelStreamInferResponse(error_message=_told(error), infer_response=empty)


def register(protocol: Protocol, server: grpc.aio.Server) -> str:
    """Add the service to a server; its full name."""
    oip_grpc.add_GRPCInferenceServiceServicer_to_server(protocol, server)
    return str(oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name)


def _told(error: Exception) -> str:
    return f"{errors.status(error).name}: {errors.details(error)}"
