"""Which ONNX operators a preparation, a network and a target become; one graph, nothing outside it.

Each network of the zoo writes itself operator by operator: the file is then the same bytes for the same weights, holds
no paths of this machine, and needs no second exporter. The parity check (`core/export/session.py`) proves it against
torch, on every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lepton.contracts.pb.models_pb2 import TensorSpec
from services.trainer.core.dataset import Target
from services.trainer.core.export.building import Graph
from services.trainer.core.preparing.preparation import Z_LIMIT, Choice, Number, Preparation

OPSET, ML_OPSET, IR_VERSION = 20, 4, 10
MISSING = "_missing"
NETWORK = "network"
"""First part of the names of the operators a network wrote."""
ROWS = "rows"
_ML = "ai.onnx.ml"
_TENSOR_TYPES = {"float": TensorProto.DOUBLE, "int": TensorProto.INT64, "bool": TensorProto.BOOL,
                 "category": TensorProto.STRING, "text": TensorProto.STRING}
_NAMES = {"float": "FP64", "int": "INT64", "bool": "BOOL", "category": "BYTES", "text": "BYTES"}

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
    """The model as one checked file. Inputs: a tensor [rows] a field, and `_missing` [rows, fields], which may be left
    out when nothing is missing; NaN and infinity in a float field are missing too."""
    kinds = {one.name: one.type for one in preparation.numbers} | {one.name: one.type for one in preparation.choices}
    graph = Graph()
    columns = [*_numbers(graph, preparation), *_choices(graph, preparation)]
    prepared = columns[0] if len(columns) == 1 else graph.add("Concat", columns, "prepared", axis=1)
    begun = len(graph.nodes)
    scores = network.emit(graph, prepared)
    graph.label(NETWORK, begun)
    outputs = _number_answer(graph, scores, target) if target.task == "regression" else _class_answer(
        graph, scores, target)
    inputs = [helper.make_tensor_value_info(name, _TENSOR_TYPES[kinds[name]], [ROWS]) for name in preparation.fields]
    # An initializer of the same name makes the input optional: it is the value where a request leaves it out.
    mask = helper.make_tensor_value_info(MISSING, TensorProto.BOOL, ["mask_rows", len(preparation.fields)])
    graph.constant(MISSING, np.zeros((1, len(preparation.fields)), dtype=bool))
    model = helper.make_model(
        helper.make_graph(graph.nodes, "lepton", [*inputs, mask], outputs, graph.constants), producer_name="lepton",
        ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(_ML, ML_OPSET)])
    onnx.checker.check_model(model, full_check=True)
    return Exported(model.SerializeToString(deterministic=True), _input_specs(preparation, kinds),
                    _output_specs(target), tuple(sorted({f"{node.domain or 'ai.onnx'}::{node.op_type}"
                                                         for node in graph.nodes})))


def _numbers(graph: Graph, preparation: Preparation) -> list[str]:
    """All number fields as one matrix: absent filled, clipped, standardised in 64 bits, then 32."""
    numbers = preparation.numbers
    if not numbers:
        return []
    axis = graph.constant("axis_1", np.array([1], dtype=np.int64))
    columns = []
    for one in numbers:
        wide = one.name if one.type == "float" else graph.add(
            "Cast", [one.name], f"{one.name}:wide", to=TensorProto.DOUBLE)
        columns.append(graph.add("Unsqueeze", [wide, axis], f"{one.name}:column"))
    raw = graph.add("Concat", columns, "numbers:raw", axis=1)
    told = _missing_of(graph, preparation, [one.name for one in numbers], "numbers")
    unusable = graph.add("Or", [graph.add("IsNaN", [raw], "numbers:nan"), graph.add("IsInf", [raw], "numbers:inf")],
                         "numbers:unusable")
    absent = graph.add("Or", [unusable, told], "numbers:absent")
    if any(np.isfinite([one.null_below, one.null_above]).any() for one in numbers):
        below = graph.add("Less", [raw, _row(graph, "null_below", numbers)], "numbers:below")
        above = graph.add("Greater", [raw, _row(graph, "null_above", numbers)], "numbers:beyond")
        absent = graph.add("Or", [absent, graph.add("Or", [below, above], "numbers:outlying")], "numbers:none")
    value = graph.add("Where", [absent, _row(graph, "fill", numbers), raw], "numbers:filled")
    if any(np.isfinite([one.low, one.high]).any() for one in numbers):
        value = graph.add("Max", [value, _row(graph, "low", numbers)], "numbers:above")
        value = graph.add("Min", [value, _row(graph, "high", numbers)], "numbers:clipped")
    value = graph.add("Sub", [value, _row(graph, "center", numbers)], "numbers:centered")
    value = graph.add("Div", [value, _row(graph, "scale", numbers)], "numbers:scaled")
    value = graph.add("Max", [value, graph.constant("z_low", np.array(-Z_LIMIT))], "numbers:bounded_below")
    value = graph.add("Min", [value, graph.constant("z_high", np.array(Z_LIMIT))], "numbers:bounded")
    if preparation.imputers:
        value = _imputed(graph, preparation, value, absent)
    return [graph.add("Cast", [value], "numbers", to=TensorProto.FLOAT)]


def _imputed(graph: Graph, preparation: Preparation, value: str, absent: str) -> str:
    """Gaps of the fields that are predicted from the row's other numbers; the rest as it is."""
    imputers, names = preparation.imputers, [one.name for one in preparation.numbers]
    weights = np.array([one.weights for one in imputers]).T
    predicted = graph.add("MatMul", [value, graph.constant("imputed:weights", weights)], "imputed:weighed")
    for operator, what in (("Add", "offset"), ("Max", "low"), ("Min", "high")):
        row = np.array([[getattr(one, what) for one in imputers]])
        predicted = graph.add(operator, [predicted, graph.constant(f"imputed:{what}", row)], f"imputed:by_{what}")
    fields = [one.field for one in imputers]
    place_of = np.array([fields.index(name) if name in fields else 0 for name in names], dtype=np.int64)
    spread = graph.add("Gather", [predicted, graph.constant("imputed:place_of_number", place_of)], "imputed:spread",
                       axis=1)
    asked = graph.constant("imputed:asked", np.array([[name in fields for name in names]]))
    gaps = graph.add("And", [absent, asked], "imputed:gaps")
    return graph.add("Where", [gaps, spread, value], "numbers:imputed")


