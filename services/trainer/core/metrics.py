"""How good answers are on rows a model has not learnt from; each metric as scikit-learn defines it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# A probability of exactly 0 would make one wrong row an infinite loss.
EPSILON = 1e-15


class Classification:
    """Accumulates answers in batches. `truth` are class numbers; -1 stands for a class the model does not know."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self.reset()

    def reset(self) -> None:
        self._probabilities: list[Array] = []
        self._truth: list[Array] = []

    def update(self, probabilities: Array, truth: Array) -> None:
        self._probabilities.append(np.asarray(probabilities, dtype=np.float64))
        self._truth.append(truth)

    def compute(self) -> dict[str, float]:
        """accuracy, precision, recall, f1, log_loss, and roc_auc where it is defined.

        Two classes: precision, recall, f1 and roc_auc are those of the second. More: the mean over classes.
        """
        probabilities, truth = np.concatenate(self._probabilities), np.concatenate(self._truth)
        answers = probabilities.argmax(axis=1)
        chosen = np.where(truth >= 0, probabilities[np.arange(len(truth)), truth], 0.0)
        found = {"accuracy": float((answers == truth).mean()),
                 "log_loss": float(-np.log(np.clip(chosen, EPSILON, 1.0)).mean())}
        occurring = [1] if self._classes == 2 else sorted((set(truth.tolist()) | set(answers.tolist())) - {-1})
        parts = [_precision_recall_f1(answers == one, truth == one) for one in occurring]
        found |= {name: float(np.mean([part[place] for part in parts]))
                  for place, name in enumerate(("precision", "recall", "f1"))}
        ranked = [1] if self._classes == 2 else range(self._classes)
        areas = [area for one in ranked if (area := roc_auc(probabilities[:, one], truth == one)) is not None]
        if areas:
            found["roc_auc"] = float(np.mean(areas))
        return found


def bounds(answers: Mapping[str, Array], truth: Array) -> dict[str, float]:
    """Share of the truth that lies between the bounds, and how wide they are; nothing where none were answered."""
    if "low" not in answers or not len(truth):
        return {}
    low, high = answers["low"].astype(np.float64), answers["high"].astype(np.float64)
    return {"interval_coverage": float(((low <= truth) & (truth <= high)).mean()),
            "interval_width": float((high - low).mean())}


class Regression:
    """Accumulates answers in batches."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._answers: list[Array] = []
        self._truth: list[Array] = []

    def update(self, answers: Array, truth: Array) -> None:
        self._answers.append(np.asarray(answers, dtype=np.float64))
        self._truth.append(np.asarray(truth, dtype=np.float64))

    def compute(self) -> dict[str, float]:
        """mse, rmse, mae, and r2 where the truth varies."""
        answers, truth = np.concatenate(self._answers), np.concatenate(self._truth)
        squared = float(((answers - truth) ** 2).mean())
        found = {"mse": squared, "rmse": float(np.sqrt(squared)), "mae": float(np.abs(answers - truth).mean())}
        spread = float(((truth - truth.mean()) ** 2).mean())
        if spread > 0:
            found["r2"] = 1.0 - squared / spread
        return found


def roc_auc(scores: Array, positive: Array) -> float | None:
    """Chance that a positive row scores above a negative one, ties counting half; None without one of either."""
    count, total = int(positive.sum()), len(positive)
    if count in (0, total):
        return None
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[places]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (total - count)))


def classification_baseline(training: Array, truth: Array, classes: int) -> dict[str, float]:
    """What always answering the commonest class of the training rows would reach."""
    majority = int(np.bincount(training[training >= 0], minlength=classes).argmax())
    return {"baseline_accuracy": float((truth == majority).mean())}


def regression_baseline(training: Array, truth: Array) -> dict[str, float]:
    """What always answering the mean of the training rows would reach."""
    measure = Regression()
    measure.update(np.full(len(truth), training.mean()), truth)
    return {f"baseline_{name}": value for name, value in measure.compute().items() if name in ("mse", "rmse", "mae")}


def _precision_recall_f1(said: Array, true: Array) -> tuple[float, float, float]:
    right = float((said & true).sum())
    precision, recall = _share(right, float(said.sum())), _share(right, float(true.sum()))
    return precision, recall, _share(2 * precision * recall, precision + recall)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
