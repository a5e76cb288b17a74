"""Linear layers with ReLU between them; a single layer is linear or logistic regression."""

import itertools
from typing import cast

import torch
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.emitting.building import Graph
from services.trainer.core.networks.network import Array, Network, spread, still
from services.trainer.core.preparing.layout import Layout


class Stack(Network):
    """`widths`: columns in, hidden layers, scores out."""

    def __init__(self, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(widths))
        self._dropout = nn.Dropout(dropout)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            rows = self._dropout(torch.relu(layer(rows)))
        return cast(torch.Tensor, self.layers[-1](rows))

    def emit(self, graph: Graph, prepared: str) -> str:
        value = prepared
        for place, layer in enumerate(self.linear_layers()):
            value = graph.linear(value, layer.weight.detach().numpy(), layer.bias.detach().numpy(), f"layer_{place}")
            if place < len(self.layers) - 1:
                value = graph.add("Relu", [value], f"layer_{place}:relu")
        return value

    def linear_layers(self) -> list[nn.Linear]:
        return [cast(nn.Linear, layer) for layer in self.layers]

    def scores_layer(self) -> str:
        return f"layers.{len(self.layers) - 1}"

    def columns(self) -> dict[str, int]:
        return {"layers.0.weight": 1}

    def ignore(self, columns: Array) -> None:
        still(self.linear_layers()[0].weight, columns)


def linear(layout: Layout, outputs: int, _: Parameters, __: torch.Generator) -> Stack:
    """One layer, beginning at zero: its loss has one minimum."""
    network = Stack((layout.width, outputs), 0.0)
    for layer in network.linear_layers():
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return network


def mlp(layout: Layout, outputs: int, parameters: Parameters, chance: torch.Generator) -> Stack:
    network = Stack((layout.width, *parameters.layers, outputs), parameters.dropout)
    for layer in network.linear_layers():
        spread(layer, chance)
    return network
