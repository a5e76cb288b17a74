"""Networks that say what return each action may be expected to bring, learnt from transitions that others made."""

import itertools
import math
from abc import abstractmethod
from statistics import NormalDist
from typing import cast

import numpy as np
import torch
from onnx import TensorProto
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.emitting.building import Graph
from services.trainer.core.failure import bad_parameter
from services.trainer.core.networks import stack
from services.trainer.core.networks.network import Array, Network
from services.trainer.core.preparing.layout import Layout

ACTION, REWARD, ENDED, NEXT = 0, 1, 2, 3
"""Columns of what the loss takes beside the rows: action, reward, whether it was the last, and the next row."""
FOLLOWING = 0.05
"""How much of the way the slow copy goes at each step."""
MAX_CELLS = 4_000_000
"""States times actions of a table."""


class Returns(Network):
    """Scores [rows, actions]: discounted returns in units of the rewards' spread."""

    def __init__(self, discount: float, caution: float) -> None:
        super().__init__()
        self._discount = discount
        self._caution = caution

    @abstractmethod
    def later(self, rows: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        """The return [rows, 1] of the `best` actions [rows, 1] from the next rows on."""

    def follow(self) -> None:
        """Called before each step of training."""

    def loss(self, rows: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Squared temporal difference (Watkins 1989), and `caution` times what the actions that were not taken seem to
        be better (conservative Q-learning, Kumar et al. 2020): of them the log says nothing."""
        if self.training:
            self.follow()
        said = self(rows)
        taken = said.gather(1, truth[:, ACTION].long()[:, None])
        with torch.no_grad():
            after = truth[:, NEXT:]
            best = self(after).argmax(dim=1, keepdim=True)
            goes_on = self._discount * (1 - truth[:, ENDED, None])
            wanted = truth[:, REWARD, None] + goes_on * self.later(after, best)
        apart = nn.functional.mse_loss(taken, wanted)
        return cast(torch.Tensor, apart + self._caution * (said.logsumexp(dim=1, keepdim=True) - taken).mean())


class Table(Returns):
    """One row of returns a state: each number falls in one of `bins` that are alike in size where it is normally
    distributed, each category is one of its own, and a state is what they are together.

    `base`, common to all states, is what stands where a state never came.
    """

    def __init__(self, layout: Layout, actions: int, parameters: Parameters) -> None:
        super().__init__(parameters.discount, parameters.caution)
        self._numbers = [span.start for span in layout.spans if span.kind == "number"]
        self._choices = [(span.start, span.width) for span in layout.spans if span.kind == "choice"]
        sizes = [parameters.bins] * len(self._numbers) + [width for _, width in self._choices]
        states = math.prod(sizes)
        if len(self._numbers) + len(self._choices) < len(layout.spans):
            raise bad_parameter("a table has states of numbers and categories only", "use dqn, or leave others out")
        if states * actions > MAX_CELLS:
            raise bad_parameter(f"{states} states of {actions} actions are more than a table may have",
                                "use dqn, fewer fields, or fewer bins")
        self._strides = [1, *itertools.accumulate(sizes[:-1], lambda one, two: one * two)]
        self._edges = torch.tensor([NormalDist().inv_cdf(one / parameters.bins) for one in range(1, parameters.bins)])
        self.table = nn.Parameter(torch.zeros(states, actions))
        self.base = nn.Parameter(torch.zeros(actions))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.base + nn.functional.embedding(self._states(rows), self.table)

    def later(self, rows: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self(rows).gather(1, best))

    def _states(self, rows: torch.Tensor) -> torch.Tensor:
        digits = [(rows[:, place, None] > self._edges).sum(dim=1) for place in self._numbers]
        digits += [rows[:, start:start + width].argmax(dim=1) for start, width in self._choices]
        return torch.stack([digit * stride for digit, stride in zip(digits, self._strides, strict=True)]).sum(dim=0)

    def emit(self, graph: Graph, prepared: str) -> str:
        digits, axis = [], graph.constant("state:axis", np.array([1], dtype=np.int64))
        for place in self._numbers:
            column = graph.constant(f"state:{place}:place", np.array([place], dtype=np.int64))
            value = graph.add("Gather", [prepared, column], f"state:{place}:value", axis=1)
            edges = graph.constant(f"state:{place}:edges", self._edges.numpy()[None, :])
            above = graph.add("Cast", [graph.add("Greater", [value, edges], f"state:{place}:above")],
                              f"state:{place}:counted", to=TensorProto.INT64)
            digits.append(graph.add("ReduceSum", [above, axis], f"state:{place}:bin", keepdims=1))
        for start, width in self._choices:
            columns = graph.constant(f"state:{start}:places", np.arange(start, start + width))
            hot = graph.add("Gather", [prepared, columns], f"state:{start}:hot", axis=1)
            digits.append(graph.add("ArgMax", [hot], f"state:{start}:choice", axis=1, keepdims=1))
        strides = graph.constant("state:strides", np.array([self._strides], dtype=np.int64))
        parts = graph.add("Mul", [graph.add("Concat", digits, "state:digits", axis=1), strides], "state:parts")
        state = graph.add("ReduceSum", [parts, axis], "state:number", keepdims=0)
        table = (self.base + self.table).detach().numpy()
        return graph.add("Gather", [graph.constant("state:table", table), state], "state:returns", axis=0)


class Deep(Returns):
    """Layers with ReLU between them, taught by a copy that follows slowly (double DQN, van Hasselt et al. 2016): one
    chooses the next action, the other says what it is worth."""

    def __init__(self, layout: Layout, actions: int, parameters: Parameters, chance: torch.Generator) -> None:
        super().__init__(parameters.discount, parameters.caution)
        self.fast = stack.mlp(layout, actions, parameters, chance)
        self.slow = stack.Stack((layout.width, *parameters.layers, actions), 0.0).requires_grad_(False)
        self.slow.load_state_dict(self.fast.state_dict())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.fast(rows))

    def later(self, rows: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.slow(rows).gather(1, best))

    @torch.no_grad()
    def follow(self) -> None:
        for mine, theirs in zip(self.slow.parameters(), self.fast.parameters(), strict=True):
            mine.lerp_(theirs, FOLLOWING)

    def emit(self, graph: Graph, prepared: str) -> str:
        return self.fast.emit(graph, prepared)

    def ignore(self, columns: Array) -> None:
        self.fast.ignore(columns)
        with torch.no_grad():
            self.slow.linear_layers()[0].weight[:, torch.from_numpy(columns)] = 0.0


def q_learning(layout: Layout, actions: int, parameters: Parameters, _: torch.Generator) -> Table:
    """Raises RunFailed(parameter) where there are more states than a table may have."""
    return Table(layout, actions, parameters)


def dqn(layout: Layout, actions: int, parameters: Parameters, chance: torch.Generator) -> Deep:
    return Deep(layout, actions, parameters, chance)
