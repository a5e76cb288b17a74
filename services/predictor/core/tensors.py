"""Open Inference Protocol messages to arrays and back, checked against a model's signature.

Every error names the tensor and what to send instead. Arrays of fixed-size raw inputs are views of the message, not
copies: they are only read.
"""

import struct
from collections.abc import Mapping

import numpy as np

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Invalid
from services.predictor.core.signature import MISSING, Array, Feed, Signature, TensorType

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}
"""The member of InferTensorContents for each datatype; FP16 has none and travels raw."""

_LENGTH = struct.Struct("<I")


def decode(request: oip.ModelInferRequest, signature: Signature, max_rows: int) -> Feed:
    """Arrays for every input of the model; optional ones that were left out are filled and marked missing.

    Raises Invalid when a tensor is unknown, absent, repeated, of another datatype or shape, or does not hold the
    bytes its shape says, and when the request has no rows or more than `max_rows`.
    """
    inputs, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(inputs):
        raise Invalid(f"{len(raw)} raw contents for {len(inputs)} inputs", field="raw_input_contents",
                      remedy="send one for each input, in the same order, or none")
    arrays: dict[str, Array] = {}
    rows = -1
    for index, tensor in enumerate(inputs):
        name = tensor.name
        declared = signature.inputs.get(name)
        if declared is None or name in arrays:
            raise _unexpected(name, signature)
        if tensor.datatype != declared.datatype:
            raise Invalid(f"tensor `{name}` is {tensor.datatype or 'of no datatype'}, the model takes "
                          f"{declared.datatype}", field=name, remedy=f"send it as {declared.datatype}")
        shape = tensor.shape
        data = raw[index] if raw and not tensor.HasField("contents") else None
        if (data is not None and declared.plain and len(shape) == 1 and shape[0] == rows
                and len(data) == rows * declared.dtype.itemsize):
            # What nearly every tensor behind the first one is: nothing is left to check.
            arrays[name] = np.frombuffer(data, declared.dtype)
            continue
        rows = _checked_rows(tuple(shape), declared, rows, max_rows)
        if data is not None:
            arrays[name] = _from_raw(data, declared, tuple(shape))
        elif raw:
            raise Invalid(f"tensor `{name}` has contents beside raw contents", field=name,
                          remedy="send either `contents` or `raw_input_contents`")
        else:
            arrays[name] = _from_contents(tensor.contents, declared, tuple(shape))
    if rows < 0:
        raise Invalid("the request has no inputs", field="inputs", remedy=f"send {_listing(signature)}")
    if len(arrays) != len(signature.inputs):
        _fill(arrays, signature, rows)
    return Feed(arrays, rows)


def encode(outputs: Mapping[str, Array], signature: Signature, request: oip.ModelInferRequest,
           version: str) -> oip.ModelInferResponse:
    """The response in raw tensors: the outputs asked for, or all. Raises Invalid for an output that does not exist."""
    response = oip.ModelInferResponse(model_name=request.model_name, model_version=version, id=request.id)
    for name in requested(request, signature):
        array = outputs[name]
        tensor = response.outputs.add(name=name, datatype=signature.outputs[name].datatype)
        tensor.shape.extend(array.shape)
        response.raw_output_contents.append(_to_raw(array))
    return response


def requested(request: oip.ModelInferRequest, signature: Signature) -> list[str]:
    """Names of the outputs to answer with. Raises Invalid for one the model does not give."""
    if not request.outputs:
        return list(signature.outputs)
    names = [output.name for output in request.outputs]
    for name in names:
        if name not in signature.outputs:
            raise Invalid(f"the model gives no output `{name}`", field=name,
                          remedy=f"ask for {', '.join(signature.outputs)}")
    return names


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


def _from_raw(raw: bytes, declared: TensorType, shape: tuple[int, ...]) -> Array:
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
    wanted = int(np.prod(shape, dtype=np.int64))
    if count != wanted:
        raise Invalid(f"tensor `{declared.name}` carries {count} elements, {declared.datatype} {list(shape)} needs "
                      f"{wanted}", field=declared.name, remedy=f"send them in `{member}` or in raw_input_contents")


def _narrowed(wide: Array, declared: TensorType) -> Array:
    limits = np.iinfo(declared.dtype)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        raise Invalid(f"tensor `{declared.name}` holds a value outside {declared.datatype}", field=declared.name,
                      remedy=f"send values from {limits.min} to {limits.max}")
    return wide.astype(declared.dtype)


def _fill(arrays: dict[str, Array], signature: Signature, rows: int) -> None:
    """Complete `arrays` with what may be left out; a left-out field is missing in every row."""
    absent = []
    for name, declared in signature.inputs.items():
        if name in arrays:
            continue
        if not declared.optional:
            raise Invalid(f"the tensor `{name}` was not sent", field=name, remedy=f"send {_listing(signature)}")
        arrays[name] = declared.absent(rows)
        absent.append(name)
    if signature.takes_mask and absent != [MISSING]:
        mask = arrays[MISSING].copy()
        for column, declared in enumerate(signature.fields):
            if declared.name in absent:
                mask[:, column] = True
        arrays[MISSING] = mask


def _to_raw(array: Array) -> bytes:
    if array.dtype != np.object_:
        return array.tobytes()
    parts: list[bytes] = []
    for item in array.ravel():
        encoded = item if isinstance(item, bytes) else str(item).encode("utf-8")
        parts.append(_LENGTH.pack(len(encoded)))
        parts.append(encoded)
    return b"".join(parts)
