"""The protocol's calls for operators: the repository, shared memory, how requests are traced, how much is logged."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import grpc_service_pb2_grpc as oip_grpc
from lepton.errors import Invalid, LeptonError, Refused
from services.predictor.edge.memory import SharedMemory
from services.predictor.edge.rpc.calls import Context, end, is_local
from services.predictor.flow.entities import Unsupported
from services.predictor.flow.library import Library
from services.predictor.flow.parking import Shown as Held

_LEVELS = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
_FIXED = {"log_file": "", "log_format": "default"}
_VERBOSE = "log_verbose_level"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Operating:
    """`memory` is None where shared memory is off; `tracing` what the trace settings are."""

    memory: SharedMemory | None
    tracing: Mapping[str, Sequence[str]]


class Control(oip_grpc.GRPCInferenceServiceServicer):
    """All but RepositoryIndex need scope `admin`, which the door has checked."""

    def __init__(self, library: Library, operating: Operating) -> None:
        self._library = library
        self._operating = operating

    async def RepositoryIndex(self, request: oip.RepositoryIndexRequest,
                              context: Context) -> oip.RepositoryIndexResponse:
        shown = self._library.shown()
        return oip.RepositoryIndexResponse(models=[
            _index(one) for one in shown if (one.version and not one.parked) or not request.ready])

    async def RepositoryModelLoad(self, request: oip.RepositoryModelLoadRequest,
                                  context: Context) -> oip.RepositoryModelLoadResponse:
        try:
            if request.parameters:
                raise Invalid("files and configurations come from the registry alone", field=min(request.parameters),
                              remedy="publish a version, then load the model without parameters")
            await self._library.load(request.model_name)
        except LeptonError as error:
            await end(context, error)
        return oip.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: oip.RepositoryModelUnloadRequest,
                                    context: Context) -> oip.RepositoryModelUnloadResponse:
        try:
            await self._library.unload(request.model_name)
        except LeptonError as error:
            await end(context, error)
        return oip.RepositoryModelUnloadResponse()

    async def SystemSharedMemoryStatus(self, request: oip.SystemSharedMemoryStatusRequest,
                                       context: Context) -> oip.SystemSharedMemoryStatusResponse:
        try:
            return self._memory(context).status(request.name)
        except LeptonError as error:
            await end(context, error)

    async def SystemSharedMemoryRegister(self, request: oip.SystemSharedMemoryRegisterRequest,
                                         context: Context) -> oip.SystemSharedMemoryRegisterResponse:
        try:
            self._memory(context).register(request.name, request.key, request.offset, request.byte_size)
        except LeptonError as error:
            await end(context, error)
        return oip.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: oip.SystemSharedMemoryUnregisterRequest,
                                           context: Context) -> oip.SystemSharedMemoryUnregisterResponse:
        try:
            self._memory(context).unregister(request.name)
        except LeptonError as error:
            await end(context, error)
        return oip.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: oip.CudaSharedMemoryStatusRequest,
                                     context: Context) -> oip.CudaSharedMemoryStatusResponse:
        return oip.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(self, request: oip.CudaSharedMemoryRegisterRequest,
                                       context: Context) -> oip.CudaSharedMemoryRegisterResponse:
        await end(context, Unsupported("this server takes no tensors from GPU memory", field="raw_handle",
                                       remedy="use system shared memory, or send tensors in the request"))

    async def CudaSharedMemoryUnregister(self, request: oip.CudaSharedMemoryUnregisterRequest,
                                         context: Context) -> oip.CudaSharedMemoryUnregisterResponse:
        return oip.CudaSharedMemoryUnregisterResponse()

    async def TraceSetting(self, request: oip.TraceSettingRequest, context: Context) -> oip.TraceSettingResponse:
        for name, asked in request.settings.items():
            # An empty value asks for the setting the server started with, which it has.
            if asked.value and list(asked.value) != list(self._operating.tracing.get(name, ())):
                await end(context, Invalid("how requests are traced is fixed while the server runs", field=name,
                                           remedy="set LEPTON_OTLP_ENDPOINT and LEPTON_TRACE_RATIO and restart"))
        return oip.TraceSettingResponse(settings={
            name: oip.TraceSettingResponse.SettingValue(value=value)
            for name, value in self._operating.tracing.items()})

    async def LogSettings(self, request: oip.LogSettingsRequest, context: Context) -> oip.LogSettingsResponse:
        root = logging.getLogger()
        told = _settings(root.level)
        try:
            for name, asked in request.settings.items():
                told[name] = _checked(name, asked, told)
        except Invalid as error:
            await end(context, error)
        level = _level(told)
        if level != root.level:
            log.warning("an operator sets the log level to %s", logging.getLevelName(level))
            root.setLevel(level)
        return oip.LogSettingsResponse(settings={name: _value(value) for name, value in told.items()})

    def _memory(self, context: Context) -> SharedMemory:
        if self._operating.memory is None:
            raise Unsupported("this server uses no shared memory", field="shared_memory_region",
                              remedy="set LEPTON_PREDICTOR_SHARED_MEMORY to local")
        if not is_local(context):
            raise Refused("shared memory is for callers on the same machine", field="shared_memory_region",
                          remedy="send tensors in the request")
        return self._operating.memory


def _index(one: Held) -> Any:
    state = "READY" if one.version and not one.parked else "UNAVAILABLE" if one.settled else "LOADING"
    return oip.RepositoryIndexResponse.ModelIndex(
        name=one.model, version=str(one.version) if one.version else "", state=state, reason=one.reason)


def _settings(level: int) -> dict[str, bool | int | str]:
    """What the log settings are at a level of Python's."""
    return {_VERBOSE: int(level <= logging.DEBUG), **{name: level <= of for name, of in _LEVELS.items()}, **_FIXED}


def _level(told: Mapping[str, bool | int | str]) -> int:
    if told[_VERBOSE]:
        return logging.DEBUG
    return next((of for name, of in _LEVELS.items() if told[name]), logging.CRITICAL)


def _checked(name: str, asked: oip.LogSettingsRequest.SettingValue,
             told: Mapping[str, bool | int | str]) -> bool | int | str:
    kind = asked.WhichOneof("parameter_choice")
    value = getattr(asked, kind) if kind else None
    if name not in told or type(value) is not type(told[name]):
        raise Invalid(f"there is no such log setting, or not with {value!r}", field=name,
                      remedy=f"set one of {', '.join((_VERBOSE, *_LEVELS))}")
    if name in _FIXED and value != _FIXED[name]:
        raise Invalid("where and in which form is logged is fixed while the server runs", field=name,
                      remedy="redirect what it prints, or set LEPTON_LOG_FORMAT and restart")
    found: bool | int | str = value
    return found


def _value(value: bool | int | str) -> oip.LogSettingsResponse.SettingValue:
    if isinstance(value, bool):
        return oip.LogSettingsResponse.SettingValue(bool_param=value)
    if isinstance(value, int):
        return oip.LogSettingsResponse.SettingValue(uint32_param=value)
    return oip.LogSettingsResponse.SettingValue(string_param=value)
