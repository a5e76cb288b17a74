"""Labels that are a number or a class: what is taught, and the figures of regression and classification."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from services.trainer.core import metrics
from services.trainer.core.dataset import LABEL, Target, fit_target
from services.trainer.core.export.session import Session, align
from services.trainer.core.failure import bad_data
from services.trainer.core.lessons.lesson import Array, Lesson
from services.trainer.core.networks.network import Network
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs

# Rows a call: bounds the memory of what lies between the layers.
_AT_ONCE = 4096


class Supervised(Lesson):
    """`truth`: class numbers, -1 for a class that is not known, or the label's numbers."""

    def target(self, rows: pa.Table, training: Array) -> Target:
        plan = self.plan
        return fit_target(plan.task, plan.label_type or "", plan.label_categories, rows.column(LABEL), training)

    def truth(self, rows: pa.Table, inputs: Inputs, target: Target) -> Array:
        return target.encode(rows.column(LABEL))

    def check_known(self, target: Target, truth: Array, training: Array) -> None:
        """A parent's classes are part of its network: a new one needs a fresh start."""
        if target.task == "classification" and (truth[training] < 0).any():
            raise bad_data("a label is of a class the parent version does not know", "train instead of fine-tuning",
                           "unknown_class")

    def check(self, target: Target, training_truth: Array) -> None:
        if target.task == "classification" and len(set(training_truth.tolist())) < 2:
            raise bad_data(f"all {len(training_truth)} training rows have the same label",
                           "wait for, or send, labels of at least two classes", "one_class")

    def tensor(self, truth: Array, preparation: Preparation, target: Target) -> torch.Tensor:
        if target.task == "regression":
            return torch.from_numpy(((truth - target.mean) / target.std).astype(np.float32))
        return torch.from_numpy(truth)

    def bounded(self, target: Target, network: Network, judging: tuple[torch.Tensor, torch.Tensor]) -> Target:
        if target.task != "regression":
            return target
        share = self.plan.interval
        return replace(target, reach=None if share is None else conformal(network, *judging, share))

    def measure(self, running: Session, held: Inputs, truth: Array, target: Target,
                classes: Sequence[str] = ()) -> dict[str, float]:
        answers = running.answers(held)
        if target.task == "regression":
            numbers = metrics.Regression()
            numbers.update(answers["prediction"], truth)
            return numbers.compute() | metrics.bounds(answers, truth)
        measure = metrics.Classification(len(target.classes))
        measure.update(align(answers["probabilities"], classes or target.classes, target.classes), truth)
        return measure.compute()

    def baseline(self, training: tuple[Inputs, Array], held: tuple[Inputs, Array], preparation: Preparation,
                 target: Target) -> dict[str, float]:
        if target.task == "regression":
            return metrics.regression_baseline(training[1], held[1])
        return metrics.classification_baseline(training[1], held[1], len(target.classes))


def conformal(network: Network, rows: torch.Tensor, truth: torch.Tensor, share: float) -> float | None:
    """How far from its scores the truth lies in this share of rows (split conformal prediction, Lei et al. 2018).

    None where they are too few to say: for 9 of 10 it takes 9.
    """
    network.eval()
    with torch.no_grad():
        apart = [np.abs(network(rows[start:start + _AT_ONCE])[:, 0].numpy().astype(np.float64)
                        - truth[start:start + _AT_ONCE].numpy()) for start in range(0, len(rows), _AT_ONCE)]
    # One row more than there are: the one that will be answered.
    place = math.ceil((len(rows) + 1) * share)
    return float(np.sort(np.concatenate(apart))[place - 1]) if 0 < place <= len(rows) else None