def _choices(graph: Graph, preparation: Preparation) -> list[str]:
    """All choice fields as one block of one-hot columns: each column asks whether its field has its code."""
    choices = preparation.choices
    if not choices:
        return []
    axis = graph.constant("axis_1_of_choices", np.array([1], dtype=np.int64))
    codes = [graph.add("Unsqueeze", [_code(graph, one), axis], f"{one.name}:column") for one in choices]
    code = graph.add("Concat", codes, "choices:codes", axis=1)
    absent = _missing_of(graph, preparation, [one.name for one in choices], "choices")
    fill = graph.constant("choices:fill", np.array([[one.fill for one in choices]], dtype=np.int64))
    filled = graph.add("Where", [absent, fill, code], "choices:filled")
    field_of = np.concatenate([np.full(one.width, place) for place, one in enumerate(choices)]).astype(np.int64)
    code_of = np.concatenate([np.arange(one.width) for one in choices]).astype(np.int64)
    spread = graph.add("Gather", [filled, graph.constant("choices:field_of_column", field_of)], "choices:spread",
                       axis=1)
    hot = graph.add("Equal", [spread, graph.constant("choices:code_of_column", code_of[None, :])], "choices:hot")
    return [graph.add("Cast", [hot], "choices", to=TensorProto.FLOAT)]


