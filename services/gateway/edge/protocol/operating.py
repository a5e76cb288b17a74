"""What the protocol lets an operator do over REST: shared memory, how requests are traced, how much is logged.

Every predictor is asked; each call needs scope `admin`.
"""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Invalid
from services.gateway.edge.errors import Malformed
from services.gateway.edge.http.answers import Responses, answer, body, described, plain
from services.gateway.edge.http.callers import Administers, TheGateway
from services.gateway.edge.protocol.sharing import require_here
from services.gateway.flow.gateway import Gateway

router = APIRouter(prefix="/v2", tags=["inference protocol"])

_REGION = {"name": "in", "key": "/made_by_the_client", "offset": 0, "byte_size": 1024}
_REGIONS: Responses = {200: described("The regions.", {"type": "object"}, [_REGION], many=True)}
_REGISTER = body("Which object of POSIX shared memory, and which part of it.", {"application/json": (
    {"type": "object", "required": ["key", "byte_size"], "properties": {
        "key": {"type": "string"}, "offset": {"type": "integer"}, "byte_size": {"type": "integer"}}},
    {"key": "/made_by_the_client", "offset": 0, "byte_size": 1024})})
_SETTINGS = body("Settings by name; null asks for what the server started with.",
                 {"application/json": ({"type": "object"}, {})}, required=False)
_TRACING: dict[str, Any] = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "-1",
                            "trace_mode": "opentelemetry"}
_TRACED: Responses = {200: described("How requests are traced.", {"type": "object"}, _TRACING)}
_LOGGING: dict[str, Any] = {"log_file": "", "log_info": True, "log_warning": True, "log_error": True,
                            "log_verbose_level": 0, "log_format": "default"}
_LOGGED: Responses = {200: described("What is logged.", {"type": "object"}, _LOGGING)}
_DONE: Responses = {200: {"description": "It is done."}}
_UNKNOWN = "a setting is a text, a number, a truth value, a list of them, or null"


class _Part(msgspec.Struct):
    key: str
    byte_size: int
    offset: int = 0


@router.get("/systemsharedmemory/status", summary="Regions of shared memory", responses=_REGIONS)
async def regions(request: Request, gateway: TheGateway, _: Administers) -> Response:
    return await _regions(request, gateway, "")


@router.get("/systemsharedmemory/region/{name}/status", summary="One region of shared memory", responses=_REGIONS)
async def region(name: str, request: Request, gateway: TheGateway, _: Administers) -> Response:
    return await _regions(request, gateway, name)


@router.post("/systemsharedmemory/region/{name}/register", summary="Register shared memory",
             openapi_extra=_REGISTER, responses=_DONE)
async def register(name: str, request: Request, gateway: TheGateway, _: Administers) -> Response:
    """For callers on the machine of gateway and predictors; registered with every predictor, or with none."""
    require_here(request)
    part = _read(await request.body(), _Part)
    if part.byte_size < 0 or part.offset < 0:
        raise Invalid("a region begins within its object and has a size", field="byte_size")
    await gateway.predictions.operate(
        _authorization(request),
        oip.SystemSharedMemoryRegisterRequest(name=name, key=part.key, offset=part.offset, byte_size=part.byte_size),
        undo=oip.SystemSharedMemoryUnregisterRequest(name=name))
    return Response(status_code=200)


@router.post("/systemsharedmemory/unregister", summary="Let all shared memory go", responses=_DONE)
async def unregister_all(request: Request, gateway: TheGateway, _: Administers) -> Response:
    return await _unregister(request, gateway, "")


@router.post("/systemsharedmemory/region/{name}/unregister", summary="Let a region go", responses=_DONE)
async def unregister(name: str, request: Request, gateway: TheGateway, _: Administers) -> Response:
    return await _unregister(request, gateway, name)


@router.get("/cudasharedmemory/status", summary="Regions of GPU memory", responses=_REGIONS)
async def cuda_regions(request: Request, gateway: TheGateway, _: Administers) -> Response:
    """None: predictors take no tensors from GPU memory."""
    found = await gateway.predictions.operate(_authorization(request), oip.CudaSharedMemoryStatusRequest())
    return answer([plain(one) for one in found.regions.values()])


@router.post("/cudasharedmemory/region/{name}/register", summary="Register GPU memory", responses=_DONE)
async def register_cuda(name: str, request: Request, gateway: TheGateway, _: Administers) -> Response:
    """Refused: predictors take no tensors from GPU memory."""
    await gateway.predictions.operate(_authorization(request), oip.CudaSharedMemoryRegisterRequest(name=name))
    return Response(status_code=200)


