"""A torch module of somebody's own, by import path: how it is made, and how it comes into the exported graph."""

import importlib
import io
import warnings
from typing import cast

import onnx
import torch
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.emitting.building import Graph
from services.trainer.core.failure import bad_parameter
from services.trainer.core.networks.network import Network
from services.trainer.core.preparing.layout import Layout

OPSET = 20
"""The one of the graph that it becomes a part of (`core/export/graph.py`)."""
_ROWS, _SCORES = "own_rows", "own_scores"


class Own(Network):
    """`inner` takes prepared rows [rows, width] and gives scores [rows, outputs], whatever it does between."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner = inner
        self._width = width

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.inner(rows))

    def emit(self, graph: Graph, prepared: str) -> str:
        """The operators torch's exporter writes, under names of their own.

        Raises RunFailed(parameter) for a module that it cannot say in ONNX's own operators without branches.
        """
        found = self._exported()
        strange = sorted({node.op_type for node in found.graph.node if node.domain not in ("", "ai.onnx")
                          or any(one.HasField("g") or one.graphs for one in node.attribute)})
        if strange or found.functions:
            raise bad_parameter(f"the module uses {', '.join(strange) or 'functions'}, which no file may hold",
                                "write it without branches and loops that depend on the rows")
        named = {_ROWS: prepared, "": ""}
        for one in found.graph.initializer:
            kept = onnx.TensorProto()
            kept.CopyFrom(one)
            kept.name = named[one.name] = f"own:{one.name}"
            graph.constants.append(kept)
        for node in found.graph.node:
            outputs = [f"own:{name}" for name in node.output]
            kept_node = onnx.NodeProto(op_type=node.op_type, input=[named[name] for name in node.input],
                                       output=outputs, attribute=node.attribute)
            named |= dict(zip(node.output, outputs, strict=True))
            graph.nodes.append(kept_node)
        return named[_SCORES]

    def _exported(self) -> onnx.ModelProto:
        """By the exporter that follows the module once: the newer one takes twenty seconds to import."""
        sink = io.BytesIO()
        was, rows = self.inner.training, torch.zeros(2, self._width)
        self.inner.eval()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    self.inner, (rows,), sink,  # type: ignore[arg-type]  # this exporter takes a file too
                    dynamo=False, opset_version=OPSET, input_names=[_ROWS], output_names=[_SCORES],
                    dynamic_axes={_ROWS: {0: "rows"}, _SCORES: {0: "rows"}})
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            raise bad_parameter(f"the module cannot be written as ONNX: {error}",
                                "use layers that torch.onnx.export knows") from error
        finally:
            self.inner.train(was)
        return onnx.load_from_string(sink.getvalue())


def own(layout: Layout, outputs: int, parameters: Parameters, _: torch.Generator) -> Own:
    """What `parameters.module` makes of (width, outputs). Who may be imported was decided when the run was planned.

    Raises RunFailed(parameter) where it cannot be imported, or is no module from rows to scores.
    """
    path = parameters.module or ""
    place, _colon, name = path.partition(":")
    # Layers of torch begin with the process's own chance.
    torch.manual_seed(parameters.seed)
    try:
        inner = getattr(importlib.import_module(place), name)(layout.width, outputs)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise bad_parameter(f"`{path}` cannot be made: {error}", "let it be importable by the trainer, and take "
                            "(width, outputs)", "module_broken") from error
    if not isinstance(inner, nn.Module):
        raise bad_parameter(f"`{path}` gives a {type(inner).__name__}", "let it give a torch.nn.Module",
                            "module_broken")
    network = Own(inner, layout.width)
    network.eval()
    with torch.no_grad():
        scores = inner(torch.zeros(2, layout.width))
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, outputs) or scores.dtype != torch.float32:
        shape = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise bad_parameter(f"`{path}` gives {shape} for two rows, not [2, {outputs}] in 32 bits",
                            "let its last layer be `outputs` wide", "module_broken")
    return network
