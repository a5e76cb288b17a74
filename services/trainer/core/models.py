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
        """Make the answer independent of `columns` until they are learnt from: True where a column never varied."""
        with torch.no_grad():
            first = next(self.linear_layers())
            first.weight[:, torch.from_numpy(columns)] = 0.0


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


def optimizer(network: Network, parameters: Parameters) -> torch.optim.Adam:
    """Adam with the L2 penalty on weights, not on biases: where the answer lies is nothing to be shrunk."""
    weights = [layer.weight for layer in network.linear_layers()]
    biases = [layer.bias for layer in network.linear_layers()]
    return torch.optim.Adam([{"params": weights, "weight_decay": parameters.l2},
                             {"params": biases, "weight_decay": 0.0}], lr=parameters.learning_rate)


def learning_rate(parameters: Parameters, epoch: int) -> float:
    """Rate of an epoch (from 1); a function of the epoch alone, so a resumed run has no state to restore for it."""
    done = (epoch - 1) / max(1, parameters.epochs)
    share = LAST_RATE_SHARE + (1 - LAST_RATE_SHARE) * (1 + math.cos(math.pi * done)) / 2
    return parameters.learning_rate * share
