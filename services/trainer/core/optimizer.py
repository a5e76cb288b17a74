"""How weights follow gradients, and how fast in which epoch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lepton.contracts.modelling.blocks import Parameters
from services.trainer.core.networks.network import Network

Array = npt.NDArray[Any]

# The rate falls along its schedule to this share of where it began.
LAST_RATE_SHARE = 0.05
# `step`: a tenth after each of these shares of the epochs.
STEPS_AT = (0.5, 0.75)
# Adam as its authors set it.
_MEAN_DECAY, _SQUARE_DECAY, _NOTHING = 0.9, 0.999, 1e-8


class Optimizer(ABC):
    """Follows gradients, with penalties on weights and not on biases: where the answer lies is nothing to be shrunk.

    `torch.optim` imports torch's compiler with its first step, which takes longer than most runs; tests hold these
    against it.
    """

    def __init__(self, network: Network, parameters: Parameters) -> None:
        self._parameters = dict(network.named_parameters())
        self._settings = parameters
        self._steps = 0

    @property
    def values(self) -> list[torch.Tensor]:
        """The weights, which it changes."""
        return list(self._parameters.values())

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step down the present gradients, which are then forgotten."""
        self._steps += 1
        following = {name: value for name, value in self._parameters.items() if value.grad is not None}
        shrink = clip_factor([value.grad for value in following.values() if value.grad is not None],
                             self._settings.clip_norm)
        for name, value in following.items():
            gradient = value.grad
            assert gradient is not None
            if shrink is not None:
                gradient = gradient.mul(shrink)
            penalised = name.rpartition(".")[2].startswith("weight")
            pace = self._follow(name, value, gradient, rate, self._settings.l2 if penalised else 0.0)
            if penalised and self._settings.l1:
                # The proximal step of the penalty: weights that are worth less than it costs become exactly 0.
                value.copy_(value.sign() * (value.abs() - self._settings.l1 * pace).clamp_(min=0))
            value.grad = None

    @abstractmethod
    def _follow(self, name: str, value: torch.Tensor, gradient: torch.Tensor, rate: float,
                l2: float) -> torch.Tensor:
        """Change `value` in place; returns how far a lasting gradient of one moves it in a step."""

    @abstractmethod
    def _memory(self) -> dict[str, dict[str, torch.Tensor]]:
        """What it keeps of each parameter, by kind and name; changed in place by `load`."""

    def arrays(self) -> dict[str, Array]:
        """Copies of its memory by name."""
        return {"steps": np.array(self._steps),
                **{f"{kind}/{name}": value.detach().cpu().numpy().copy() for kind, kept in self._memory().items()
                   for name, value in kept.items()}}

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Take a memory of `arrays()`."""
        self._steps = int(arrays["steps"])
        for kind, kept in self._memory().items():
            for name, value in kept.items():
                value.copy_(torch.from_numpy(np.array(arrays[f"{kind}/{name}"])))


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); `decoupled`, AdamW (Loshchilov and Hutter 2019): there L2 bypasses the gradient."""

    def __init__(self, network: Network, parameters: Parameters, decoupled: bool = False) -> None:
        super().__init__(network, parameters)
        self._decoupled = decoupled
        self._mean = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        self._square = {name: torch.zeros_like(value) for name, value in self._parameters.items()}

    def _follow(self, name: str, value: torch.Tensor, gradient: torch.Tensor, rate: float,
                l2: float) -> torch.Tensor:
        if self._decoupled:
            value.mul_(1 - rate * l2)
        elif l2:
            gradient = gradient.add(value, alpha=l2)
        mean = self._mean[name].lerp_(gradient, 1 - _MEAN_DECAY)
        square = self._square[name].mul_(_SQUARE_DECAY).addcmul_(gradient, gradient, value=1 - _SQUARE_DECAY)
        spread = (square / (1 - _SQUARE_DECAY ** self._steps)).sqrt_().add_(_NOTHING)
        value.addcdiv_(mean, spread, value=-rate / (1 - _MEAN_DECAY ** self._steps))
        return rate / spread

    def _memory(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"mean": self._mean, "square": self._square}


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum (Polyak's heavy ball)."""

    def __init__(self, network: Network, parameters: Parameters) -> None:
        super().__init__(network, parameters)
        self._motion = {name: torch.zeros_like(value) for name, value in self._parameters.items()}

    def _follow(self, name: str, value: torch.Tensor, gradient: torch.Tensor, rate: float,
                l2: float) -> torch.Tensor:
        motion = self._motion[name].mul_(self._settings.momentum).add_(gradient).add_(value, alpha=l2)
        value.sub_(motion, alpha=rate)
        return torch.tensor(rate / (1 - self._settings.momentum))

    def _memory(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"motion": self._motion}


def build(network: Network, parameters: Parameters) -> Optimizer:
    """The optimiser `parameters` name."""
    if parameters.optimizer == "sgd":
        return Sgd(network, parameters)
    return Adam(network, parameters, decoupled=parameters.optimizer == "adamw")


def clip_factor(gradients: list[torch.Tensor], longest: float) -> torch.Tensor | None:
    """What brings the gradients, as one vector, down to the length `longest`; None where nothing is to be done."""
    if not longest or not gradients:
        return None
    length: torch.Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one) for one in gradients]))
    return torch.clamp(longest / (length + _NOTHING), max=1.0)


def learning_rate(parameters: Parameters, epoch: int) -> float:
    """Rate of an epoch (from 1); a function of the epoch alone, so a resumed run has no state to restore for it."""
    warm = min(parameters.warmup_epochs, parameters.epochs - 1)
    if epoch <= warm:
        return parameters.learning_rate * epoch / (warm + 1)
    done = (epoch - 1 - warm) / max(1, parameters.epochs - warm)
    return parameters.learning_rate * _share(parameters.schedule, done)


def _share(schedule: str, done: float) -> float:
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return float(0.1 ** sum(done >= at for at in STEPS_AT))
    if schedule == "exponential":
        return float(LAST_RATE_SHARE ** done)
    falling = 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return LAST_RATE_SHARE + (1 - LAST_RATE_SHARE) * falling
