"""Networks that score every item of a catalogue for a user: by factors alone, or with layers over user and item."""

import itertools
from typing import cast

import numpy as np
import torch
from onnx import TensorProto
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.emitting.building import Graph
from services.trainer.core.failure import bad_parameter
from services.trainer.core.networks.network import Array, Network, spread
from services.trainer.core.preparing.layout import Layout

UNKNOWN_SHARE = 0.1
"""Of the rows of a batch, whose user the network is not told: so it learns what to say to somebody it does not know."""
FIRST_SPREAD = 0.1
"""Standard deviation of factors before the first step."""
_CELLS = 2**22
"""Values of the widest layer over user and item held at once."""


class Recommender(Network):
    """Scores [rows, items] of a column of user codes and any others, which say more of the user or the moment.

    Matrix factorisation (Koren, Bell and Volinsky 2009): user · item + the item's bias, where the factors of an unknown
    user (code 0) are learnt from users it was not told. With `hidden`, neural collaborative filtering: layers over the
    factors of user and item side by side are added to that (NeuMF of He et al. 2017, with one embedding for both).
    """

    def __init__(self, layout: Layout, items: int, factors: int, hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        span = next(one for one in layout.spans if one.kind == "code")
        self._code = span.start
        self._others = [place for place in range(layout.width) if place != span.start]
        self.users = nn.Embedding(span.size, factors)
        self.items = nn.Embedding(items, factors)
        self.bias = nn.Parameter(torch.zeros(items))
        self.side = nn.Linear(len(self._others), factors, bias=False) if self._others else None
        self.of_user = nn.Linear(factors, hidden[0]) if hidden else None
        self.of_item = nn.Linear(factors, hidden[0], bias=False) if hidden else None
        self.above = nn.ModuleList(nn.Linear(one, two) for one, two in itertools.pairwise((*hidden, 1)))
        self._dropout = nn.Dropout(dropout)
        self._widest = max(hidden, default=0)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        codes = rows[:, self._code].long()
        if self.training:
            codes = torch.where(torch.rand(len(codes), device=codes.device) < UNKNOWN_SHARE, 0, codes)
        user = self.users(codes)
        if self.side is not None:
            user = user + self.side(rows[:, self._others])
        user = self._dropout(user)
        scores: torch.Tensor = user @ self.items.weight.T + self.bias
        if self.of_user is None:
            return scores
        size = max(1, _CELLS // (len(self.bias) * self._widest))
        return scores + torch.cat([self._deep(part) for part in torch.split(user, size)])

    def _deep(self, user: torch.Tensor) -> torch.Tensor:
        assert self.of_user is not None
        assert self.of_item is not None
        pair = self.of_user(user)[:, None, :] + self.of_item(self.items.weight)[None, :, :]
        for layer in self.above:
            pair = layer(self._dropout(torch.relu(pair)))
        return cast(torch.Tensor, pair[:, :, 0])

    def emit(self, graph: Graph, prepared: str) -> str:
        place = graph.constant("user:place", np.array([self._code], dtype=np.int64))
        column = graph.add("Gather", [prepared, place], "user:column", axis=1)
        flat = graph.add("Squeeze", [column, graph.constant("user:axis", np.array([1], dtype=np.int64))], "user:flat")
        code = graph.add("Cast", [flat], "user:code", to=TensorProto.INT64)
        factors = graph.constant("user:weight", _numbers(self.users.weight))
        user = graph.add("Gather", [factors, code], "user:factors", axis=0)
        if self.side is not None:
            others = graph.constant("side:places", np.array(self._others, dtype=np.int64))
            columns = graph.add("Gather", [prepared, others], "side:columns", axis=1)
            weight = _numbers(self.side.weight)
            side = graph.linear(columns, weight, np.zeros(len(weight)), "side:factors")
            user = graph.add("Add", [user, side], "user:now")
        scores = graph.linear(user, _numbers(self.items.weight), _numbers(self.bias), "items:scores")
        if self.of_user is None:
            return scores
        return graph.add("Add", [scores, self._emit_deep(graph, user)], "scores:both")

    def _emit_deep(self, graph: Graph, user: str) -> str:
        assert self.of_user is not None
        assert self.of_item is not None
        mine = graph.linear(user, _numbers(self.of_user.weight), _numbers(self.of_user.bias), "pair:of_user")
        # What an item says does not depend on the row.
        theirs = _numbers(self.of_item(self.items.weight))
        middle = graph.constant("pair:axis", np.array([1], dtype=np.int64))
        pair = graph.add("Add", [graph.add("Unsqueeze", [mine, middle], "pair:each"),
                                 graph.constant("pair:of_item", theirs[None, :, :])], "pair:first")
        for place, layer in enumerate(cast(list[nn.Linear], list(self.above))):
            name = f"pair:{place}"
            bent = graph.add("Relu", [pair], f"{name}:relu")
            weighed = graph.add("MatMul", [bent, graph.constant(f"{name}:weight", _numbers(layer.weight).T)],
                                f"{name}:weighed")
            pair = graph.add("Add", [weighed, graph.constant(f"{name}:bias", _numbers(layer.bias))], name)
        last = graph.constant("pair:last", np.array([2], dtype=np.int64))
        return graph.add("Squeeze", [pair, last], "pair:scores")

    def ignore(self, columns: Array) -> None:
        """A user's column is no number; who never came has no row to be moved."""
        if self.side is not None:
            self.still(self.side.weight, columns[self._others])


def recommender(layout: Layout, items: int, parameters: Parameters, chance: torch.Generator) -> Recommender:
    """Raises RunFailed(parameter) where no field says who is recommended to."""
    if all(span.kind != "code" for span in layout.spans):
        raise bad_parameter("no field says who is recommended to", "name it as model.roles.user")
    network = Recommender(layout, items, parameters.factors, parameters.hidden or (), parameters.dropout)
    for embedding in (network.users, network.items):
        nn.init.normal_(embedding.weight, std=FIRST_SPREAD, generator=chance)
    with torch.no_grad():
        network.users.weight[0] = 0.0
    for layer in (network.side, network.of_user, network.of_item, *network.above):
        if layer is not None:
            spread(cast(nn.Linear, layer), chance)
    return network


def _numbers(value: torch.Tensor) -> Array:
    return np.asarray(value.detach().numpy(), dtype=np.float32)
