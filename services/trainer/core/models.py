"""The zoo: a family's name to its network and its loss, and where the learning rate goes."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lepton.contracts.pipeline_blocks import Family, Parameters, Task

Array = npt.NDArray[Any]

# The rate falls along half a cosine to this share of where it began.
LAST_RATE_SHARE = 0.05
# Adam as its authors set it.
_MEAN_DECAY, _SQUARE_DECAY, _NOTHING = 0.9, 0.999, 1e-8


class Network(nn.Module):
    """Linear layers with ReLU between them; a single layer is linear or logistic regression."""

    def __init__(self, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(widths))
        self._dropout = nn.Dropout(dropout)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            rows = self._dropout(torch.relu(layer(rows)))
        return cast(torch.Tensor, self.layers[-1](rows))

    def linear_layers(self) -> Iterator[nn.Linear]:
        for layer in self.layers:
            yield cast(nn.Linear, layer)

    def arrays(self) -> dict[str, Array]:
        """Copies of the weights by name."""
        return {name: value.detach().numpy().copy() for name, value in self.state_dict().items()}

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Take weights of `arrays()`. RuntimeError when they are of another shape."""
        self.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})

    def ignore(self, columns: Array) -> None:
        """Keep the answer independent of `columns` (True) while training: those that never vary there.

        What a constant column would be taught is its part of the bias, which is wrong once the column varies.
        """
        still = torch.from_numpy(columns)
        weight = next(self.linear_layers()).weight
        with torch.no_grad():
            weight[:, still] = 0.0
        weight.register_hook(lambda gradient: gradient.masked_fill(still, 0.0))  # type: ignore[no-untyped-call]  # torch


def build(family: Family, width: int, outputs: int, parameters: Parameters) -> Network:
    """A fresh network, the same for the same arguments. Linear families begin at zero: their loss has one minimum."""
    hidden = parameters.layers if family == "mlp" else ()
    network = Network((width, *hidden, outputs), parameters.dropout if family == "mlp" else 0.0)
    chance = torch.Generator().manual_seed(parameters.seed)
    for layer in network.linear_layers():
        nn.init.zeros_(layer.bias)
        if hidden:
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=chance)
        else:
            nn.init.zeros_(layer.weight)
    return network


def loss(task: Task, scores: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean over rows: squared error of the standardised label, else cross entropy."""
    if task == "regression":
        return nn.functional.mse_loss(scores[:, 0], truth)
    if scores.shape[1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(scores[:, 0], truth.to(scores.dtype))
    return nn.functional.cross_entropy(scores, truth)


class Adam:
    """Adam with the L2 penalty on weights, not on biases: where the answer lies is nothing to be shrunk.

    `torch.optim` imports torch's compiler with its first step, which takes longer than most runs; a test holds this
    one against it.
    """

    def __init__(self, network: Network, l2: float) -> None:
        self._parameters = dict(network.named_parameters())
        self._l2 = l2
        self._steps = 0
        self._mean = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        self._square = {name: torch.zeros_like(value) for name, value in self._parameters.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step down the present gradients, which are then forgotten."""
        self._steps += 1
        for name, value in self._parameters.items():
            if value.grad is None:
                continue
            gradient = value.grad.add(value, alpha=self._l2) if name.endswith("weight") else value.grad
            mean = self._mean[name].lerp_(gradient, 1 - _MEAN_DECAY)
            square = self._square[name].mul_(_SQUARE_DECAY).addcmul_(gradient, gradient, value=1 - _SQUARE_DECAY)
            spread = (square / (1 - _SQUARE_DECAY ** self._steps)).sqrt_().add_(_NOTHING)
            value.addcdiv_(mean, spread, value=-rate / (1 - _MEAN_DECAY ** self._steps))
            value.grad = None

    def arrays(self) -> dict[str, Array]:
        """Copies of its memory by name."""
        return {"steps": np.array(self._steps),
                **{f"mean/{name}": value.numpy().copy() for name, value in self._mean.items()},
                **{f"square/{name}": value.numpy().copy() for name, value in self._square.items()}}

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Take a memory of `arrays()`."""
        self._steps = int(arrays["steps"])
        for name in self._parameters:
            self._mean[name] = torch.from_numpy(np.array(arrays[f"mean/{name}"]))
            self._square[name] = torch.from_numpy(np.array(arrays[f"square/{name}"]))


def learning_rate(parameters: Parameters, epoch: int) -> float:
    """Rate of an epoch (from 1); a function of the epoch alone, so a resumed run has no state to restore for it."""
    done = (epoch - 1) / max(1, parameters.epochs)
    share = LAST_RATE_SHARE + (1 - LAST_RATE_SHARE) * (1 + math.cos(math.pi * done)) / 2
    return parameters.learning_rate * share
