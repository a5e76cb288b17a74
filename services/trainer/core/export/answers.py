"""What scores mean to a person, task by task: the operators that say it, and the same in numpy to compare them with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lepton.contracts.pb.models_pb2 import TensorSpec
from services.trainer.core.dataset import Target
from services.trainer.core.emitting.building import Graph

Array = npt.NDArray[Any]

ROWS = "rows"
_DATATYPES = {"bool": "BOOL", "int": "INT64"}
_ONNX_TYPES = {"BOOL": TensorProto.BOOL, "INT64": TensorProto.INT64, "BYTES": TensorProto.STRING,
               "FP32": TensorProto.FLOAT}


def emit(graph: Graph, scores: str, target: Target) -> list[onnx.ValueInfoProto]:
    """Operators from scores [rows, outputs] to the answers of the task; returns the graph's outputs."""
    {"regression": _number, "classification": _classes, "ranking": _ranking, "policy": _policy,
     "anomaly": _anomaly}[target.task](graph, scores, target)
    return declared(target)


def declared(target: Target) -> list[onnx.ValueInfoProto]:
    """The graph's outputs."""
    return [helper.make_tensor_value_info(one.name, _ONNX_TYPES[one.datatype], [ROWS, *list(one.shape)[1:]])
            for one in specs(target)]


def specs(target: Target) -> tuple[TensorSpec, ...]:
    """The answers as the manifest declares them. `label` is in all but a number's (ADR 0011)."""
    if target.task == "regression":
        return (_floats("prediction"), *((_floats("low"), _floats("high")) if target.reach is not None else ()))
    kind = _DATATYPES.get(target.label_type, "BYTES")
    label = TensorSpec(name="label", datatype=kind, shape=[-1])
    if target.task == "ranking":
        return (label, TensorSpec(name="items", datatype=kind, shape=[-1, target.top_k]),
                _floats("scores", target.top_k))
    if target.task == "anomaly":
        return (label, _floats("score"))
    return (label, _floats("values" if target.task == "policy" else "probabilities", len(target.classes)))


def decode(scores: Array, target: Target) -> tuple[str, Array]:
    """Name and value of the answer that raw scores [rows, outputs] stand for, in 64 bits."""
    wide = scores.astype(np.float64)
    if target.task == "regression":
        return "prediction", wide[:, 0] * target.std + target.mean
    if target.task == "policy":
        return "values", wide * target.std
    if target.task == "anomaly":
        return "score", wide[:, 0] / target.std
    if target.task == "ranking":
        return "scores", -np.sort(-wide, axis=1)[:, :target.top_k]
    if target.outputs == 1:
        # Both sides of the logistic function without overflow.
        second = np.exp(-np.logaddexp(0.0, -wide[:, 0]))
        return "probabilities", np.stack([1.0 - second, second], axis=1)
    shifted = np.exp(wide - wide.max(axis=1, keepdims=True))
    return "probabilities", shifted / shifted.sum(axis=1, keepdims=True)


def unit_of(target: Target) -> float:
    """The scale on which answers were learnt, and on which two are compared."""
    return target.std if target.task in ("regression", "policy") else 1.0


