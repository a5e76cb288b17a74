"""Tensors in shared memory as the protocol's REST form names them, and who may name them: callers on this machine."""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import Request

from lepton.contracts.pb.grpc_service_pb2 import InferParameter, ModelInferRequest
from lepton.errors import Refused

REGION, SIZE, OFFSET = PLACE = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def is_shared(parameters: Mapping[str, Any]) -> bool:
    return REGION in parameters


def place_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Of a tensor's parameters those that say where in shared memory it lies."""
    return {name: parameters[name] for name in PLACE if name in parameters}


def shown(parameters: Mapping[str, InferParameter]) -> dict[str, Any]:
    """Where an output was put, for the JSON of an answer; empty when it comes with the answer."""
    if REGION not in parameters:
        return {}
    numbers = {name: parameters[name].int64_param for name in (SIZE, OFFSET) if name in parameters}
    return {REGION: parameters[REGION].string_param, **numbers}


def require_here(request: Request) -> None:
    """Raises Refused for a caller on another machine, also one behind a proxy on this one."""
    host = request.client.host if request.client else ""
    if _is_loopback(host) and not any(name in request.headers for name in _FORWARDED):
        return
    raise Refused("shared memory is for callers on the same machine", field=REGION,
                  remedy="send tensors in the request")


def names_memory(request: ModelInferRequest) -> bool:
    """Whether a request reads or writes shared memory."""
    tensors: Iterable[Any] = (*request.inputs, *request.outputs)
    return any(REGION in one.parameters for one in tensors)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