@router.post("/cudasharedmemory/unregister", summary="Let all GPU memory go", responses=_DONE)
async def unregister_all_cuda(request: Request, gateway: TheGateway, _: Administers) -> Response:
    await gateway.predictions.operate(_authorization(request), oip.CudaSharedMemoryUnregisterRequest())
    return Response(status_code=200)


@router.post("/cudasharedmemory/region/{name}/unregister", summary="Let a region of GPU memory go", responses=_DONE)
async def unregister_cuda(name: str, request: Request, gateway: TheGateway, _: Administers) -> Response:
    await gateway.predictions.operate(_authorization(request), oip.CudaSharedMemoryUnregisterRequest(name=name))
    return Response(status_code=200)


@router.get("/trace/setting", summary="How requests are traced", responses=_TRACED)
async def tracing(request: Request, gateway: TheGateway, _: Administers) -> Response:
    return await _trace(request, gateway, "", {})


@router.post("/trace/setting", summary="Ask for another way of tracing", openapi_extra=_SETTINGS, responses=_TRACED)
async def trace(request: Request, gateway: TheGateway, _: Administers) -> Response:
    """Refused unless it is what holds already: settings and a restart change it."""
    return await _trace(request, gateway, "", _read(await request.body(), dict[str, Any]))


@router.get("/models/{model}/trace/setting", summary="How a model's requests are traced", responses=_TRACED)
async def model_tracing(model: str, request: Request, gateway: TheGateway, _: Administers) -> Response:
    """As those of all models."""
    return await _trace(request, gateway, model, {})


@router.post("/models/{model}/trace/setting", summary="Ask for another way of tracing a model",
             openapi_extra=_SETTINGS, responses=_TRACED)
async def model_trace(model: str, request: Request, gateway: TheGateway, _: Administers) -> Response:
    return await _trace(request, gateway, model, _read(await request.body(), dict[str, Any]))


@router.get("/logging", summary="What predictors log", responses=_LOGGED)
async def logged(request: Request, gateway: TheGateway, _: Administers) -> Response:
    return await _log(request, gateway, {})


@router.post("/logging", summary="Have predictors log more, or less", openapi_extra=_SETTINGS, responses=_LOGGED)
async def log(request: Request, gateway: TheGateway, _: Administers) -> Response:
    """Until they are restarted."""
    return await _log(request, gateway, _read(await request.body(), dict[str, Any]))


async def _regions(request: Request, gateway: Gateway, name: str) -> Response:
    require_here(request)
    found = await gateway.predictions.operate(_authorization(request),
                                              oip.SystemSharedMemoryStatusRequest(name=name))
    return answer([plain(one) for one in found.regions.values()])


async def _unregister(request: Request, gateway: Gateway, name: str) -> Response:
    require_here(request)
    await gateway.predictions.operate(_authorization(request), oip.SystemSharedMemoryUnregisterRequest(name=name))
    return Response(status_code=200)


async def _trace(request: Request, gateway: Gateway, model: str, settings: dict[str, Any]) -> Response:
    asked = oip.TraceSettingRequest(model_name=model)
    for name, value in settings.items():
        values = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(one, str | int | float) for one in values):
            raise Invalid(_UNKNOWN, field=name)
        asked.settings[name].value.extend(str(one) for one in values)
    said = await gateway.predictions.operate(_authorization(request), asked)
    return answer({name: list(one.value) if name == "trace_level" else "".join(one.value)
                   for name, one in said.settings.items()})


async def _log(request: Request, gateway: Gateway, settings: dict[str, Any]) -> Response:
    asked = oip.LogSettingsRequest()
    for name, value in settings.items():
        match value:
            case bool():
                asked.settings[name].bool_param = value
            case int() if 0 <= value < 2**32:
                asked.settings[name].uint32_param = value
            case str():
                asked.settings[name].string_param = value
            case None:
                # What it started with is not known here, so it stays as it is.
                continue
            case _:
                raise Invalid(_UNKNOWN, field=name)
    said = await gateway.predictions.operate(_authorization(request), asked)
    return answer({name: getattr(one, one.WhichOneof("parameter_choice")) for name, one in said.settings.items()})


def _read(content: bytes, form: Any) -> Any:
    """Raises Malformed. No body is an empty one."""
    try:
        return msgspec.json.decode(content or b"{}", type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the request cannot be read: {error}", field="body") from error


def _authorization(request: Request) -> str:
    return request.headers["authorization"]
