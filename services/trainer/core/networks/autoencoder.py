"""A network that learns to say a row again through a narrow middle; how badly it does is how strange the row is."""

import itertools
from typing import cast

import numpy as np
import torch
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.emitting.building import Graph
from services.trainer.core.networks.network import Array, Network, spread
from services.trainer.core.preparing.layout import Layout


class Autoencoder(Network):
    """Answers with the mean squared difference of a row's columns: [rows, 1], never below 0.

    `widths`: columns, hidden layers, code, the same backwards. The code is linear, the layers around it ReLU.
    """

    def __init__(self, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        there_and_back = (*widths, *widths[-2::-1])
        self.layers = nn.ModuleList(nn.Linear(one, two) for one, two in itertools.pairwise(there_and_back))
        self._code = len(widths) - 2
        self._dropout = nn.Dropout(dropout)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        said = rows
        for place, layer in enumerate(self.layers):
            said = layer(said)
            if self._bent(place):
                said = self._dropout(torch.relu(said))
        return ((said - rows) ** 2).mean(dim=1, keepdim=True)

    def loss(self, rows: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self(rows).mean())

    def emit(self, graph: Graph, prepared: str) -> str:
        said = prepared
        for place, layer in enumerate(cast(list[nn.Linear], list(self.layers))):
            said = graph.linear(said, layer.weight.detach().numpy(), layer.bias.detach().numpy(), f"layer_{place}")
            if self._bent(place):
                said = graph.add("Relu", [said], f"layer_{place}:relu")
        apart = graph.add("Sub", [said, prepared], "apart")
        squared = graph.add("Mul", [apart, apart], "apart:squared")
        axis = graph.constant("apart:axis", np.array([1], dtype=np.int64))
        return graph.add("ReduceMean", [squared, axis], "apart:mean", keepdims=1)

    def columns(self) -> dict[str, int]:
        last = f"layers.{len(self.layers) - 1}"
        return {"layers.0.weight": 1, f"{last}.weight": 0, f"{last}.bias": 0}

    def ignore(self, columns: Array) -> None:
        """A column that never varied is said again as it was: that it varies later is strange, and is to count."""

    def _bent(self, place: int) -> bool:
        return place != self._code and place < len(self.layers) - 1


def autoencoder(layout: Layout, _: int, parameters: Parameters, chance: torch.Generator) -> Autoencoder:
    network = Autoencoder((layout.width, *parameters.layers, parameters.code), parameters.dropout)
    for layer in network.layers:
        spread(cast(nn.Linear, layer), chance)
    return network
