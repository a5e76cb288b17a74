"""What a request may want beyond values: tensors in shared memory, coming or going, and the best classes of a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Invalid
from services.predictor.core.signature import Array, Signature

REGION, SIZE, OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
CLASSIFICATION = "classification"


class Regions(Protocol):
    """Shared memory by the names of its regions. Offsets and sizes are bytes, from the region's start.

    Both raise Missing for a region there is not, Invalid for what is outside it.
    """

    def read(self, name: str, offset: int, size: int) -> bytes:
        """A copy: what a caller changes afterwards changes no request."""

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Put `data` there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: `size` bytes of a region, from `offset` on."""

    region: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Extras:
    """For outputs by name: where to put them, and of how many classes to tell. `found`: inputs lie in shared memory."""

    places: Mapping[str, Place]
    classes: Mapping[str, int]
    found: bool

    @property
    def shared(self) -> bool:
        """Whether shared memory is read or written."""
        return self.found or bool(self.places)


def extras_of(request: oip.ModelInferRequest, signature: Signature) -> Extras | None:
    """None for a plain request. Raises Invalid for parameters that make no sense; outputs are known to exist."""
    found = any(REGION in tensor.parameters for tensor in request.inputs)
    places = {output.name: _place(output.name, output.parameters) for output in request.outputs
              if REGION in output.parameters}
    classes = {output.name: _count(output, signature) for output in request.outputs
               if CLASSIFICATION in output.parameters}
    if not (found or places or classes):
        return None
    return Extras(places, classes, found)


def gather(request: oip.ModelInferRequest, raw: Sequence[bytes], regions: Regions) -> list[bytes]:
    """Raw contents of every input in order: what lies in shared memory is read, the rest comes from `raw`.

    Raises Missing and Invalid.
    """
    left = iter(raw)
    found: list[bytes] = []
    for tensor in request.inputs:
        if REGION in tensor.parameters:
            if tensor.HasField("contents"):
                raise Invalid(f"tensor `{tensor.name}` has contents and names a region", field=tensor.name,
                              remedy="send either")
            place = _place(tensor.name, tensor.parameters)
            found.append(regions.read(place.region, place.offset, place.size))
            continue
        item = next(left, None)
        if item is None:
            raise Invalid(f"tensor `{tensor.name}` has neither raw contents nor a region", field=tensor.name,
                          remedy="beside shared memory, send the other tensors in `raw_input_contents`")
        found.append(item)
    if next(left, None) is not None:
        raise Invalid("there are more raw contents than inputs outside shared memory", field="raw_input_contents",
                      remedy="send one for each input that names no region")
    return found


def top(scores: Array, count: int, labels: Sequence[str]) -> Array:
    """The best `count` of each row of [rows, classes], best first, each as `value:index` or `value:index:label`."""
    wide = scores.reshape(len(scores), -1)
    order = np.argsort(-wide.astype(np.float64), axis=1, kind="stable")[:, :count]
    found = np.empty(order.shape, dtype=np.object_)
    for row, columns in enumerate(order.tolist()):
        for place, column in enumerate(columns):
            label = f":{labels[column]}" if len(labels) == wide.shape[1] else ""
            found[row, place] = f"{_shown(wide[row, column])}:{column}{label}"
    return found


def place_output(response: oip.ModelInferResponse.InferOutputTensor, data: bytes, place: Place,
                 regions: Regions) -> None:
    """Write an output to shared memory and say in the response where it lies. Raises Invalid when it does not fit."""
    if len(data) > place.size:
        raise Invalid(f"output `{response.name}` has {len(data)} bytes, its place in shared memory {place.size}",
                      field=response.name, remedy=f"give it {len(data)} bytes")
    regions.write(place.region, place.offset, data)
    response.parameters[REGION].string_param = place.region
    response.parameters[SIZE].int64_param = len(data)
    if place.offset:
        response.parameters[OFFSET].int64_param = place.offset


def _shown(value: Any) -> str:
    return f"{value:f}" if isinstance(value, np.floating) else str(int(value))


def _place(name: str, parameters: Mapping[str, oip.InferParameter]) -> Place:
    size = parameters[SIZE].int64_param if SIZE in parameters else 0
    offset = parameters[OFFSET].int64_param if OFFSET in parameters else 0
    if size <= 0 or offset < 0:
        raise Invalid(f"tensor `{name}` names a region without a size, or before its start", field=name,
                      remedy=f"send `{SIZE}`, and `{OFFSET}` where it is not 0, as integers")
    return Place(parameters[REGION].string_param, offset, size)


def _count(output: oip.ModelInferRequest.InferRequestedOutputTensor, signature: Signature) -> int:
    count: int = output.parameters[CLASSIFICATION].int64_param
    declared = signature.outputs[output.name]
    if count < 1 or not declared.plain or len(declared.tail) > 1:
        raise Invalid(f"output `{output.name}` cannot be told as its best {count} classes", field=output.name,
                      remedy=f"ask for 1 or more classes of an output of numbers, one list a row: "
                             f"{', '.join(n for n, one in signature.outputs.items() if one.plain) or 'there is none'}")
    return count
