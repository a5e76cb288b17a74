"""An exported file taken apart for a change of its network, and put together again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from services.trainer.core.export.graph import NETWORK, Exported

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Opened:
    """`nodes` in order; constants by name. Only the network's nodes are meant to be changed."""

    model: onnx.ModelProto
    nodes: list[NodeProto]
    constants: dict[str, TensorProto]

    @classmethod
    def of(cls, data: bytes) -> "Opened":
        model = onnx.load_from_string(data)
        return cls(model, list(model.graph.node), {one.name: one for one in model.graph.initializer})

    def network(self) -> list[NodeProto]:
        return [node for node in self.nodes if node.name.startswith(f"{NETWORK}:")]

    def weight(self, name: str) -> Array | None:
        """A constant in 32-bit floats; None for anything else."""
        found = self.constants.get(name)
        if found is None or found.data_type != TensorProto.FLOAT:
            return None
        return numpy_helper.to_array(found)

    def put(self, name: str, value: Array) -> str:
        """A constant under this name, instead of one that had it; returns the name."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def readers(self, name: str) -> list[NodeProto]:
        return [node for node in self.nodes if name in node.input]

    def swap(self, node: NodeProto, instead: Sequence[NodeProto]) -> None:
        place = next(place for place, one in enumerate(self.nodes) if one is node)
        self.nodes[place:place + 1] = instead

    def answers(self, name: str) -> bool:
        """Whether a tensor is one of the file's outputs."""
        return any(one.name == name for one in self.model.graph.output)

    def showing(self, names: Sequence[str]) -> bytes:
        """The file with these 32-bit tensors as its only outputs."""
        whole = self._whole()
        del whole.graph.output[:]
        whole.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
        return whole.SerializeToString(deterministic=True)

    def closed(self, full: Exported) -> Exported:
        """The changed file, checked, in the place of `full`: what goes in and comes out is the same."""
        whole = self._whole()
        onnx.checker.check_model(whole, full_check=True)
        return replace(full, data=whole.SerializeToString(deterministic=True), operators=tuple(sorted(
            {f"{node.domain or 'ai.onnx'}::{node.op_type}" for node in self.nodes})))

    def _whole(self) -> onnx.ModelProto:
        whole = onnx.ModelProto()
        whole.CopyFrom(self.model)
        used = {name for node in self.nodes for name in node.input} | {one.name for one in whole.graph.input}
        del whole.graph.node[:], whole.graph.initializer[:]
        whole.graph.node.extend(self.nodes)
        whole.graph.initializer.extend(value for name, value in self.constants.items() if name in used)
        return whole


def node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    """An operator of the network."""
    return helper.make_node(operator, list(inputs), [output], name=f"{NETWORK}:{output}", **attributes)


def attribute(of: NodeProto, name: str, otherwise: Any) -> Any:
    return next((helper.get_attribute_value(one) for one in of.attribute if one.name == name), otherwise)
