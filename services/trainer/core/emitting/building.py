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
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def label(self, part: str, since: int) -> None:
        """Say of the operators from place `since` on which part of the model they are: their names begin with it."""
        for node in self.nodes[since:]:
            node.name = f"{part}:{node.output[0]}"

    def linear(self, value: str, weight: Array, bias: Array, name: str) -> str:
        """`value` [rows, in] times `weight` [out, in] plus `bias` [out], in 32 bits."""
        return self.add("Gemm", [value, self.constant(f"{name}:weight", weight.astype(np.float32)),
                                 self.constant(f"{name}:bias", bias.astype(np.float32))], name, transB=1)
