"""A model that gives back what it takes, in every datatype of the inference protocol."""

import hashlib
from dataclasses import dataclass

from onnx import TensorProto, helper

from lepton.contracts.pb import models_pb2
from tests.harness.onnx_models import operators

DATATYPES = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


@dataclass(frozen=True)
class Echo:
    """Optional inputs `in_<datatype>` [N, 2], each given back as `out_<datatype>`; `prediction` is the number 1."""

    def build(self) -> bytes:
        """The ONNX file."""
        inputs = [helper.make_tensor_value_info(f"in_{name}", kind, ["N", 2]) for name, kind in DATATYPES.items()]
        outputs = [helper.make_tensor_value_info(f"out_{name}", kind, ["N", 2]) for name, kind in DATATYPES.items()]
        nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in DATATYPES]
        constants = [helper.make_tensor("columns", TensorProto.INT64, [1], [1]),
                     helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
                     helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])]
        nodes += [helper.make_node("Cast", ["in_BOOL"], ["number"], to=TensorProto.FLOAT),
                  helper.make_node("Mul", ["number", "zero"], ["nothing"]),
                  helper.make_node("ReduceSum", ["nothing", "columns"], ["sum"], keepdims=0),
                  helper.make_node("Add", ["sum", "one"], ["prediction"])]
        outputs.append(helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["N"]))
        graph = helper.make_graph(nodes, "echo", inputs, outputs, constants)
        data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)],
                                        ir_version=10).SerializeToString()
        return data

    def manifest(self, data: bytes, model: str, version: int = 1) -> models_pb2.ModelManifest:
        spec = models_pb2.TensorSpec
        return models_pb2.ModelManifest(
            model=model, version=version, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), family="echo",
            task=models_pb2.MODEL_TASK_REGRESSION, operators=operators(data),
            inputs=[spec(name=f"in_{name}", datatype=name, shape=[-1, 2], optional=True) for name in DATATYPES],
            outputs=[*(spec(name=f"out_{name}", datatype=name, shape=[-1, 2]) for name in DATATYPES),
                     spec(name="prediction", datatype="FP32", shape=[-1])])
