"""How tensors travel in the protocol's REST form: JSON lists, or raw bytes behind the JSON; to and from messages."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from lepton.contracts.pb.grpc_service_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from lepton.errors import Invalid
from services.gateway.edge.errors import Malformed
from services.gateway.edge.protocol import sharing

CLASSIFICATION = "classification"
BINARY_HEADER = "inference-header-content-length"
_DTYPES: dict[str, str] = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}
_LENGTH = struct.Struct("<I")
# What the protocol's messages hold; a body has no more digits of its own length than the second.
_INT64, _LENGTH_DIGITS = range(-2**63, 2**63), 12


@dataclass(frozen=True, slots=True)
class WantedOutputs:
    """Which outputs a client asked to have as raw bytes."""

    names: frozenset[str]
    all_binary: bool

    def is_binary(self, name: str) -> bool:
        return self.all_binary or name in self.names


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = None


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    outputs: list[_Output] = []
    id: str = ""
    parameters: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(_Request)


def read(model: str, version: str, body: bytes, header_length: str | None) -> tuple[ModelInferRequest, WantedOutputs]:
    """The request in a body whose first `header_length` bytes are JSON (None: all). Raises Malformed, Invalid."""
    head_bytes = len(body) if header_length is None else _number(header_length, len(body))
    try:
        told = _decoder.decode(body[:head_bytes])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the request cannot be read: {error}", field="body") from error
    request = ModelInferRequest(model_name=model, model_version=version, id=told.id)
    rest = memoryview(body)[head_bytes:]
    for tensor in told.inputs:
        _check_shape(tensor)
        given = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if sharing.is_shared(tensor.parameters):
            if tensor.data is not None or "binary_data_size" in tensor.parameters:
                raise Invalid("has data and names a region of shared memory", field=tensor.name)
            _set_parameters(given, sharing.place_of(tensor.parameters))
            continue
        raw, rest = _input(tensor, rest)
        request.raw_input_contents.append(raw)
    if rest:
        raise Malformed(f"{len(rest)} bytes belong to no input", field="binary_data_size")
    for output in told.outputs:
        wanted = request.outputs.add(name=output.name)
        if CLASSIFICATION in output.parameters:
            _set_parameters(wanted, {CLASSIFICATION: output.parameters[CLASSIFICATION]})
        _set_parameters(wanted, sharing.place_of(output.parameters))
    _set_parameters(request, told.parameters)
    binary = frozenset(output.name for output in told.outputs if output.parameters.get("binary_data") is True)
    return request, WantedOutputs(binary, told.parameters.get("binary_data_output") is True and not told.outputs)


def write(response: ModelInferResponse, wanted: WantedOutputs) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON when raw bytes follow it."""
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        shown: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if place := sharing.shown(output.parameters):
            shown["parameters"] = place
        elif wanted.is_binary(output.name):
            shown["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            shown["data"] = _listed(output.datatype, raw)
        outputs.append(shown)
    head = {"model_name": response.model_name, "model_version": response.model_version, "outputs": outputs}
    if response.id:
        head["id"] = response.id
    encoded = msgspec.json.encode(head)
    return b"".join([encoded, *tail]), len(encoded) if tail else None


def _number(header_length: str, limit: int) -> int:
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) <= _LENGTH_DIGITS
    if not digits or int(header_length) > limit:
        raise Malformed("is not the length of the JSON in the body", field=BINARY_HEADER)
    return int(header_length)


def _check_shape(tensor: _Tensor) -> None:
    if any(size < 0 for size in tensor.shape):
        raise Invalid("a request has no variable dimensions", field=tensor.name)
    if any(size not in _INT64 for size in tensor.shape):
        raise Invalid("its shape has a size that no tensor has", field=tensor.name)


def _input(tensor: _Tensor, rest: memoryview) -> tuple[bytes, memoryview]:
    """Raw content of an input, and what is left of the bytes behind the JSON."""
    if tensor.datatype not in _DTYPES and tensor.datatype != "BYTES":
        raise Invalid(f"{tensor.datatype} is no datatype", field=tensor.name)
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if not isinstance(size, int) or not 0 <= size <= len(rest):
            raise Malformed("binary_data_size does not fit the body", field=tensor.name)
        return bytes(rest[:size]), rest[size:]
    if tensor.data is None:
        raise Invalid("has neither data nor binary_data_size", field=tensor.name)
    return _raw(tensor), rest


def _raw(tensor: _Tensor) -> bytes:
    flat = _flat(tensor.data)
    count = math.prod(tensor.shape)
    if len(flat) != count:
        raise Invalid(f"has {len(flat)} values, its shape says {count}", field=tensor.name)
    if tensor.datatype == "BYTES":
        if not all(isinstance(value, str) for value in flat):
            raise Invalid("BYTES in JSON are texts", field=tensor.name)
        return b"".join(_LENGTH.pack(len(text)) + text for text in (value.encode() for value in flat))
    dtype = np.dtype(_DTYPES[tensor.datatype])
    _check_kind(tensor.name, dtype, flat)
    try:
        # A number that is too large for the type would become infinite.
        with np.errstate(over="raise"):
            return np.array(flat, dtype).tobytes()
    except (ValueError, OverflowError, TypeError, FloatingPointError) as error:
        raise Invalid(f"holds a value that is no {tensor.datatype}", field=tensor.name) from error


def _check_kind(name: str, dtype: "np.dtype[Any]", flat: Sequence[Any]) -> None:
    """numpy would turn true into 1 and 1.5 into 1; a request that says so is wrong."""
    kinds: tuple[type, ...] = (bool,) if dtype.kind == "b" else (int,) if dtype.kind in "iu" else (int, float)
    for value in flat:
        if not isinstance(value, kinds) or (dtype.kind != "b" and isinstance(value, bool)):
            raise Invalid(f"holds {value!r}, which is no {dtype.name}", field=name)


def _flat(data: Any) -> list[Any]:
    """Values of lists nested to any depth, row-major."""
    values: list[Any] = data if isinstance(data, list) else [data]
    while values and all(isinstance(one, list) for one in values):
        values = [value for one in values for value in one]
    return values


def _listed(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        return list(np.frombuffer(raw, _DTYPES[datatype]).tolist())
    texts: list[str] = []
    place = 0
    while place < len(raw):
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size
        texts.append(raw[place:place + length].decode("utf-8", "replace"))
        place += length
    return texts


def _set_parameters(request: ModelInferRequest | ModelInferRequest.InferInputTensor
                    | ModelInferRequest.InferRequestedOutputTensor, told: Mapping[str, Any]) -> None:
    for name, value in told.items():
        if name == "binary_data_output":
            continue
        match value:
            case bool():
                request.parameters[name].CopyFrom(InferParameter(bool_param=value))
            case int() if value in _INT64:
                request.parameters[name].CopyFrom(InferParameter(int64_param=value))
            case float():
                request.parameters[name].CopyFrom(InferParameter(double_param=value))
            case str():
                request.parameters[name].CopyFrom(InferParameter(string_param=value))
            case _:
                raise Invalid("a parameter is a text, a number of 64 bits or a truth value", field=name)
