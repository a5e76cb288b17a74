"""A transformer's encoder over series and texts: every step looks at every other, then the mean of them answers.

Layers normalise before they compute (Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020),
which needs no warm-up of the learning rate. Places are learnt vectors, one a step.
"""

import math
from typing import cast

import numpy as np
import torch
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.emitting.building import Graph
from services.trainer.core.failure import bad_parameter
from services.trainer.core.networks.branches import (
    Branch,
    Branched,
    Steps,
    plain_columns,
    reduced,
    reshaped,
    steps_of,
    weights,
)
from services.trainer.core.preparing.layout import Layout

# Added to the score of a step that is not there: its share is 0 in 32 bits, and no row is without a share.
_AWAY = -1e9
_WIDER = 2
"""How much wider the layer between two normalisations is."""


class Block(nn.Module):
    """One layer: attention of `heads`, then two linear layers, each added to what came in."""

    def __init__(self, units: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads, self._units = heads, units
        self.first, self.second = nn.LayerNorm(units), nn.LayerNorm(units)
        self.query, self.key = nn.Linear(units, units), nn.Linear(units, units)
        self.value, self.out = nn.Linear(units, units), nn.Linear(units, units)
        self.wide, self.narrow = nn.Linear(units, _WIDER * units), nn.Linear(_WIDER * units, units)
        self._dropout = nn.Dropout(dropout)

    def forward(self, steps: torch.Tensor, away: torch.Tensor | None) -> torch.Tensor:
        """[rows, steps, units] to the same; `away` [rows, 1, 1, steps] is added to the scores."""
        looked = self.first(steps)
        query, key, value = (self._split(layer(looked)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(2, 3) / math.sqrt(self._units // self._heads)
        if away is not None:
            scores = scores + away
        heads = torch.softmax(scores, dim=3) @ value
        steps = steps + self._dropout(self.out(heads.transpose(1, 2).flatten(2)))
        return cast(torch.Tensor, steps + self._dropout(self.narrow(torch.relu(self.wide(self.second(steps))))))

    def emit(self, graph: Graph, steps: str, away: str | None, name: str) -> str:
        looked = _normalised(graph, steps, self.first, f"{name}:first")
        query, value = (self._emit_heads(graph, looked, getattr(self, what), f"{name}:{what}", [0, 2, 1, 3])
                        for what in ("query", "value"))
        key = self._emit_heads(graph, looked, self.key, f"{name}:key", [0, 2, 3, 1])
        scores = graph.add("MatMul", [query, key], f"{name}:products")
        root = np.array(math.sqrt(self._units // self._heads), dtype=np.float32)
        scores = graph.add("Div", [scores, graph.constant(f"{name}:root", root)], f"{name}:scores")
        if away is not None:
            scores = graph.add("Add", [scores, away], f"{name}:scores_there")
        shares = graph.add("Softmax", [scores], f"{name}:shares", axis=3)
        heads = graph.add("MatMul", [shares, value], f"{name}:heads")
        joined = graph.add("Transpose", [heads], f"{name}:by_step", perm=[0, 2, 1, 3])
        flat = graph.add("Reshape", [joined, graph.constant(
            f"{name}:flat", np.array([0, 0, self._units], dtype=np.int64))], f"{name}:joined")
        steps = graph.add("Add", [steps, _linear(graph, flat, self.out, f"{name}:out")], f"{name}:attended")
        wide = _linear(graph, _normalised(graph, steps, self.second, f"{name}:second"), self.wide, f"{name}:wide")
        narrow = _linear(graph, graph.add("Relu", [wide], f"{name}:relu"), self.narrow, f"{name}:narrow")
        return graph.add("Add", [steps, narrow], f"{name}:done")

    def _split(self, steps: torch.Tensor) -> torch.Tensor:
        return steps.reshape(*steps.shape[:2], self._heads, self._units // self._heads).transpose(1, 2)

    def _emit_heads(self, graph: Graph, steps: str, layer: nn.Linear, name: str, order: list[int]) -> str:
        shape = np.array([0, 0, self._heads, self._units // self._heads], dtype=np.int64)
        split = graph.add("Reshape", [_linear(graph, steps, layer, name), graph.constant(f"{name}:shape", shape)],
                          f"{name}:split")
        return graph.add("Transpose", [split], f"{name}:heads", perm=order)


class Attention(Branch):
    """`depth` blocks over the steps; the answer is the mean of the steps there are, normalised."""

    def __init__(self, steps: Steps, parameters: Parameters) -> None:
        super().__init__()
        units = parameters.units
        self.steps, self.width = steps, units
        self.entry = nn.Linear(steps.channels, units)
        self.places = nn.Embedding(steps.length, units)
        self.blocks = nn.ModuleList(Block(units, parameters.heads, parameters.dropout)
                                    for _ in range(parameters.depth))
        self.last = nn.LayerNorm(units)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        values, there = self.steps(rows)
        value = self.entry(values) + self.places.weight
        away = None if there is None else (1 - there)[:, None, None, :] * _AWAY
        for block in self.blocks:
            value = block(value, away)
        if there is None:
            return cast(torch.Tensor, self.last(value.mean(dim=1)))
        total = (value * there[:, :, None]).sum(dim=1)
        return cast(torch.Tensor, self.last(total / there.sum(dim=1, keepdim=True).clamp(min=1)))

    def emit(self, graph: Graph, prepared: str, name: str) -> str:
        values, there = self.steps.emit(graph, prepared, name)
        entered = _linear(graph, values, self.entry, f"{name}:entry")
        places = graph.constant(f"{name}:step_places", self.places.weight.detach().cpu().numpy())
        value = graph.add("Add", [entered, places], f"{name}:placed")
        away = None if there is None else self._away(graph, there, name)
        for number, block in enumerate(self.blocks):
            value = cast(Block, block).emit(graph, value, away, f"{name}:block_{number}")
        if there is None:
            mean = reduced(graph, "ReduceMean", value, 1, f"{name}:mean")
        else:
            mask = reshaped(graph, there, (self.steps.length, 1), f"{name}:mask")
            kept = graph.add("Mul", [value, mask], f"{name}:kept")
            total = reduced(graph, "ReduceSum", kept, 1, f"{name}:total")
            count = reduced(graph, "ReduceSum", there, 1, f"{name}:count", keep=True)
            count = graph.add("Max", [count, graph.constant(f"{name}:one", np.array(1.0, np.float32))],
                              f"{name}:at_least")
            mean = graph.add("Div", [total, count], f"{name}:mean")
        return _normalised(graph, mean, self.last, f"{name}:seen")

    def _away(self, graph: Graph, there: str, name: str) -> str:
        one = graph.constant(f"{name}:whole", np.array(1.0, np.float32))
        lacking = graph.add("Sub", [one, there], f"{name}:lacking")
        far = graph.add("Mul", [lacking, graph.constant(f"{name}:far", np.array(_AWAY, np.float32))], f"{name}:aside")
        return reshaped(graph, far, (1, 1, self.steps.length), f"{name}:away")


def transformer(layout: Layout, outputs: int, parameters: Parameters, chance: torch.Generator) -> Branched:
    if parameters.units % parameters.heads:
        raise bad_parameter(f"{parameters.units} units cannot be shared by {parameters.heads} heads",
                            "choose units that are a multiple of heads")
    branches = [Attention(steps, parameters) for steps in steps_of(layout, "transformer", parameters.units)]
    return Branched(branches, plain_columns(layout), parameters.hidden or (), outputs, parameters.dropout).begin(chance)


def _linear(graph: Graph, steps: str, layer: nn.Linear, name: str) -> str:
    """A linear layer on [rows, steps, in]; `Gemm` takes two dimensions only."""
    weight, bias = weights(layer)
    product = graph.add("MatMul", [steps, graph.constant(f"{name}:weight", weight.T)], f"{name}:product")
    return graph.add("Add", [product, graph.constant(f"{name}:bias", bias)], name)


def _normalised(graph: Graph, value: str, layer: nn.LayerNorm, name: str) -> str:
    scale, bias = (cast(torch.Tensor, one).detach().cpu().numpy() for one in (layer.weight, layer.bias))
    return graph.add("LayerNormalization", [value, graph.constant(f"{name}:scale", scale),
                                            graph.constant(f"{name}:bias", bias)], name, axis=-1, epsilon=layer.eps)
