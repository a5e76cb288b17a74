"""What a model answered beside what was true, on rows it had not learnt from: the raw material of every judgement."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.trainer.core import metrics

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """`values` are probabilities [rows, classes] with class numbers as `truth` (-1: a class the model does not know);
    without `classes` they are numbers [rows], as is `truth`."""

    values: Array
    truth: Array
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def said(self) -> Array:
        """Number of the class answered, by row."""
        return np.asarray(self.values.argmax(axis=1))

    def take(self, which: Array) -> "Answered":
        return Answered(self.values[which], self.truth[which], self.classes)

    def metrics(self) -> dict[str, float]:
        """Every metric of the task that these rows define. They must be some."""
        measure = metrics.Classification(len(self.classes)) if self.classes else metrics.Regression()
        measure.update(self.values, self.truth)
        return measure.compute()

    def losses(self, metric: str) -> Array | None:
        """By row, what the metric is the mean of: `accuracy` as 1 for right, squared or absolute errors, the log loss.

        None for a metric that is no mean over rows.
        """
        if self.classes:
            if metric == "accuracy":
                return np.asarray(self.said == self.truth, dtype=np.float64)
            chosen = np.where(self.truth >= 0, self.values[np.arange(len(self)), self.truth], 0.0)
            return -np.log(np.clip(chosen, metrics.EPSILON, 1.0)) if metric == "log_loss" else None
        apart = np.abs(self.values - self.truth)
        return {"mae": apart, "mse": apart ** 2, "rmse": apart ** 2}.get(metric)
