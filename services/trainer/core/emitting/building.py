"""An ONNX graph while it is written: operators and constants in order, each under a name of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Graph:
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], output: str | Sequence[str], domain: str = "",
            **attributes: Any) -> str:
        """One operator with one output or several; returns the first one's name."""
        outputs = [output] if isinstance(output, str) else list(output)
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, domain=domain, **attributes))
        return outputs[0]

    def constant(self, name: str, value: Array) -> str:
        """One number becomes a list of one; where that matters, `scalar` leaves it alone."""
        return self.keep(numpy_helper.from_array(np.ascontiguousarray(value), name))

    def scalar(self, name: str, value: float, dtype: npt.DTypeLike) -> str:
        return self.keep(numpy_helper.from_array(np.array(value, dtype=dtype), name))

    def keep(self, tensor: onnx.TensorProto) -> str:
        self.constants.append(tensor)
        return tensor.name

    def label(self, part: str, since: int) -> None:
        """Say of the operators from place `since` on which part of the model they are: their names begin with it."""
        for node in self.nodes[since:]:
            node.name = f"{part}:{node.output[0]}"

    def linear(self, value: str, weight: Array, bias: Array, name: str) -> str:
        """`value` [rows, in] times `weight` [out, in] plus `bias` [out], in 32 bits."""
        return self.add("Gemm", [value, self.constant(f"{name}:weight", weight.astype(np.float32)),
                                 self.constant(f"{name}:bias", bias.astype(np.float32))], name, transB=1)


class Within(Graph):
    """A graph inside an operator of another one: equal constants of those around it are used where they are, and what
    is written here is named apart from theirs, so that the same part may stand inside and outside.

    `takes` are its inputs, which may be named as they are while it is written.
    """

    def __init__(self, around: Graph, prefix: str, takes: Sequence[str] = ()) -> None:
        super().__init__()
        self._around, self._prefix, self._own = around, prefix, set(takes)

    def add(self, operator: str, inputs: Sequence[str], output: str | Sequence[str], domain: str = "",
            **attributes: Any) -> str:
        outputs = [output] if isinstance(output, str) else list(output)
        named = [self._named(name) for name in inputs]
        self._own.update(outputs)
        super().add(operator, named, [self._named(name) for name in outputs], domain, **attributes)
        return outputs[0]

    def keep(self, tensor: onnx.TensorProto) -> str:
        name = tensor.name
        if not any(one.name == name and one == tensor for one in self.outer()):
            self._own.add(name)
            tensor.name = self._named(name)
            self.constants.append(tensor)
        return name

    def outer(self) -> list[onnx.TensorProto]:
        """Constants of all graphs around."""
        return self._around.constants + (self._around.outer() if isinstance(self._around, Within) else [])

    def closed(self, name: str, takes: Sequence[onnx.ValueInfoProto],
               gives: Sequence[onnx.ValueInfoProto]) -> onnx.GraphProto:
        """What was written, as an operator's own graph."""
        takes, gives = ([self._renamed(one) for one in side] for side in (takes, gives))
        return helper.make_graph(self.nodes, name, takes, gives, self.constants)

    def _named(self, name: str) -> str:
        if name in self._own:
            return self._prefix + name
        return self._around._named(name) if isinstance(self._around, Within) else name

    def _renamed(self, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
        found = onnx.ValueInfoProto()
        found.CopyFrom(value)
        found.name = self._named(value.name)
        return found
