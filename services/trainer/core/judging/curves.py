"""The figures behind a classifier's pictures: confusion, ROC, precision against recall."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.trainer.core.judging.answered import Answered

Array = npt.NDArray[Any]

# More points than a picture has pixels say nothing more.
MAX_POINTS = 200


@dataclass(frozen=True, slots=True)
class Curve:
    """Points in the order of falling thresholds; `area` under it (for precision-recall the average precision)."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    area: float


def confusion(answered: Answered) -> Array:
    """Counts [true, said]; rows of a class the model does not know are left out."""
    known = answered.truth >= 0
    size = len(answered.classes)
    places = answered.truth[known] * size + answered.said[known]
    return np.bincount(places, minlength=size * size).reshape(size, size)


def roc(scores: Array, positive: Array, name: str) -> Curve | None:
    """False positive rate against true positive rate; None without one of either."""
    hits, misses = _cumulated(scores, positive)
    if not positive.any() or positive.all():
        return None
    x, y = np.concatenate([[0.0], misses / misses[-1]]), np.concatenate([[0.0], hits / hits[-1]])
    return _curve(name, x, y, float(np.trapezoid(y, x)))


def precision_recall(scores: Array, positive: Array, name: str) -> Curve | None:
    """Recall against precision, with the average precision as its area; None without a positive row."""
    if not positive.any():
        return None
    hits, misses = _cumulated(scores, positive)
    precision, recall = hits / (hits + misses), hits / hits[-1]
    average = float((np.diff(recall, prepend=0.0) * precision).sum())
    return _curve(name, np.concatenate([[0.0], recall]), np.concatenate([[precision[0]], precision]), average)


def by_class(answered: Answered, limit: int) -> list[tuple[str, Array, Array]]:
    """Name, scores and positive rows of each class drawn: the second of two, else one against the rest, the most
    frequent first, at most `limit`."""
    if len(answered.classes) == 2:
        wanted = [1]
    else:
        counts = np.bincount(answered.truth[answered.truth >= 0], minlength=len(answered.classes))
        wanted = sorted(np.argsort(-counts, kind="stable")[:limit].tolist())
    return [(answered.classes[one], answered.values[:, one], answered.truth == one) for one in wanted]


def _cumulated(scores: Array, positive: Array) -> tuple[Array, Array]:
    """Positive and negative rows at or above each distinct score, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ranked, falling = positive[order], scores[order]
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    hits = np.cumsum(ranked)[last].astype(np.float64)
    return hits, last + 1 - hits


def _curve(name: str, x: Array, y: Array, area: float) -> Curve:
    if len(x) > MAX_POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(np.int64))
        x, y = x[kept], y[kept]
    return Curve(name, tuple(x.round(6).tolist()), tuple(y.round(6).tolist()), area)
