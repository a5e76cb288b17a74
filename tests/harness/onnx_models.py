"""Small ONNX models whose answers a test can work out in its head, with the manifest the trainer would write for them.

The graph follows the platform's contract: one tensor a field ([N]), the optional mask `_missing` [N, F], NaN or a
masked value replaced by the field's mean (0 here), one weight a field.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, load_from_string, numpy_helper

from lepton.contracts.pb import models_pb2

MISSING = "_missing"
_ONNX = {"float": TensorProto.DOUBLE, "int": TensorProto.INT64, "bool": TensorProto.BOOL,
         "category": TensorProto.STRING, "text": TensorProto.STRING}
_OIP = {"float": "FP64", "int": "INT64", "bool": "BOOL", "category": "BYTES", "text": "BYTES"}


@dataclass(frozen=True)
class Linear:
    """`sum(weight * value) + bias`; a category counts 1 when it is `us`. With `classes`, a logistic classifier.

    `fields` are name -> type; weights default to 1. `hidden` > 0 puts idle layers of that width in between, to make
    a model slow without changing what it answers.
    """

    fields: Mapping[str, str]
    weights: Sequence[float] = ()
    bias: float = 0.0
    classes: Sequence[str] = ()
    hidden: int = 0
    masked: bool = True

    def build(self) -> bytes:
        """The ONNX file."""
        width = len(self.fields)
        weights = list(self.weights) or [1.0] * width
        constants = [
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
            _texts("us", [], ["us"]),
            helper.make_tensor("weights", TensorProto.FLOAT, [width, 1], weights),
            helper.make_tensor("bias", TensorProto.FLOAT, [1], [self.bias]),
        ]
        nodes = [*self._columns(), helper.make_node("Concat", [f"{name}.c" for name in self.fields], ["x"], axis=1),
                 helper.make_node("IsNaN", ["x"], ["nan"])]
        if self.masked:
            nodes.append(helper.make_node("Or", ["nan", MISSING], ["gone"]))
        else:
            nodes.append(helper.make_node("Identity", ["nan"], ["gone"]))
        nodes.append(helper.make_node("Where", ["gone", "zero", "x"], ["filled"]))
        last = self._idle_layers(nodes, constants)
        nodes += [helper.make_node("MatMul", [last, "weights"], ["product"]),
                  helper.make_node("Add", ["product", "bias"], ["score"])]
        outputs = self._classify(nodes, constants) if self.classes else self._regress(nodes)
        inputs = [helper.make_tensor_value_info(name, _ONNX[kind], ["N"]) for name, kind in self.fields.items()]
        if self.masked:
            inputs.append(helper.make_tensor_value_info(MISSING, TensorProto.BOOL, ["N", width]))
        graph = helper.make_graph(nodes, "linear", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        data: bytes = model.SerializeToString()
        return data

    def manifest(self, data: bytes, model: str = "tiny", version: int = 1) -> models_pb2.ModelManifest:
        """What a trainer would say of `data`, operators counted from the file itself."""
        inputs = [models_pb2.TensorSpec(name=name, datatype=_OIP[kind], shape=[-1])
                  for name, kind in self.fields.items()]
        if self.masked:
            inputs.append(models_pb2.TensorSpec(name=MISSING, datatype="BOOL", shape=[-1, len(self.fields)],
                                                optional=True))
        if self.classes:
            outputs = [models_pb2.TensorSpec(name="label", datatype="BYTES", shape=[-1]),
                       models_pb2.TensorSpec(name="probabilities", datatype="FP32", shape=[-1, len(self.classes)])]
        else:
            outputs = [models_pb2.TensorSpec(name="prediction", datatype="FP32", shape=[-1])]
        return models_pb2.ModelManifest(
            model=model, version=version, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data),
            family="logistic_regression" if self.classes else "linear_regression",
            task=models_pb2.MODEL_TASK_CLASSIFICATION if self.classes else models_pb2.MODEL_TASK_REGRESSION,
            inputs=inputs, outputs=outputs, classes=self.classes, operators=operators(data))

    def _columns(self) -> list[Any]:
        nodes = []
        for name, kind in self.fields.items():
            if kind in ("category", "text"):
                nodes.append(helper.make_node("Equal", [name, "us"], [f"{name}.v"]))
            else:
                nodes.append(helper.make_node("Identity", [name], [f"{name}.v"]))
            nodes.append(helper.make_node("Cast", [f"{name}.v"], [f"{name}.f"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Unsqueeze", [f"{name}.f", "axis"], [f"{name}.c"]))
        return nodes

    def _idle_layers(self, nodes: list[Any], constants: list[Any]) -> str:
        if not self.hidden:
            return "filled"
        width = len(self.fields)
        constants += [helper.make_tensor("up", TensorProto.FLOAT, [width, self.hidden],
                                         [0.0] * (width * self.hidden)),
                      helper.make_tensor("square", TensorProto.FLOAT, [self.hidden, self.hidden],
                                         [0.0] * self.hidden**2),
                      helper.make_tensor("down", TensorProto.FLOAT, [self.hidden, width],
                                         [0.0] * (width * self.hidden))]
        nodes += [helper.make_node("MatMul", ["filled", "up"], ["h0"]),
                  helper.make_node("MatMul", ["h0", "square"], ["h1"]),
                  helper.make_node("MatMul", ["h1", "square"], ["h2"]),
                  helper.make_node("MatMul", ["h2", "down"], ["idle"]),
                  helper.make_node("Add", ["filled", "idle"], ["busy"])]
        return "busy"

    def _regress(self, nodes: list[Any]) -> list[Any]:
        nodes.append(helper.make_node("Squeeze", ["score", "axis"], ["prediction"]))
        return [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["N"])]

    def _classify(self, nodes: list[Any], constants: list[Any]) -> list[Any]:
        constants.append(_texts("classes", [len(self.classes)], self.classes))
        nodes += [helper.make_node("Sigmoid", ["score"], ["high"]),
                  helper.make_node("Sub", ["one", "high"], ["low"]),
                  helper.make_node("Concat", ["low", "high"], ["probabilities"], axis=1),
                  helper.make_node("ArgMax", ["probabilities"], ["index"], axis=1, keepdims=0),
                  helper.make_node("Gather", ["classes", "index"], ["label"])]
        return [helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]),
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(self.classes)])]


@dataclass(frozen=True)
class Mlp(Linear):
    """A classifier of numbers with hidden layers of `sizes`, whose answers are any; one tensor a field as well."""

    sizes: Sequence[int] = (64, 64)

    def _idle_layers(self, nodes: list[Any], constants: list[Any]) -> str:
        chance, last = np.random.default_rng(7), "filled"
        for layer, (rows, columns) in enumerate(itertools.pairwise((len(self.fields), *self.sizes))):
            values = (chance.standard_normal((rows, columns)) / np.sqrt(rows)).astype("f4")
            constants.append(numpy_helper.from_array(values, f"w{layer}"))
            nodes += [helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]),
                      helper.make_node("Relu", [f"m{layer}"], [f"h{layer}"])]
            last = f"h{layer}"
        constants[:] = [one for one in constants if one.name != "weights"]
        constants.append(helper.make_tensor("weights", TensorProto.FLOAT, [self.sizes[-1], 1],
                                            [1 / self.sizes[-1]] * self.sizes[-1]))
        return last


@dataclass(frozen=True)
class OneTensor:
    """A classifier with one FP32 tensor [N, first of `sizes`] for all it takes and as many classes as the last."""

    sizes: Sequence[int] = (30, 64, 64, 2)

    def build(self) -> bytes:
        """The ONNX file."""
        chance = np.random.default_rng(7)
        constants, nodes, last = [], [], "x"
        for layer, (rows, columns) in enumerate(itertools.pairwise(self.sizes)):
            values = (chance.standard_normal((rows, columns)) / np.sqrt(rows)).astype("f4")
            constants.append(numpy_helper.from_array(values, f"w{layer}"))
            nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
            last = f"m{layer}"
            if layer < len(self.sizes) - 2:
                nodes.append(helper.make_node("Relu", [last], [f"h{layer}"]))
                last = f"h{layer}"
        nodes += [helper.make_node("Softmax", [last], ["probabilities"], axis=1),
                  helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0)]
        graph = helper.make_graph(
            nodes, "mlp", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", self.sizes[0]])],
            [helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
             helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", self.sizes[-1]])], constants)
        data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)],
                                        ir_version=10).SerializeToString()
        return data

    def manifest(self, data: bytes, model: str, version: int = 1) -> models_pb2.ModelManifest:
        return models_pb2.ModelManifest(
            model=model, version=version, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), family="mlp",
            task=models_pb2.MODEL_TASK_CLASSIFICATION, operators=operators(data),
            classes=[str(number) for number in range(self.sizes[-1])],
            inputs=[models_pb2.TensorSpec(name="x", datatype="FP32", shape=[-1, self.sizes[0]])],
            outputs=[models_pb2.TensorSpec(name="label", datatype="INT64", shape=[-1]),
                     models_pb2.TensorSpec(name="probabilities", datatype="FP32", shape=[-1, self.sizes[-1]])])


def _texts(name: str, shape: Sequence[int], texts: Sequence[str]) -> TensorProto:
    return TensorProto(name=name, data_type=TensorProto.STRING, dims=shape,
                       string_data=[text.encode() for text in texts])


def operators(data: bytes) -> list[str]:
    """`domain::name` of every operator of a file, read by the onnx package."""
    found: set[str] = set()

    def walk(graph: Any) -> None:
        for node in graph.node:
            found.add(f"{node.domain or 'ai.onnx'}::{node.op_type}")
            for attribute in node.attribute:
                for inner in [attribute.g, *attribute.graphs]:
                    walk(inner)

    walk(load_from_string(data).graph)
    return sorted(found)
