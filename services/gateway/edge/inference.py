"""The Open Inference Protocol over REST, below /v2; bodies are read raw: its clients send no JSON content type."""

import asyncio
from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, Request, Response

from lepton.contracts.pb.grpc_service_pb2 import RepositoryModelLoadRequest, RepositoryModelUnloadRequest
from services.gateway.edge import tensors
from services.gateway.edge.errors import Malformed
from services.gateway.edge.http.answers import Responses, answer, body, described, plain
from services.gateway.edge.http.callers import Administers, Predicts, TheGateway
from services.gateway.edge.protocol import sharing
from services.gateway.edge.protocol.compression import asked_for, packed, unpacked
from services.gateway.flow.data import READ_AT_ONCE_BYTES
from services.gateway.flow.gateway import Gateway

router = APIRouter(prefix="/v2", tags=["inference protocol"])

_TENSOR = {"name": "https", "datatype": "FP64", "shape": [1], "data": [1.0]}
_INFER = body("Tensors as JSON, or raw behind the JSON with `Inference-Header-Content-Length`.", {
    "application/json": ({"type": "object", "required": ["inputs"]}, {"id": "r-1", "inputs": [_TENSOR]}),
    "application/octet-stream": ({"type": "string", "format": "binary"}, "")})
_ANSWER: dict[str, Any] = {"type": "object", "properties": {
    "model_name": {"type": "string"}, "model_version": {"type": "string"}, "id": {"type": "string"},
    "outputs": {"type": "array", "items": {"type": "object"}}}}
_INFERRED: Responses = {200: described("One answer a row.", _ANSWER, {
    "model_name": "phishing", "model_version": "2", "id": "r-1",
    "outputs": [{"name": "label", "datatype": "BOOL", "shape": [1], "data": [True]}]})}
_METADATA: Responses = {200: described("Tensors the model takes and gives.", {"type": "object"}, {
    "name": "phishing", "versions": ["2"], "platform": "onnx",
    "inputs": [{"name": "https", "datatype": "FP64", "shape": [-1]}],
    "outputs": [{"name": "label", "datatype": "BOOL", "shape": [-1]}]})}

_CONFIG: Responses = {200: described("How the model is served.", {"type": "object"}, {
    "name": "phishing", "platform": "onnxruntime_onnx", "backend": "onnxruntime", "max_batch_size": 4096,
    "input": [{"name": "https", "data_type": "TYPE_FP64", "dims": []}]})}
_STATISTICS: Responses = {200: described("What the predictors did for requests, together.", {"type": "object"}, {
    "model_stats": [{"name": "phishing", "version": "2", "inference_count": 5, "execution_count": 2,
                     "inference_stats": {"success": {"count": 3, "ns": 900000}}}]})}
_INDEX = body("Whether only models that answer are listed.", {
    "application/json": ({"type": "object", "properties": {"ready": {"type": "boolean"}}}, {"ready": True})},
    required=False)
_INDEXED: Responses = {200: described("The models.", {"type": "object"}, [
    {"name": "phishing", "version": "2", "state": "READY", "reason": ""}], many=True)}
_OPERATE = body("Parameters of the protocol; `unload_dependents` changes nothing, others are refused.", {
    "application/json": ({"type": "object", "properties": {"parameters": {"type": "object"}}}, {})}, required=False)
_OPERATED: Responses = {200: {"description": "It is done."}}

Form = TypeVar("Form")


class _Index(msgspec.Struct):
    ready: bool = False


class _Operate(msgspec.Struct):
    parameters: dict[str, Any] = {}


@router.get("/health/live", summary="Is the server alive")
async def live() -> Response:
    """Open to all: answers while the process does."""
    return answer({"live": True})


@router.get("/health/ready", summary="Is the server ready", responses={503: {"description": "No predictor is."}})
async def ready(gateway: TheGateway) -> Response:
    """Open to all: whether some predictor can be asked."""
    is_ready = gateway.predictions.ready()
    return answer({"ready": is_ready}, 200 if is_ready else 503)


@router.get("", summary="Server metadata", responses={
    200: described("Who answers.", {"type": "object"}, {"name": "lepton", "version": "0.1.0", "extensions": []})})
