"""What a file that somebody brings must be before anything of it runs: one plain, self-contained ONNX graph."""

from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper

from services.trainer.core.failure import RunFailed, bad_parameter

MAX_NODES = 20_000
OPSETS = range(13, 24)
"""Versions of the default operators that can be taken: their shapes are given as inputs, and the runtime knows them."""
STANDARD = ("", "ai.onnx", "ai.onnx.ml")


def opened(data: bytes) -> onnx.ModelProto:
    """Raises RunFailed(parameter), named `unfit_file`, with the remedy."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise unfit("the file is no ONNX model", "export the model to ONNX") from error
    nodes = list(_nodes(model.graph))
    if not nodes or len(nodes) > MAX_NODES:
        raise unfit(f"the model has {len(nodes)} operators", f"from 1 to {MAX_NODES} can be taken")
    if model.functions or model.training_info:
        raise unfit("the model carries functions or training graphs of its own", "export it for inference, inlined")
    foreign = sorted({f"{node.domain}::{node.op_type}" for node in nodes if node.domain not in STANDARD})
    if foreign:
        raise unfit(f"the model uses operators outside ONNX: {', '.join(foreign)}",
                    "export it with standard operators only")
    if any(external_data_helper.uses_external_data(one) for one in _tensors(model.graph, nodes)):
        raise unfit("the model points to data outside its file",
                    "export it with its weights inside (torch.onnx.export: external_data=False)")
    if any(graph.sparse_initializer for graph in _graphs(model.graph)):
        raise unfit("the model holds sparse weights", "export it with dense ones")
    version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), OPSETS[-1])
    if version not in OPSETS:
        raise unfit(f"the model uses operators of version {version}",
                    f"export it with an opset from {OPSETS[0]} to {OPSETS[-1]}")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise unfit(f"the model is not sound: {str(error).splitlines()[0]}", "export it again") from error
    return model


def unfit(message: str, remedy: str) -> RunFailed:
    return bad_parameter(message, remedy, "unfit_file")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside its operators. Nesting is bounded by protobuf's own limit of 100."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for one in _graphs(graph):
        yield from one.node


def _tensors(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for one in _graphs(graph):
        yield from one.initializer
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