def labels_apart(found: Mapping[str, Array], scores: Array, target: Target, tolerance: float) -> int:
    """Rows whose `label` is not what `scores` say, where they say it clearly."""
    if target.task == "regression":
        return 0
    _, expected = decode(scores, target)
    if target.task == "anomaly":
        clear, wanted = np.abs(expected - 1.0) > 2 * tolerance, expected > 1.0
        return int((clear & (found["label"] != wanted)).sum())
    said = scores.astype(np.float64) if target.task == "ranking" else expected
    ranked = np.sort(said, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 2 * tolerance * (unit_of(target) + np.abs(ranked[:, -1]))
    best = np.array(target.classes, dtype=object)[said.argmax(axis=1)]
    wrong = clear & (np.array(as_texts(found["label"]), dtype=object) != best)
    return int(wrong.sum())


def as_texts(labels: Array) -> list[str]:
    """Labels of a file's `label` or `items` output as the manifest names classes."""
    if labels.dtype == np.bool_:
        return ["true" if one else "false" for one in labels.tolist()]
    return [str(one) for one in labels.tolist()]


def _floats(name: str, *tail: int) -> TensorSpec:
    return TensorSpec(name=name, datatype="FP32", shape=[-1, *tail])


def _number(graph: Graph, scores: str, target: Target) -> None:
    """Back from the standardised label, in 64 bits: a label far from zero would lose its digits in 32."""
    wide = graph.add("Cast", [_flat(graph, scores)], "answer:wide", to=TensorProto.DOUBLE)
    spread = graph.add("Mul", [wide, graph.constant("answer:std", np.array(target.std))], "answer:spread")
    number = graph.add("Add", [spread, graph.constant("answer:mean", np.array(target.mean))], "answer:number")
    graph.add("Cast", [number], "prediction", to=TensorProto.FLOAT)
    if target.reach is not None:
        reach = graph.constant("answer:reach", np.array(target.reach * target.std))
        for name, operator in (("low", "Sub"), ("high", "Add")):
            graph.add("Cast", [graph.add(operator, [number, reach], f"answer:{name}")], name, to=TensorProto.FLOAT)


def _classes(graph: Graph, scores: str, target: Target) -> None:
    if target.outputs == 1:
        second = graph.add("Sigmoid", [scores], "answer:second")
        first = graph.add("Sub", [graph.constant("answer:one", np.array(1.0, dtype=np.float32)), second],
                          "answer:first")
        graph.add("Concat", [first, second], "probabilities", axis=1)
    else:
        graph.add("Softmax", [scores], "probabilities", axis=1)
    best_of_probabilities(graph, target)


def best_of_probabilities(graph: Graph, target: Target) -> None:
    """`label` from `probabilities`."""
    best = graph.add("ArgMax", ["probabilities"], "answer:best", axis=1, keepdims=0)
    graph.add("Gather", [_names(graph, target), best], "label", axis=0)


def _ranking(graph: Graph, scores: str, target: Target) -> None:
    count = graph.constant("answer:top_k", np.array([target.top_k], dtype=np.int64))
    graph.nodes.append(helper.make_node("TopK", [scores, count], ["scores", "answer:places"], axis=1))
    names = _names(graph, target)
    graph.add("Gather", [names, "answer:places"], "items", axis=0)
    first = graph.constant("answer:first_place", np.array([0], dtype=np.int64))
    best = _flat(graph, graph.add("Gather", ["answer:places", first], "answer:best", axis=1))
    graph.add("Gather", [names, best], "label", axis=0)


def _policy(graph: Graph, scores: str, target: Target) -> None:
    graph.add("Mul", [scores, graph.constant("answer:std", np.array(target.std, dtype=np.float32))], "values")
    best = graph.add("ArgMax", ["values"], "answer:best", axis=1, keepdims=0)
    graph.add("Gather", [_names(graph, target), best], "label", axis=0)


def _anomaly(graph: Graph, scores: str, target: Target) -> None:
    limit = graph.constant("answer:limit", np.array(target.std, dtype=np.float32))
    graph.add("Div", [_flat(graph, scores), limit], "score")
    graph.add("Greater", ["score", graph.constant("answer:one", np.array(1.0, dtype=np.float32))], "label")


def _flat(graph: Graph, scores: str) -> str:
    return graph.add("Squeeze", [scores, graph.constant("answer:axis", np.array([1], dtype=np.int64))], "answer:flat")


def _names(graph: Graph, target: Target) -> str:
    """The classes, items or actions in the label's own type."""
    graph.constants.append(_named(target.classes, target.label_type))
    return "answer:classes"


def _named(names: Sequence[str], label_type: str) -> onnx.TensorProto:
    if label_type == "bool":
        return helper.make_tensor("answer:classes", TensorProto.BOOL, [len(names)], [name == "true" for name in names])
    if label_type == "int":
        return helper.make_tensor("answer:classes", TensorProto.INT64, [len(names)], [int(name) for name in names])
    return numpy_helper.from_array(np.array(names, dtype=object), "answer:classes")
