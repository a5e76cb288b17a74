"""What a class's rows count in the loss, and how sure of its label a network is asked to be."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pipeline_blocks import Task


@dataclass(frozen=True, slots=True)
class Objective:
    """`weights`: one a class, their mean over the training rows 1; None: all alike.

    `smoothing` is the share of certainty taken from a label and spread over all classes (Szegedy et al. 2016).
    """

    weights: torch.Tensor | None = None
    smoothing: float = 0.0

    def loss(self, task: Task, scores: torch.Tensor, truth: torch.Tensor, smooth: bool) -> torch.Tensor:
        """Squared error of the standardised label, or cross entropy (binary when there is one score a row).

        A mean over rows; smoothed only if `smooth`, for validation rows are judged by their labels.
        """
        if task == "regression":
            return nn.functional.mse_loss(scores[:, 0].float(), truth)
        # Scores may come in 16 bits; what is learnt from them is counted in 32.
        scores, smoothing = scores.float(), self.smoothing if smooth else 0.0
        if scores.shape[1] == 1:
            wanted = truth.to(scores.dtype) * (1 - smoothing) + smoothing / 2
            losses = nn.functional.binary_cross_entropy_with_logits(scores[:, 0], wanted, reduction="none")
        else:
            losses = nn.functional.cross_entropy(scores, truth, reduction="none", label_smoothing=smoothing)
        if self.weights is not None:
            losses = losses * self.weights.to(losses.device)[truth]
        return losses.mean()


PLAIN = Objective()


def objective(parameters: Parameters, truth: npt.NDArray[Any], classes: int) -> Objective:
    """What `parameters` ask for, given the class numbers of the training rows; balanced weights are n / (k * n_c)."""
    if parameters.class_weights == "none":
        return Objective(None, parameters.label_smoothing)
    counts = np.bincount(truth, minlength=classes)
    present = counts > 0
    weights = np.where(present, len(truth) / (present.sum() * np.maximum(counts, 1)), 1.0)
    return Objective(torch.from_numpy(weights.astype(np.float32)), parameters.label_smoothing)
