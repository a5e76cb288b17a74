"""Linear layers with ReLU between them; a single layer is linear or logistic regression. Several of them as one."""

import itertools
from typing import Self, cast

import torch
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.emitting.building import Graph
from services.trainer.core.networks.network import Array, Network, spread
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
        self.still(cast(torch.Tensor, self.layers[0].weight), columns)


class Side(nn.Module):
    """A linear layer of each member: [members, rows, before] to [members, rows, after]."""

    def __init__(self, members: int, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, after, before))
        self.bias = nn.Parameter(torch.zeros(members, after))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias[:, None], rows, self.weight.transpose(1, 2))


class Members(Stack):
    """Several stacks of one shape that begin apart, learn side by side, and answer with the mean of their scores.

    Each member follows the gradient of its own loss, from first weights and dropout of its own, so that they err apart
    (deep ensembles, Lakshminarayanan, Pritzel and Blundell 2017). The mean of their logits is their geometric mean as
    probabilities. All of them are one stack: hidden units side by side, and nothing between those of two members.
    `widths` are of each.
    """

    def __init__(self, widths: tuple[int, ...], dropout: float, members: int) -> None:
        super().__init__((), dropout)
        self._members = members
        self.layers = nn.ModuleList(Side(members, before, after) for before, after in itertools.pairwise(widths))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self._each(rows).mean(dim=0)

    def loss(self, rows: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """While learning the mean of the members' losses, with the gradient of their sum: to each its own."""
        if not self.training:
            return super().loss(rows, truth)
        scores = self._each(rows).flatten(0, 1)
        mean = self.objective.loss(self.task, scores, truth.repeat(self._members), smooth=True)
        return mean * self._members - mean.detach() * (self._members - 1)

    def linear_layers(self) -> list[nn.Linear]:
        """The layers of the one stack that all members are."""
        sides = [cast(Side, layer) for layer in self.layers]
        return [self._joined(side, first=side is sides[0], last=side is sides[-1]) for side in sides]

    def columns(self) -> dict[str, int]:
        return {"layers.0.weight": 2}

    def begin(self, chance: torch.Generator) -> Self:
        """First weights, of each member as a stack's."""
        for layer in self.layers:
            _, after, before = cast(Side, layer).weight.shape
            for member in range(self._members):
                own = nn.Linear(before, after, bias=False)
                spread(own, chance)
                with torch.no_grad():
                    cast(Side, layer).weight[member] = own.weight
        return self

    def _each(self, rows: torch.Tensor) -> torch.Tensor:
        """Scores of each member [members, rows, outputs]."""
        rows = rows.expand(self._members, *rows.shape)
        for layer in self.layers[:-1]:
            rows = self._dropout(torch.relu(layer(rows)))
        return cast(torch.Tensor, self.layers[-1](rows))

    @torch.no_grad()
    def _joined(self, side: Side, first: bool, last: bool) -> nn.Linear:
        weight = side.weight.flatten(0, 1) if first else torch.block_diag(*side.weight)  # type: ignore[no-untyped-call]  # torch
        bias = side.bias.flatten()
        if last:
            # What the members answer one below the other becomes their mean.
            weight, bias = (one.unflatten(0, (self._members, -1)).mean(dim=0) for one in (weight, bias))
        joined = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
        joined.weight.copy_(weight)
        joined.bias.copy_(bias)
        return joined


def linear(layout: Layout, outputs: int, _: Parameters, __: torch.Generator) -> Stack:
    """One layer, beginning at zero: its loss has one minimum."""
    network = Stack((layout.width, outputs), 0.0)
    for layer in network.linear_layers():
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return network


def mlp(layout: Layout, outputs: int, parameters: Parameters, chance: torch.Generator) -> Stack:
    widths = (layout.width, *parameters.layers, outputs)
    if parameters.members > 1:
        return Members(widths, parameters.dropout, parameters.members).begin(chance)
    network = Stack(widths, parameters.dropout)
    for layer in network.linear_layers():
        spread(layer, chance)
    return network
