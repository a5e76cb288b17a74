"""What one request of a form tells of all others: enough to run them in batches without reading each.

Requests of one form differ in id and values alone. Forms that differ in the number of rows alone share a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from lepton.contracts.pb import grpc_service_pb2 as oip
from services.predictor.core.signature import EXPLAIN, Array, Feed, Signature, TensorType, is_reason
from services.predictor.core.tensors import Tensors, fill, from_raw, to_raw

_Run = Callable[[Feed], Mapping[str, Array]]
_Tails = tuple[tuple[str, tuple[int, ...]], ...]


class Batch:
    """Runs requests together whose forms have the same `key`. For any thread, and for several at once."""

    def __init__(self, signature: Signature, sent: _Tails, outputs: tuple[str, ...], run: _Run) -> None:
        self.key = (sent, outputs)
        self.rows_of = tuple(_size(signature.outputs[name], signature.outputs[name].tail) for name in outputs)
        """Bytes a row of each output, or minus the number of texts a row."""
        self._signature = signature
        self._inputs = tuple((signature.inputs[name], tail) for name, tail in sent)
        self._outputs = outputs
        self._run = run

    def feed(self, rows: int, raw: Sequence[bytes]) -> Feed:
        """So many rows; `raw` holds the contents of every request, one behind the other, input by input."""
        arrays = {declared.name: from_raw(item, declared, (rows, *tail))
                  for (declared, tail), item in zip(self._inputs, raw, strict=True)}
        if len(arrays) != len(self._signature.inputs):
            fill(arrays, self._signature, rows)
        return Feed(arrays, rows)

    def run(self, feed: Feed) -> Mapping[str, Array]:
        """Raises Invalid when the model refuses the values, Unavailable when it fails."""
        return self._run(feed)

    def written(self, outputs: Mapping[str, Array]) -> list[bytes]:
        """Raw contents of the outputs asked for, all rows of each behind one another."""
        return [to_raw(outputs[name]) for name in self._outputs]


@dataclass(frozen=True, slots=True)
class Form:
    """`contents`: bytes of each raw input, or minus the number of texts in it. `head`: the response but for id and
    values."""

    rows: int
    contents: tuple[int, ...]
    head: bytes
    batch: Batch


def form_of(request: oip.ModelInferRequest, tensors: Tensors, signature: Signature, run: _Run) -> Form | None:
    """The form of a request; None when there is more to its kind than names, types, shapes and raw values.

    Raises Invalid as `Tensors.read`, which takes `request` apart.
    """
    told = bool(request.parameters) or any(one.parameters for one in request.inputs)
    if told or not request.raw_input_contents or any(one.parameters for one in request.outputs):
        return None
    asked = tensors.read(request)
    sent = tuple((tensor.name, tuple(tensor.shape[1:])) for tensor in request.inputs)
    explains = any(is_reason(name) for name in asked.outputs) or any(name == EXPLAIN for name, _ in sent)
    if explains or asked.extras is not None or asked.empty is None:
        return None
    contents = tuple(_size(signature.inputs[tensor.name], tensor.shape) for tensor in request.inputs)
    batch = Batch(signature, sent, asked.outputs, run)
    return Form(asked.feed.rows, contents, asked.empty.SerializeToString(), batch)


def _size(tensor: TensorType, shape: Sequence[int]) -> int:
    return -prod(shape) if tensor.datatype == "BYTES" else prod(shape) * tensor.dtype.itemsize
