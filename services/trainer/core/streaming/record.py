"""How good a stream's answers were, each given before its label was seen: over all rows, and over a fading window."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# What a row counts after each further row (Gama, Sebastião and Rodrigues 2013): about the last thousand say it.
FADING = 0.999
_EPSILON = 1e-15
_CLASSES, _NUMBERS = ("accuracy", "log_loss"), ("mse", "mae")


class Record:
    """Prequential figures (test, then train), and those of the plainest answer to the same rows beside them.

    The plainest answer is the commonest class so far, or the mean of the labels so far; for the first row class 0 or 0.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self._names = _NUMBERS if task == "regression" else _CLASSES
        # Whole and faded sums, [2, figures]: the learner's, then the plainest answer's; then how many rows they are of.
        self._sums = np.zeros((2, 2 * len(self._names)))
        self._rows = np.zeros(2)
        self._counts = np.zeros(0, dtype=np.int64)
        self._total = 0.0

    @property
    def rows(self) -> int:
        return int(self._rows[0])

    def update(self, scores: Array, truth: Array) -> None:
        """Scores [n, classes] or [n, 1] of rows in order, and what was true: class numbers, or numbers."""
        if not len(truth):
            return
        found = self._numbers(scores[:, 0], truth) if self._task == "regression" else self._classes(scores, truth)
        weights = FADING ** np.arange(len(truth) - 1, -1, -1)
        faded = FADING ** len(truth)
        self._sums[0] += found.sum(axis=0)
        self._sums[1] = self._sums[1] * faded + weights @ found
        self._rows = np.array([self._rows[0] + len(truth), self._rows[1] * faded + weights.sum()])

    def figures(self) -> dict[str, float]:
        """By name: `accuracy` and `log_loss`, or `rmse` and `mae`, over all rows and `fading_...`; `baseline_...`."""
        if not self.rows:
            return {}
        found: dict[str, float] = {}
        for sums, rows, window in zip(self._sums, self._rows, ("", "fading_"), strict=True):
            names = [f"{whose}{window}{name}" for whose in ("", "baseline_") for name in self._names]
            found |= dict(zip(names, (sums / rows).tolist(), strict=True))
        return {(name[:-3] + "rmse" if name.endswith("mse") else name):
                (float(np.sqrt(value)) if name.endswith("mse") else value) for name, value in found.items()
                if name not in ("baseline_log_loss", "baseline_fading_log_loss")}

    def arrays(self) -> dict[str, Array]:
        return {"sums": self._sums.copy(), "rows": self._rows.copy(), "counts": self._counts.copy(),
                "total": np.array(self._total)}

    def load(self, arrays: Mapping[str, Array]) -> None:
        self._sums, self._rows = np.array(arrays["sums"]), np.array(arrays["rows"])
        self._counts, self._total = np.array(arrays["counts"]), float(arrays["total"])

    def _classes(self, scores: Array, truth: Array) -> Array:
        truth = truth.astype(np.int64)
        chosen = scores[np.arange(len(truth)), truth]
        right = scores.argmax(axis=1) == truth
        plainest = self._majority(truth) == truth
        return np.stack([right, -np.log(np.clip(chosen, _EPSILON, 1.0)), plainest, np.zeros(len(truth))], axis=1)

    def _numbers(self, answers: Array, truth: Array) -> Array:
        before = self._total + np.concatenate([[0.0], np.cumsum(truth)])
        count = self._rows[0] + np.arange(len(truth))
        mean = before[:-1] / np.maximum(count, 1)
        self._total = float(before[-1])
        return np.stack([(answers - truth) ** 2, np.abs(answers - truth), (mean - truth) ** 2,
                         np.abs(mean - truth)], axis=1)

    def _majority(self, truth: Array) -> Array:
        """The commonest class of the rows before each; of several the least number."""
        size = max(len(self._counts), int(truth.max()) + 1)
        before = np.zeros((len(truth) + 1, size), dtype=np.int64)
        before[0, :len(self._counts)] = self._counts
        before[1:] = before[0] + np.cumsum(truth[:, None] == np.arange(size), axis=0)
        self._counts = before[-1]
        return np.asarray(before[:-1].argmax(axis=1))
