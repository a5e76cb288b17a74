"""Which ONNX operators a preparation, a network and a target become; one graph, nothing outside it.

Each network of the zoo writes itself operator by operator: the file is then the same bytes for the same weights, holds
no paths of this machine, and needs no second exporter. The parity check (`core/export/session.py`) proves it against
torch, on every run.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from lepton.contracts.pb.models_pb2 import TensorSpec
from services.trainer.core.dataset import Target
from services.trainer.core.emitting.building import Graph
from services.trainer.core.export import answers
from services.trainer.core.preparing.part import MISSING, ML
from services.trainer.core.preparing.preparation import Preparation

OPSET, ML_OPSET, IR_VERSION = 20, 4, 10
NETWORK = "network"
"""First part of the names of the operators a network wrote."""
_TENSOR_TYPES = {"float": TensorProto.DOUBLE, "int": TensorProto.INT64, "bool": TensorProto.BOOL,
                 "category": TensorProto.STRING, "text": TensorProto.STRING,
                 "vector": TensorProto.FLOAT, "sequence": TensorProto.DOUBLE}
_NAMES = {"float": "FP64", "int": "INT64", "bool": "BOOL", "category": "BYTES", "text": "BYTES",
          "vector": "FP32", "sequence": "FP64"}

Array = npt.NDArray[Any]


class Emitting(Protocol):
    """A network as the exporter sees it."""

    def emit(self, graph: Graph, prepared: str) -> str:
        """Write the operators from the prepared matrix to the scores; returns the scores' name."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The file, and what the manifest says of it. `operators` are `domain::name`, sorted."""

    data: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: tuple[str, ...]


def export(preparation: Preparation, network: Emitting, target: Target) -> Exported:
    """The model as one checked file. Inputs: a tensor [rows], of a list [rows, length], a field; and `_missing`
    [rows, fields], which may be left out when nothing is missing. NaN and infinity are missing too."""
    graph = Graph()
    prepared = preparation.emit(graph)
    begun = len(graph.nodes)
    scores = network.emit(graph, prepared)
    graph.label(NETWORK, begun)
    outputs = answers.emit(graph, scores, target)
    inputs = [helper.make_tensor_value_info(one.name, _TENSOR_TYPES[one.type], [answers.ROWS, *one.tail])
              for one in preparation.takes]
    # An initializer of the same name makes the input optional: it is the value where a request leaves it out.
    mask = helper.make_tensor_value_info(MISSING, TensorProto.BOOL, ["mask_rows", len(preparation.fields)])
    graph.constant(MISSING, np.zeros((1, len(preparation.fields)), dtype=bool))
    model = helper.make_model(
        helper.make_graph(graph.nodes, "lepton", [*inputs, mask], outputs, graph.constants), producer_name="lepton",
        ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)])
    onnx.checker.check_model(model, full_check=True)
    return Exported(model.SerializeToString(deterministic=True), _input_specs(preparation),
                    answers.specs(target), tuple(sorted({f"{node.domain or 'ai.onnx'}::{node.op_type}"
                                                         for node in graph.nodes})))


def _input_specs(preparation: Preparation) -> tuple[TensorSpec, ...]:
    fields = [TensorSpec(name=one.name, datatype=_NAMES[one.type], shape=[-1, *one.tail],
                         padded=one.type == "sequence") for one in preparation.takes]
    return (*fields, TensorSpec(name=MISSING, datatype="BOOL", shape=[-1, len(fields)], optional=True))
