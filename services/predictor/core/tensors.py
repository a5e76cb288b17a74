"""Open Inference Protocol messages to arrays and back, checked against a model's signature.

Every error names the tensor and what to send instead. Arrays of fixed-size raw inputs are views of the message, not
copies: they are only read.

A client sends the same form again and again: tensors of the same names, types and shapes in the same order. What was
found out about a form is kept under its bytes, so that a later request of it costs little more than its values.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Invalid
from services.predictor.core.oip.extras import Extras, Regions, extras_of, gather, place_output, top
from services.predictor.core.signature import (
    EXPLAIN,
    MISSING,
    Array,
    Feed,
    Signature,
    TensorType,
    check_explained,
    is_reason,
)

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}
"""The member of InferTensorContents for each datatype; FP16 has none and travels raw."""

MAX_FORMS = 256
MAX_FORM_BYTES = 16 * 1024
"""Forms that are kept, and how large one may be: what callers make up must not become memory."""

_LENGTH = struct.Struct("<I")

_Shape = tuple[int, ...]


@dataclass(slots=True)  # not frozen, which would make each request dearer
class Asked:
    """A request that was read: its arrays, and what its response needs. `outputs` are the names asked for."""

    feed: Feed
    request_id: str
    outputs: tuple[str, ...]
    empty: oip.ModelInferResponse | None
    """The response but for its id and values, where its shapes follow from the form."""
    extras: Extras | None = None


@dataclass(frozen=True, slots=True)
class _Form:
    rows: int
    inputs: tuple[tuple[TensorType, _Shape], ...]
    """In the order they are sent, with the shapes they have."""
    filled: Mapping[str, Array]
    """What stands for the inputs left out; shared by all requests of the form, and only read."""
    outputs: tuple[str, ...]
    empty: oip.ModelInferResponse | None


class Tensors:
    """Reads requests to one version of a model, and writes its responses. A request holds at most `max_rows` rows.

    `regions` is the shared memory that requests may name, `classes` what the model calls its classes.
    """

    def __init__(self, signature: Signature, version: str, max_rows: int, regions: Regions | None = None,
                 classes: Sequence[str] = ()) -> None:
        self._signature = signature
        self._regions = regions
        self._classes = classes
        self._version = version
        self._max_rows = max_rows
        self._forms: dict[bytes, _Form] = {}

    def read(self, request: oip.ModelInferRequest) -> Asked:
        """Arrays for every input of the model; optional ones that were left out are filled and marked missing.

        Raises Invalid when a tensor is unknown, absent, repeated, of another datatype or shape, or does not hold the
        bytes its shape says, when an output asked for does not exist, and when the request has no rows or too many.
        Takes the id and the raw contents out of `request`.
        """
        request_id, raw = request.id, list(request.raw_input_contents)
        if not raw:
            return self._read_anew(request, request_id, raw)
        request.ClearField("raw_input_contents")
        request.ClearField("id")
        key = request.SerializeToString()
        form = self._forms.get(key)
        if form is not None and len(raw) == len(form.inputs):
            return Asked(_again(form, raw), request_id, form.outputs, form.empty)
        if _wants_more(request):
            return self._read_anew(request, request_id, raw)
        outputs = requested(request, self._signature)
        feed, inputs = decode(request, raw, self._signature, self._max_rows)
        _explain_what_is_asked(feed, inputs, outputs, self._signature)
        sent = {declared.name for declared, _ in inputs}
        empty = self._empty(request.model_name, outputs, feed.rows)
        if len(key) <= MAX_FORM_BYTES:
            if len(self._forms) >= MAX_FORMS:
                self._forms.clear()
            filled = {name: array for name, array in feed.arrays.items() if name not in sent}
            for array in filled.values():
                array.setflags(write=False)
            self._forms[key] = _Form(feed.rows, inputs, filled, outputs, empty)
        return Asked(feed, request_id, outputs, empty)

    def _read_anew(self, request: oip.ModelInferRequest, request_id: str, raw: list[bytes]) -> Asked:
        """A request whose form is not kept."""
        outputs = requested(request, self._signature)
        extras = extras_of(request, self._signature) if _wants_more(request) else None
        if extras is not None and extras.found:
            raw = gather(request, raw, self._memory())
        feed, inputs = decode(request, raw, self._signature, self._max_rows)
        _explain_what_is_asked(feed, inputs, outputs, self._signature)
        return Asked(feed, request_id, outputs, None, extras)

    def write(self, outputs: Mapping[str, Array], asked: Asked, model: str) -> oip.ModelInferResponse:
        """The response in raw tensors. Raises Invalid and Missing when an output does not fit its shared memory."""
        if asked.extras is not None:
            return self._write_more(outputs, asked, asked.extras, model)
        if asked.empty is None:
            response = self._described(model, asked.outputs, {name: outputs[name].shape for name in asked.outputs})
        else:
            response = oip.ModelInferResponse()
            response.CopyFrom(asked.empty)
        response.id = asked.request_id
        response.raw_output_contents.extend([to_raw(outputs[name]) for name in asked.outputs])
        return response

    def _write_more(self, outputs: Mapping[str, Array], asked: Asked, extras: Extras,
                    model: str) -> oip.ModelInferResponse:
        told = {name: top(outputs[name], extras.classes[name], self._classes) if name in extras.classes
                else outputs[name] for name in asked.outputs}
        response = self._described(model, asked.outputs, {name: array.shape for name, array in told.items()})
        response.id = asked.request_id
        for output in response.outputs:
            if output.name in extras.classes:
                output.datatype = "BYTES"
            raw = to_raw(told[output.name])
            if output.name in extras.places:
                place_output(output, raw, extras.places[output.name], self._memory())
                # An entry for each output, so that the others keep their places.
                raw = b""
            response.raw_output_contents.append(raw)
        return response

    def _memory(self) -> Regions:
        if self._regions is None:
            raise Invalid("this server uses no shared memory", field="shared_memory_region",
                          remedy="send tensors in the request, or set LEPTON_PREDICTOR_SHARED_MEMORY to local")
        return self._regions

    def _empty(self, model: str, outputs: Sequence[str], rows: int) -> oip.ModelInferResponse | None:
        shapes = {name: (rows, *self._signature.outputs[name].tail) for name in outputs}
        if any(-1 in shape for shape in shapes.values()):
            return None
        return self._described(model, outputs, shapes)

    def _described(self, model: str, outputs: Sequence[str], shapes: Mapping[str, _Shape]) -> oip.ModelInferResponse:
        response = oip.ModelInferResponse(model_name=model, model_version=self._version)
        for name in outputs:
            response.outputs.add(name=name, datatype=self._signature.outputs[name].datatype, shape=shapes[name])
        return response


def decode(request: oip.ModelInferRequest, raw: Sequence[bytes], signature: Signature,
           max_rows: int) -> tuple[Feed, tuple[tuple[TensorType, _Shape], ...]]:
    """Arrays for every input, and what was sent, in its order. Errors as of `Tensors.read`."""
    if raw and len(raw) != len(request.inputs):
        raise Invalid(f"{len(raw)} raw contents for {len(request.inputs)} inputs", field="raw_input_contents",
                      remedy="send one for each input, in the same order, or none")
    arrays: dict[str, Array] = {}
    sent: list[tuple[TensorType, _Shape]] = []
    rows = -1
    for index, tensor in enumerate(request.inputs):
        name = tensor.name
        declared = signature.inputs.get(name)
        if declared is None or name in arrays:
            raise _unexpected(name, signature)
        if tensor.datatype != declared.datatype:
            raise Invalid(f"tensor `{name}` is {tensor.datatype or 'of no datatype'}, the model takes "
                          f"{declared.datatype}", field=name, remedy=f"send it as {declared.datatype}")
        shape = tuple(tensor.shape)
        rows = _checked_rows(shape, declared, rows, max_rows)
        if not raw:
            arrays[name] = _from_contents(tensor.contents, declared, shape)
        elif tensor.HasField("contents"):
            raise Invalid(f"tensor `{name}` has contents beside raw contents", field=name,
                          remedy="send either `contents` or `raw_input_contents`")
        else:
            arrays[name] = from_raw(raw[index], declared, shape)
        sent.append((declared, shape))
    if rows < 0:
        raise Invalid("the request has no inputs", field="inputs", remedy=f"send {_listing(signature)}")
    if len(arrays) != len(signature.inputs):
        fill(arrays, signature, rows)
    return Feed(arrays, rows), tuple(sent)


def _again(form: _Form, raw: Sequence[bytes]) -> Feed:
    """The feed of a request whose form is known: only its values are left to look at."""
    arrays = dict(form.filled)
    for (declared, shape), item in zip(form.inputs, raw, strict=True):
        if declared.plain and len(shape) == 1 and len(item) == form.rows * declared.dtype.itemsize:
            arrays[declared.name] = np.frombuffer(item, declared.dtype)
        else:
            arrays[declared.name] = from_raw(item, declared, shape)
    return Feed(arrays, form.rows)


def requested(request: oip.ModelInferRequest, signature: Signature) -> tuple[str, ...]:
    """Names of the outputs to answer with; attributions only when named. Raises Invalid for one there is not."""
    if not request.outputs:
        return tuple(name for name in signature.outputs if not is_reason(name))
    names = tuple(output.name for output in request.outputs)
    for name in names:
        if name not in signature.outputs:
            raise Invalid(f"the model gives no output `{name}`", field=name,
                          remedy=f"ask for {', '.join(signature.outputs)}")
    return names


def _wants_more(request: oip.ModelInferRequest) -> bool:
    """Whether some tensor has parameters, which may mean shared memory or classification."""
    return any(tensor.parameters for tensor in request.inputs) or any(one.parameters for one in request.outputs)


def _explain_what_is_asked(feed: Feed, sent: Sequence[tuple[TensorType, _Shape]], outputs: Sequence[str],
                           signature: Signature) -> None:
    """Who names such an output wants every row explained, unless `_explain` was sent and says which."""
    asked = any(declared.name == EXPLAIN for declared, _ in sent)
    named = any(is_reason(name) for name in outputs)
    if asked or named:
        check_explained(feed.rows, signature)
    if not asked and named:
        feed.arrays[EXPLAIN] = np.ones(feed.rows, dtype=np.bool_)


def _unexpected(name: str, signature: Signature) -> Invalid:
    if name in signature.inputs:
        return Invalid(f"tensor `{name}` was sent twice", field=name, remedy="send each input once")
    return Invalid(f"the model takes no tensor `{name}`", field=name, remedy=f"send {_listing(signature)}")


def _listing(signature: Signature) -> str:
    return ", ".join(f"{tensor.name} {tensor.datatype}{'?' if tensor.optional else ''}"
                     for tensor in signature.inputs.values())


def _checked_rows(shape: tuple[int, ...], declared: TensorType, rows: int, max_rows: int) -> int:
    fits = len(shape) == len(declared.tail) + 1 and all(
        size == wanted or (wanted < 0 < size) for size, wanted in zip(shape[1:], declared.tail, strict=True))
    if not fits:
        raise Invalid(f"tensor `{declared.name}` has shape {list(shape)}, the model takes {list(declared.shape)}",
                      field=declared.name, remedy="-1 is the number of rows, the same for every input")
    if rows >= 0 and shape[0] != rows:
        raise Invalid(f"tensor `{declared.name}` has {shape[0]} rows, the inputs before it {rows}",
                      field=declared.name, remedy="give every input the same number of rows")
    if not 0 < shape[0] <= max_rows:
        raise Invalid(f"tensor `{declared.name}` has {shape[0]} rows, a request holds 1 to {max_rows}",
                      field=declared.name, remedy="split the request")
    return shape[0]


def from_raw(raw: bytes, declared: TensorType, shape: tuple[int, ...]) -> Array:
    if declared.datatype == "BYTES":
        return _texts(_prefixed(raw, declared.name), declared, shape)
    count = shape[0]
    for size in shape[1:]:
        count *= size
    if len(raw) != count * declared.dtype.itemsize:
        raise Invalid(f"tensor `{declared.name}` carries {len(raw)} bytes, {declared.datatype} {list(shape)} needs "
                      f"{count * declared.dtype.itemsize}", field=declared.name,
                      remedy="send little-endian values, row by row, without padding")
    if declared.datatype == "BOOL":
        # A byte other than 0 or 1 inside a bool array is undefined behaviour in native code.
        array: Array = np.frombuffer(raw, dtype=np.uint8) != 0
    else:
        array = np.frombuffer(raw, dtype=declared.dtype)
    return array if len(shape) == 1 else array.reshape(shape)


def _prefixed(raw: bytes, name: str) -> list[bytes]:
    items: list[bytes] = []
    position, end = 0, len(raw)
    while position < end:
        if position + 4 > end:
            raise _torn(name)
        start = position + 4
        position = start + _LENGTH.unpack_from(raw, position)[0]
        if position > end:
            raise _torn(name)
        items.append(raw[start:position])
    return items


def _torn(name: str) -> Invalid:
    return Invalid(f"tensor `{name}` ends inside an element", field=name,
                   remedy="precede each element by its length as a 4-byte little-endian unsigned integer")


def _texts(items: list[bytes], declared: TensorType, shape: tuple[int, ...]) -> Array:
    _checked_count(len(items), declared, shape)
    array: Array = np.empty(len(items), dtype=np.object_)
    try:
        array[:] = [item.decode("utf-8") for item in items]
    except UnicodeDecodeError as error:
        raise Invalid(f"tensor `{declared.name}` holds text that is not UTF-8", field=declared.name,
                      remedy="encode text as UTF-8") from error
    return array.reshape(shape)


def _from_contents(contents: oip.InferTensorContents, declared: TensorType, shape: tuple[int, ...]) -> Array:
    member = _CONTENTS.get(declared.datatype)
    if member is None:
        raise Invalid(f"tensor `{declared.name}` is {declared.datatype}, which has no typed contents",
                      field=declared.name, remedy="send it in raw_input_contents")
    values = getattr(contents, member)
    if declared.datatype == "BYTES":
        return _texts(list(values), declared, shape)
    _checked_count(len(values), declared, shape, member)
    if member in ("int_contents", "uint_contents"):
        return _narrowed(np.array(values, dtype=np.int64), declared).reshape(shape)
    array: Array = np.array(values, dtype=declared.dtype)
    return array.reshape(shape)


def _checked_count(count: int, declared: TensorType, shape: tuple[int, ...], member: str = "bytes_contents") -> None:
    wanted = math.prod(shape)
    if count != wanted:
        raise Invalid(f"tensor `{declared.name}` carries {count} elements, {declared.datatype} {list(shape)} needs "
                      f"{wanted}", field=declared.name, remedy=f"send them in `{member}` or in raw_input_contents")


def _narrowed(wide: Array, declared: TensorType) -> Array:
    limits = np.iinfo(declared.dtype)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        raise Invalid(f"tensor `{declared.name}` holds a value outside {declared.datatype}", field=declared.name,
                      remedy=f"send values from {limits.min} to {limits.max}")
    return wide.astype(declared.dtype)


def fill(arrays: dict[str, Array], signature: Signature, rows: int) -> None:
    """Complete `arrays` with what may be left out; a left-out field is missing in every row."""
    absent = []
    for name, declared in signature.inputs.items():
        if name in arrays:
            continue
        if not declared.optional:
            raise Invalid(f"the tensor `{name}` was not sent", field=name, remedy=f"send {_listing(signature)}")
        arrays[name] = declared.absent(rows)
        absent.append(name)
    if signature.takes_mask and not {MISSING, EXPLAIN}.issuperset(absent):
        mask = arrays[MISSING].copy()
        for column, declared in enumerate(signature.fields):
            if declared.name in absent:
                mask[:, column] = True
        arrays[MISSING] = mask


def to_raw(array: Array) -> bytes:
    if array.dtype != np.object_:
        return array.tobytes()
    parts: list[bytes] = []
    for item in array.ravel():
        encoded = item if isinstance(item, bytes) else str(item).encode("utf-8")
        parts.append(_LENGTH.pack(len(encoded)))
        parts.append(encoded)
    return b"".join(parts)
