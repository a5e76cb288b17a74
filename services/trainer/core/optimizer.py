"""How weights follow gradients, and how fast in which epoch."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.networks.network import Network

Array = npt.NDArray[Any]

# The rate falls along half a cosine to this share of where it began.
LAST_RATE_SHARE = 0.05
# Adam as its authors set it.
_MEAN_DECAY, _SQUARE_DECAY, _NOTHING = 0.9, 0.999, 1e-8


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