async def server(request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return answer(plain(await gateway.predictions.server_metadata(_authorization(request))))


@router.get("/models/stats", summary="Statistics of all models", responses=_STATISTICS)
async def statistics(request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return answer(plain(await gateway.predictions.statistics(_authorization(request))))


@router.get("/models/{model}", summary="Model metadata", responses=_METADATA)
async def metadata(model: str, request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return answer(plain(await gateway.predictions.metadata(_authorization(request), model)))


@router.get("/models/{model}/versions/{version}", summary="Metadata of a version", responses=_METADATA)
async def version_metadata(model: str, version: str, request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return answer(plain(await gateway.predictions.metadata(_authorization(request), model, version)))


@router.get("/models/{model}/ready", summary="Is a model ready")
async def model_ready(model: str, request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return await _ready(request, gateway, model, "")


@router.get("/models/{model}/versions/{version}/ready", summary="Is a version ready")
async def version_ready(model: str, version: str, request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return await _ready(request, gateway, model, version)


@router.post("/models/{model}/infer", summary="Infer", openapi_extra=_INFER, responses=_INFERRED)
async def infer(model: str, request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return await _infer(request, gateway, model, "")


@router.post("/models/{model}/versions/{version}/infer", summary="Infer with a version", openapi_extra=_INFER,
             responses=_INFERRED)
async def version_infer(model: str, version: str, request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return await _infer(request, gateway, model, version)


@router.get("/models/{model}/config", summary="Model configuration", responses=_CONFIG)
async def config(model: str, request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return answer(plain(await gateway.predictions.config(_authorization(request), model)))


@router.get("/models/{model}/versions/{version}/config", summary="Configuration of a version", responses=_CONFIG)
async def version_config(model: str, version: str, request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return answer(plain(await gateway.predictions.config(_authorization(request), model, version)))


@router.get("/models/{model}/stats", summary="Statistics of a model", responses=_STATISTICS)
async def model_statistics(model: str, request: Request, gateway: TheGateway, _: Predicts) -> Response:
    return answer(plain(await gateway.predictions.statistics(_authorization(request), model)))


@router.get("/models/{model}/versions/{version}/stats", summary="Statistics of a version", responses=_STATISTICS)
async def version_statistics(model: str, version: str, request: Request, gateway: TheGateway,
                             _: Predicts) -> Response:
    return answer(plain(await gateway.predictions.statistics(_authorization(request), model, version)))


@router.post("/repository/index", summary="Models and their states", openapi_extra=_INDEX, responses=_INDEXED)
async def index(request: Request, gateway: TheGateway, _: Predicts) -> Response:
    asked = _read(await request.body(), _Index)
    found = await gateway.predictions.index(_authorization(request), ready=asked.ready)
    return answer([plain(one) for one in found.models])


@router.post("/repository/models/{model}/load", summary="Load a model again", openapi_extra=_OPERATE,
             responses=_OPERATED)
async def load(model: str, request: Request, gateway: TheGateway, _: Administers) -> Response:
    """Every predictor serves again what the registry names. Files and configurations come from there alone."""
    asked = _read(await request.body(), _Operate)
    wanted = RepositoryModelLoadRequest(model_name=model)
    for name in asked.parameters:
        wanted.parameters[name].bool_param = True
    await gateway.predictions.load(_authorization(request), wanted)
    return Response(status_code=200)


@router.post("/repository/models/{model}/unload", summary="Unload a model", openapi_extra=_OPERATE,
             responses=_OPERATED)
async def unload(model: str, request: Request, gateway: TheGateway, _: Administers) -> Response:
    """Every predictor frees the model's memory until it is loaded again; refused while a pipeline's stream needs it."""
    _read(await request.body(), _Operate)
    await gateway.predictions.unload(_authorization(request), RepositoryModelUnloadRequest(model_name=model))
    return Response(status_code=200)


def _read(content: bytes, form: type[Form]) -> Form:
    """Raises Malformed. No body is an empty one: that is what the protocol's clients send."""
    try:
        return msgspec.json.decode(content or b"{}", type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the request cannot be read: {error}", field="body") from error


async def _infer(request: Request, gateway: Gateway, model: str, version: str) -> Response:
    headers = request.headers
    given = await request.body()
    if coding := headers.get("content-encoding", ""):
        given = await asyncio.to_thread(unpacked, given, coding, request.app.max_body_size)
    told = (model, version, given, headers.get(tensors.BINARY_HEADER))
    # As for events: a thread costs more than a few rows, and less than others wait for megabytes.
    asked, wanted = tensors.read(*told) if len(given) <= READ_AT_ONCE_BYTES else \
        await asyncio.to_thread(tensors.read, *told)
    if sharing.names_memory(asked):
        sharing.require_here(request)
    content, json_length = tensors.write(await gateway.predictions.infer(_authorization(request), asked), wanted)
    shown: dict[str, str] = {}
    if coding := asked_for(headers.get("accept-encoding", ""), len(content)):
        content = await asyncio.to_thread(packed, content, coding)
        shown["content-encoding"] = coding
    if json_length is None:
        return Response(content, headers=shown, media_type="application/json")
    shown[tensors.BINARY_HEADER] = str(json_length)
    return Response(content, headers=shown, media_type="application/octet-stream")


async def _ready(request: Request, gateway: Gateway, model: str, version: str) -> Response:
    is_ready = await gateway.predictions.model_ready(_authorization(request), model, version)
    return answer({"name": model, "ready": is_ready}, 200 if is_ready else 503)


def _authorization(request: Request) -> str:
    return request.headers["authorization"]
