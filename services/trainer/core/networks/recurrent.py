"""Recurrent networks over series and texts: Elman's (`rnn`), `lstm` and `gru`; what they know after the last step.

ONNX orders the gates of an LSTM i, o, f, c where torch has i, f, g, o, and those of a GRU z, r, h where torch has
r, z, n; torch's GRU applies the reset gate after the recurrent product (`linear_before_reset`).
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.emitting.building import Graph
from services.trainer.core.networks.branches import Branch, Branched, Steps, plain_columns, reduced, steps_of
from services.trainer.core.networks.network import Array
from services.trainer.core.preparing.layout import Layout

_KINDS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
_OPERATORS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
_GATES = {"rnn": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}
"""Which of torch's gates stands at each of ONNX's places."""


class Recurrent(Branch):
    """`depth` layers of `units` over the steps; the answer is the last layer's state after the last step there is."""

    def __init__(self, kind: str, steps: Steps, units: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.steps, self.width, self._kind = steps, units, kind
        self.cells = _KINDS[kind](steps.channels, units, depth, batch_first=True,
                                  dropout=dropout if depth > 1 else 0.0)
        self.register_buffer("numbers", torch.arange(1, steps.length + 1, dtype=torch.float32), persistent=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        values, there = self.steps(rows)
        states, _ = self.cells(values)
        if there is None:
            return cast(torch.Tensor, states[:, -1])
        numbers = cast(torch.Tensor, self.numbers)
        lengths = (there * numbers).amax(dim=1).clamp(min=1)
        # A product picks the state: indexing would have no deterministic gradient on a GPU.
        last = (numbers == lengths[:, None]).to(states.dtype)
        return cast(torch.Tensor, (states * last[:, :, None]).sum(dim=1))

    def emit(self, graph: Graph, prepared: str, name: str) -> str:
        values, there = self.steps.emit(graph, prepared, name)
        value = graph.add("Transpose", [values], f"{name}:by_step", perm=[1, 0, 2])
        # onnxruntime (1.31) ends the process on an LSTM or GRU without rows: one more row goes in, and not out again.
        more = graph.constant(f"{name}:more", np.array([0, 0, 0, 0, 1, 0], dtype=np.int64))
        value = graph.add("Pad", [value, more], f"{name}:one_more")
        lengths = "" if there is None else self._lengths(graph, there, name)
        first = graph.constant(f"{name}:first_axis", np.array([0], dtype=np.int64))
        second = graph.constant(f"{name}:second_axis", np.array([1], dtype=np.int64))
        for layer in range(self.cells.num_layers):
            last = layer == self.cells.num_layers - 1
            states = self._cell(graph, value, lengths, f"{name}:layer_{layer}", layer, last)
            value = graph.add("Squeeze", [states, first if last else second], f"{name}:layer_{layer}:flat")
        begin, end = (graph.constant(f"{name}:{what}", np.array([place], dtype=np.int64))
                      for what, place in (("begin", 0), ("end", -1)))
        return graph.add("Slice", [value, begin, end, first], f"{name}:seen")

    def _cell(self, graph: Graph, value: str, lengths: str, name: str, layer: int, last: bool) -> str:
        """One layer; returns the last state [1, rows, units], or all states [steps, 1, rows, units]."""
        weight, recurrent, bias = self._weights(layer)
        inputs = [value, graph.constant(f"{name}:weight", weight), graph.constant(f"{name}:recurrent", recurrent),
                  graph.constant(f"{name}:bias", bias), *([lengths] if lengths else [])]
        more: dict[str, Any] = {"linear_before_reset": 1} if self._kind == "gru" else {}
        graph.add(_OPERATORS[self._kind], inputs, [f"{name}:states", f"{name}:last"], hidden_size=self.width, **more)
        return f"{name}:last" if last else f"{name}:states"

    def _weights(self, layer: int) -> tuple[Array, Array, Array]:
        """Of one layer as ONNX has them: [1, gates * units, in], [1, gates * units, units], [1, 2 * gates * units]."""
        def ordered(what: str) -> Array:
            value = cast(torch.Tensor, getattr(self.cells, f"{what}_l{layer}")).detach().cpu().numpy()
            gates = value.reshape(-1, self.width, *value.shape[1:])[_GATES[self._kind]]
            return gates.reshape(value.shape)[None]

        return (ordered("weight_ih"), ordered("weight_hh"),
                np.concatenate([ordered("bias_ih"), ordered("bias_hh")], axis=1))

    def _lengths(self, graph: Graph, there: str, name: str) -> str:
        numbers = graph.constant(f"{name}:numbers", cast(torch.Tensor, self.numbers).cpu().numpy()[None, :])
        counted = graph.add("Mul", [there, numbers], f"{name}:numbered")
        length = reduced(graph, "ReduceMax", counted, 1, f"{name}:length")
        length = graph.add("Pad", [length, graph.constant(f"{name}:one_length", np.array([0, 1], dtype=np.int64))],
                           f"{name}:one_more_length")
        whole = graph.add("Max", [length, graph.constant(f"{name}:one", np.array(1.0, np.float32))], f"{name}:at_least")
        return graph.add("Cast", [whole], f"{name}:lengths", to=6)


def rnn(layout: Layout, outputs: int, parameters: Parameters, chance: torch.Generator) -> Branched:
    return _build("rnn", layout, outputs, parameters, chance)


def lstm(layout: Layout, outputs: int, parameters: Parameters, chance: torch.Generator) -> Branched:
    return _build("lstm", layout, outputs, parameters, chance)


def gru(layout: Layout, outputs: int, parameters: Parameters, chance: torch.Generator) -> Branched:
    return _build("gru", layout, outputs, parameters, chance)


def _build(kind: str, layout: Layout, outputs: int, parameters: Parameters, chance: torch.Generator) -> Branched:
    branches = [Recurrent(kind, steps, parameters.units, parameters.depth, parameters.dropout)
                for steps in steps_of(layout, kind, parameters.units)]
    return Branched(branches, plain_columns(layout), parameters.hidden or (), outputs, parameters.dropout).begin(chance)
