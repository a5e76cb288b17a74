"""Which ONNX operators a preparation, a network and a target become; one graph, nothing outside it.

Each network of the zoo writes itself operator by operator: the file is then the same bytes for the same weights, holds
no paths of this machine, and needs no second exporter. The parity check (`core/export/session.py`) proves it against
torch, on every run.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from lepton.contracts.pb.models_pb2 import TensorSpec
from services.trainer.core.dataset import Target
from services.trainer.core.emitting.building import Graph, Within
from services.trainer.core.export import answers
from services.trainer.core.preparing.part import EXPLAIN, MISSING, ML
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


class Explaining(Protocol):
    """What the exporter needs to say what each field did."""

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes behind the rows, by name: `attributions` (fields,), then those of parts of a field's value."""

    def emit(self, graph: Graph, prepared: str, scores: str) -> list[str]:
        """Write the operators from prepared rows and their scores to each output, float32 [rows, ...]."""


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


def export(preparation: Preparation, network: Emitting, target: Target, why: Explaining | None = None) -> Exported:
    """The model as one checked file. Inputs: a tensor [rows], of a list [rows, length], a field; and `_missing`
    [rows, fields], which may be left out when nothing is missing. NaN and infinity are missing too.

    With `why` there are `attributions` [rows, fields] too, and what the parts of an image, series or text did, computed
    where `_explain` [rows], which may be left out, is true for any row, and else zeros.
    """
    graph = Graph()
    prepared = preparation.emit(graph)
    begun = len(graph.nodes)
    scores = network.emit(graph, prepared)
    graph.label(NETWORK, begun)
    outputs = answers.emit(graph, scores, target)
    # An initializer of the same name makes the input optional: it is the value where a request leaves it out.
    mask = helper.make_tensor_value_info(MISSING, TensorProto.BOOL, ["mask_rows", len(preparation.fields)])
    graph.constant(MISSING, np.zeros((1, len(preparation.fields)), dtype=bool))
    optional = [mask]
    if why is not None:
        outputs += _explain(graph, prepared, scores, why)
        optional.append(helper.make_tensor_value_info(EXPLAIN, TensorProto.BOOL, ["explain_rows"]))
    model = helper.make_model(
        helper.make_graph(graph.nodes, "lepton", [*takes_of(preparation), *optional], outputs, graph.constants),
        producer_name="lepton", ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)])
    onnx.checker.check_model(model, full_check=True)
    told = [TensorSpec(name=name, datatype="FP32", shape=[-1, *tail])
            for name, tail in (why.outputs.items() if why is not None else ())]
    return Exported(model.SerializeToString(deterministic=True), input_specs(preparation, why is not None),
                    (*answers.specs(target), *told), tuple(sorted(set(_operators(graph.nodes)))))


def _explain(graph: Graph, prepared: str, scores: str, why: Explaining) -> list[onnx.ValueInfoProto]:
    """The operators of `attributions` inside a branch, so that rows nobody asks about cost nothing of it."""
    graph.constant(EXPLAIN, np.zeros(1, dtype=bool))
    number = graph.add("Cast", [EXPLAIN], "explain:number", to=TensorProto.INT32)
    asked = graph.add("Cast", [graph.add("ReduceMax", [number], "explain:any", keepdims=0)], "explain:asked",
                      to=TensorProto.BOOL)
    told, untold = Within(graph, "told:"), Within(graph, "untold:")
    given = why.emit(told, prepared, scores)
    rows = untold.add("Shape", [prepared], "explain:rows", start=0, end=1)
    zeros = []
    for name, tail in why.outputs.items():
        behind = untold.constant(f"{name}:tail", np.array(tail, dtype=np.int64))
        shape = untold.add("Concat", [rows, behind], f"{name}:shape", axis=0)
        zeros.append(untold.add("ConstantOfShape", [shape], f"{name}:zeros"))
    branches = [part.closed(name, [], [_floats(value, tail) for value, tail in
                                       zip(values, why.outputs.values(), strict=True)])
                for name, part, values in (("told", told, given), ("untold", untold, zeros))]
    graph.nodes.append(helper.make_node("If", [asked], list(why.outputs), then_branch=branches[0],
                                        else_branch=branches[1]))
    return [_floats(name, tail) for name, tail in why.outputs.items()]


def _floats(name: str, tail: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [answers.ROWS, *tail])


def _operators(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Of branches too."""
    for node in nodes:
        yield f"{node.domain or 'ai.onnx'}::{node.op_type}"
        for attribute in node.attribute:
            yield from _operators(attribute.g.node)


def takes_of(preparation: Preparation) -> list[onnx.ValueInfoProto]:
    """The fields as a graph's inputs."""
    return [helper.make_tensor_value_info(one.name, _TENSOR_TYPES[one.type], [answers.ROWS, *one.tail])
            for one in preparation.takes]


def input_specs(preparation: Preparation, explained: bool) -> tuple[TensorSpec, ...]:
    fields = [TensorSpec(name=one.name, datatype=_NAMES[one.type], shape=[-1, *one.tail],
                         padded=one.type == "sequence") for one in preparation.takes]
    asks = (TensorSpec(name=EXPLAIN, datatype="BOOL", shape=[-1], optional=True),) if explained else ()
    return (*fields, TensorSpec(name=MISSING, datatype="BOOL", shape=[-1, len(fields)], optional=True), *asks)
