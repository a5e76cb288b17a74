"""What every network promises the loop and the exporter."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lepton.contracts.pipeline_blocks import Task
from services.trainer.core.emitting.building import Graph
from services.trainer.core.teaching.objective import PLAIN, Objective

Array = npt.NDArray[Any]


class Network(nn.Module, ABC):
    """Prepared rows in, scores out: [rows, width] float32 to [rows, outputs]."""

    task: Task
    objective: Objective = PLAIN
    held: tuple[nn.Module, ...] = ()
    """Layers that stay as they are in training too."""
    stilled: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()
    """Weights with the columns of theirs (True) that are held at zero."""

    @abstractmethod
    def emit(self, graph: Graph, prepared: str) -> str:
        """Write the operators that answer what `forward` answers in eval mode; returns the name of the scores."""

    def loss(self, rows: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Mean over rows: squared error of the standardised label, else cross entropy."""
        return self.objective.loss(self.task, self(rows), truth, smooth=self.training)

    def arrays(self) -> dict[str, Array]:
        """Copies of the weights by name."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Take weights of `arrays()`. RuntimeError when they are of another shape."""
        self.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})

    def scores_layer(self) -> str:
        """The layer whose answers are the scores; empty where no layer answers for the label alone."""
        return ""

    def columns(self) -> dict[str, int]:
        """Weights that have a part for each prepared column, by name, and along which axis; empty where columns mean
        something only together."""
        return {}

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for layer in self.held:
            layer.eval()
        return self

    def ignore(self, columns: Array) -> None:
        """Keep the answer independent of `columns` (True) while training: those that never vary there.

        What a constant column would be taught is its part of the bias, which is wrong once the column varies. A
        network that folds columns together (an image, a series) has nothing to gain from it, and does nothing.
        """

    def still(self, weight: torch.Tensor, columns: Array) -> None:
        """Hold `weight[..., columns]` at zero, and let it be known to what learns beside that weight."""
        held = torch.from_numpy(columns)
        hold_still(weight, held)
        self.stilled = (*self.stilled, (weight, held))


def hold_still(weight: torch.Tensor, held: torch.Tensor) -> None:
    """Keep `weight[..., held]` at zero while it learns."""
    with torch.no_grad():
        weight[..., held] = 0.0
    weight.register_hook(lambda gradient: gradient.masked_fill(held.to(gradient.device), 0.0))  # type: ignore[no-untyped-call]  # torch


def spread(layer: nn.Linear | nn.Conv1d | nn.Conv2d, chance: torch.Generator) -> None:
    """Begin as torch's own layers do (Kaiming uniform), from this run's chance, and without a bias."""
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=chance)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