def _code(graph: Graph, choice: Choice) -> str:
    name = f"{choice.name}:code"
    if choice.categories:
        return graph.add("LabelEncoder", [choice.name], name, _ML, keys_strings=list(choice.categories),
                         values_int64s=list(range(1, choice.width)), default_int64=0)
    # No category was learnt: whatever the text, it is unknown. The operator asks for a key, so one leads there too.
    return graph.add("LabelEncoder", [choice.name], name, _ML, keys_strings=[""], values_int64s=[0], default_int64=0)


def _missing_of(graph: Graph, preparation: Preparation, names: Sequence[str], group: str) -> str:
    places = np.array([preparation.fields.index(name) for name in names], dtype=np.int64)
    return graph.add("Gather", [MISSING, graph.constant(f"{group}:places", places)], f"{group}:told_missing", axis=1)


def _row(graph: Graph, what: str, numbers: Sequence[Number]) -> str:
    return graph.constant(f"numbers:{what}", np.array([[getattr(one, what) for one in numbers]], dtype=np.float64))


def _number_answer(graph: Graph, scores: str, target: Target) -> list[onnx.ValueInfoProto]:
    """Back from the standardised label, in 64 bits: a label far from zero would lose its digits in 32."""
    flat = graph.add("Squeeze", [scores, graph.constant("answer:axis", np.array([1], dtype=np.int64))], "answer:flat")
    wide = graph.add("Cast", [flat], "answer:wide", to=TensorProto.DOUBLE)
    spread = graph.add("Mul", [wide, graph.constant("answer:std", np.array(target.std))], "answer:spread")
    number = graph.add("Add", [spread, graph.constant("answer:mean", np.array(target.mean))], "answer:number")
    graph.add("Cast", [number], "prediction", to=TensorProto.FLOAT)
    return [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [ROWS])]


def _class_answer(graph: Graph, scores: str, target: Target) -> list[onnx.ValueInfoProto]:
    if target.outputs == 1:
        second = graph.add("Sigmoid", [scores], "answer:second")
        first = graph.add("Sub", [graph.constant("answer:one", np.array(1.0, dtype=np.float32)), second],
                          "answer:first")
        graph.add("Concat", [first, second], "probabilities", axis=1)
    else:
        graph.add("Softmax", [scores], "probabilities", axis=1)
    best = graph.add("ArgMax", ["probabilities"], "answer:best", axis=1, keepdims=0)
    kind, names = _class_names(target)
    graph.constants.append(names)
    graph.add("Gather", ["answer:classes", best], "label", axis=0)
    return [helper.make_tensor_value_info("label", kind, [ROWS]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [ROWS, len(target.classes)])]


def _class_names(target: Target) -> tuple[int, onnx.TensorProto]:
    names, size = target.classes, [len(target.classes)]
    if target.label_type == "bool":
        return TensorProto.BOOL, helper.make_tensor("answer:classes", TensorProto.BOOL, size,
                                                    [name == "true" for name in names])
    if target.label_type == "int":
        return TensorProto.INT64, helper.make_tensor("answer:classes", TensorProto.INT64, size,
                                                     [int(name) for name in names])
    return TensorProto.STRING, numpy_helper.from_array(np.array(names, dtype=object), "answer:classes")


def _input_specs(preparation: Preparation, kinds: dict[str, str]) -> tuple[TensorSpec, ...]:
    fields = [TensorSpec(name=name, datatype=_NAMES[kinds[name]], shape=[-1]) for name in preparation.fields]
    return (*fields, TensorSpec(name=MISSING, datatype="BOOL", shape=[-1, len(fields)], optional=True))


def _output_specs(target: Target) -> tuple[TensorSpec, ...]:
    if target.task == "regression":
        return (TensorSpec(name="prediction", datatype="FP32", shape=[-1]),)
    return (TensorSpec(name="label", datatype={"bool": "BOOL", "int": "INT64"}.get(target.label_type, "BYTES"),
                       shape=[-1]),
            TensorSpec(name="probabilities", datatype="FP32", shape=[-1, len(target.classes)]))
