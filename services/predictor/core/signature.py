"""What a model takes and gives: the tensors its signed manifest declares, ready to check a message against."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lepton.contracts.pb import models_pb2
from lepton.errors import Invalid, Refused

Array = npt.NDArray[Any]

MISSING = "_missing"
EXPLAIN, ATTRIBUTIONS = "_explain", "attributions"
"""Input that says which rows to explain, and the output that says what each field did: zeros where nobody asked."""
PARTS = f"{ATTRIBUTIONS}:"
"""Before a field's name, the output that says what the parts of its value did, as they lie."""
# Those that `lepton.contracts.reading.images` unpacks.
_COLOURS = (1, 3, 4)
MAX_EXPLAINED_ROWS = 256
"""In a request that explains: each row is run at every point of its path, which takes memory."""
MAX_PARTED_ROWS = 32
"""The same where parts of fields are told: each row is answered hundreds of times, which takes time."""

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"), "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(np.object_),
}
"""Open Inference Protocol type name -> numpy; text is an object array of str, as onnxruntime takes it."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """One declared tensor. `tail` is its shape behind the batch dimension, -1 where the size is free.

    `plain`: numbers whose raw bytes are the array as they are.
    """

    name: str
    datatype: str
    dtype: np.dtype[Any]
    tail: tuple[int, ...]
    optional: bool
    plain: bool
    padded: bool = False
    """A list of fewer numbers is one too: what follows its last is NaN."""
    image: tuple[int, ...] = ()
    """Height, width and colours of the pixels it is; by name it may come as a PNG or JPEG too."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (-1, *self.tail)

    def absent(self, rows: int) -> Array:
        """Values that stand where a request left this tensor out."""
        tail = tuple(max(size, 1) for size in self.tail)
        if self.datatype == "BYTES":
            return np.full((rows, *tail), "", dtype=np.object_)
        return np.zeros((rows, *tail), dtype=self.dtype)


class Course(Protocol):
    """A request that is traced, told each of its steps when that is over. Times are monotonic seconds."""

    def step(self, name: str, began: float, ended: float) -> None: ...


Observe = Callable[[Sequence[Course], float, float, Mapping[str, int], Exception | None], None]
"""Called after a batch that holds traced requests: those, when it began and ended, its `rows` and `requests`, what it
raised."""


@dataclass(slots=True)  # not frozen, which would make each request dearer
class Feed:
    """One array per input of the model, all with `rows` rows."""

    arrays: dict[str, Array]
    rows: int
    input_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    """Seconds that reading the request, waiting for its batch, and the batch itself took; once they are known."""
    course: Course | None = None
    priority: int = 0
    """1 runs first; 0: none was asked for."""
    patience_s: float = inf
    """Seconds that the caller would have it wait for its batch."""


def is_reason(output: str) -> bool:
    """Whether an output says what fields, or parts of one, did: it is answered to who names it."""
    return output == ATTRIBUTIONS or output.startswith(PARTS)


@dataclass(frozen=True, slots=True)
class Signature:
    """The model's inputs and outputs by name, in declared order."""

    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]
    fields: tuple[TensorType, ...]
    """Inputs that are fields of the Pipeline, in the order of the columns of `_missing`."""
    takes_mask: bool
    explains: bool = False

    @property
    def parted(self) -> list[str]:
        """Fields of which the model can say what the parts of a value did."""
        return [name.removeprefix(PARTS) for name in self.outputs if name.startswith(PARTS)]


def check_explained(rows: int, signature: Signature) -> None:
    """Raises Invalid for more rows than one request may have explained."""
    most = MAX_PARTED_ROWS if signature.parted else MAX_EXPLAINED_ROWS
    if rows > most:
        raise Invalid(f"{rows} rows are to be explained, {most} at most", field="rows", remedy="split the request")


def of_manifest(manifest: models_pb2.ModelManifest) -> Signature:
    """Raises Refused when the manifest declares something that cannot be served."""
    inputs, outputs = _tensors(manifest.inputs, "input"), _tensors(manifest.outputs, "output")
    fields = tuple(tensor for tensor in inputs.values() if tensor.name not in (MISSING, EXPLAIN))
    signature = Signature(inputs, outputs, fields, MISSING in inputs, ATTRIBUTIONS in outputs)
    if not signature.fields or not signature.outputs:
        raise Refused("the manifest declares no inputs or no outputs", field="inputs", remedy="publish it again")
    mask = signature.inputs.get(MISSING)
    if mask is not None and (mask.datatype != "BOOL" or mask.tail != (len(signature.fields),)):
        raise Refused(f"`{MISSING}` must be BOOL [-1, {len(signature.fields)}]", field=MISSING,
                      remedy="export the model again with one mask column a field")
    asks = signature.inputs.get(EXPLAIN)
    if signature.explains != (asks is not None) or (asks is not None and (
            asks.datatype != "BOOL" or asks.tail or not asks.optional
            or signature.outputs[ATTRIBUTIONS].tail != (len(signature.fields),))):
        raise Refused(f"`{ATTRIBUTIONS}` must be [-1, {len(signature.fields)}], beside an optional `{EXPLAIN}` BOOL "
                      "[-1]", field=ATTRIBUTIONS, remedy="export the model again")
    fields_told = {tensor.name for tensor in signature.fields} if signature.explains else set()
    for name in signature.parted:
        told = signature.outputs[PARTS + name]
        if name not in fields_told or told.datatype != "FP32" or not told.tail or min(told.tail) < 1:
            raise Refused(f"`{told.name}` must be FP32 of one size, beside `{ATTRIBUTIONS}` and the field `{name}`",
                          field=told.name, remedy="export the model again")
    return signature


def _tensors(specs: Iterable[models_pb2.TensorSpec], what: str) -> dict[str, TensorType]:
    tensors: dict[str, TensorType] = {}
    for spec in specs:
        dtype = DTYPES.get(spec.datatype)
        if dtype is None:
            raise Refused(f"{what} `{spec.name}` has the unknown datatype `{spec.datatype}`", field=spec.name,
                          remedy=f"use one of {', '.join(DTYPES)}")
        if not spec.shape or spec.shape[0] != -1:
            raise Refused(f"{what} `{spec.name}` has no batch dimension", field=spec.name,
                          remedy="declare -1 as its first dimension")
        if spec.name in tensors:
            raise Refused(f"{what} `{spec.name}` is declared twice", field=spec.name)
        tail = tuple(spec.shape[1:])
        tensors[spec.name] = TensorType(spec.name, spec.datatype, dtype, tail, spec.optional,
                                        dtype.kind in "iuf", spec.padded, tuple(spec.image))
        if spec.image and (len(spec.image) > 3 or (*spec.image, 1)[2] not in _COLOURS or dtype.kind != "f"
                           or tail != (math.prod(spec.image),)):
            raise Refused(f"{what} `{spec.name}` is no image of {list(spec.image)}", field=spec.name,
                          remedy="declare it with as many numbers as the image has")
        if spec.padded and (dtype.kind != "f" or len(tail) != 1 or tail[0] < 1):
            raise Refused(f"{what} `{spec.name}` is padded, and no list of floating point numbers", field=spec.name,
                          remedy="declare it as FP64 with the largest length as its second dimension")
    return tensors
