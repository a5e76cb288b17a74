"""How good a stream's answers were, each given before its label was seen: over all rows, and over a fading window."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# What a row counts after each further row (Gama, Sebastião and Rodrigues 2013): about the last thousand say it.
FADING = 0.999
_EPSILON = 1e-15
# The course has a point at every so many rows; when there are more points than that, at every twice as many.
_STRIDE, MOST_POINTS = 16, 200
_CLASSES, _NUMBERS = ("accuracy", "log_loss"), ("mse", "mae")


class Record:
    """Prequential figures (test, then train), and those of the plainest answer to the same rows beside them.

    The plainest answer is the commonest class so far, or the mean of the labels so far; for the first row class 0 or 0.
    Another repeats the label before (the no-change classifier, the naive forecast), of rows that have one before them.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self._names = _NUMBERS if task == "regression" else _CLASSES
        self._repeats = _NUMBERS if task == "regression" else _CLASSES[:1]
        # Whole and faded sums, [2, figures]: the learner's, then the plainest answer's; then how many rows they are of.
        self._sums = np.zeros((2, 2 * len(self._names)))
        self._rows = np.zeros(2)
        # Those of repeating, which begin one row later, and the label to repeat.
        self._last_sums = np.zeros((2, len(self._repeats)))
        self._last_rows = np.zeros(2)
        self._last = np.zeros(0)
        self._counts = np.zeros(0, dtype=np.int64)
        self._total = 0.0
        # [points, 3 + figures]: the row, the faded rows and sums as they were after it, and those of repeating.
        self._points = np.zeros((0, 3 + 2 * len(self._names) + len(self._repeats)))

    @property
    def rows(self) -> int:
        return int(self._rows[0])

    def update(self, scores: Array, truth: Array) -> None:
        """Scores [n, classes] or [n, 1] of rows in order, and what was true: class numbers, or numbers."""
        if not len(truth):
            return
        found = self._numbers(scores[:, 0], truth) if self._task == "regression" else self._classes(scores, truth)
        repeated = self._repeated(truth)
        self._note(found, repeated)
        self._sums, self._rows = _added(self._sums, self._rows, found)
        self._last_sums, self._last_rows = _added(self._last_sums, self._last_rows, repeated)

    def figures(self) -> dict[str, float]:
        """By name: `accuracy` and `log_loss`, or `rmse` and `mae`, over all rows and `fading_...`; `baseline_...` of
        the plainest answer, `last_value_...` of repeating."""
        if not self.rows:
            return {}
        found: dict[str, float] = {}
        for place, window in enumerate(("", "fading_")):
            found |= self._named(window, self._rows[place], self._sums[place], self._last_rows[place],
                                 self._last_sums[place])
        return found

    def course(self) -> list[dict[str, float]]:
        """The `fading_...` figures as they were after `rows` rows, at most `MOST_POINTS` times, evenly apart.

        Begins where a state from before it was kept was gone on with.
        """
        last = 2 + 2 * len(self._names)
        return [{"rows": int(point[0]), **self._named("fading_", point[1], point[2:last], point[last],
                                                      point[last + 1:])} for point in self._points]

    def arrays(self) -> dict[str, Array]:
        return {"sums": self._sums.copy(), "rows": self._rows.copy(), "counts": self._counts.copy(),
                "total": np.array(self._total), "last_sums": self._last_sums.copy(),
                "last_rows": self._last_rows.copy(), "last": self._last.copy(), "points": self._points.copy()}

    def load(self, arrays: Mapping[str, Array]) -> None:
        self._sums, self._rows = np.array(arrays["sums"]), np.array(arrays["rows"])
        self._counts, self._total = np.array(arrays["counts"]), float(arrays["total"])
        if "last" in arrays:
            # A state from before it was kept has none: repeating is then measured from here on.
            self._last_sums, self._last_rows = np.array(arrays["last_sums"]), np.array(arrays["last_rows"])
            self._last = np.array(arrays["last"])
        if "points" in arrays:
            self._points = np.array(arrays["points"])

    def _named(self, window: str, rows: float, sums: Array, last_rows: float, last_sums: Array) -> dict[str, float]:
        """Figures by name, of sums over so many rows."""
        names = [f"{whose}{window}{name}" for whose in ("", "baseline_") for name in self._names]
        found = dict(zip(names, (sums / rows).tolist(), strict=True))
        if last_rows:
            names = [f"last_value_{window}{name}" for name in self._repeats]
            found |= dict(zip(names, (last_sums / last_rows).tolist(), strict=True))
        return {(name[:-3] + "rmse" if name.endswith("mse") else name):
                (float(np.sqrt(value)) if name.endswith("mse") else value) for name, value in found.items()
                if name not in ("baseline_log_loss", "baseline_fading_log_loss")}

    def _note(self, found: Array, repeated: Array) -> None:
        """Points of the course among rows that are not yet in the sums."""
        stride = _stride(self.rows)
        rows = np.arange(self.rows - self.rows % stride + stride, self.rows + len(found) + 1, stride)
        if not len(rows):
            return
        counts = rows - self.rows
        mine = _faded(self._sums[1], self._rows[1], found, counts)
        last = _faded(self._last_sums[1], self._last_rows[1], repeated, counts - (len(found) - len(repeated)))
        noted = np.concatenate([self._points, np.column_stack([rows, mine, last])])
        self._points = noted[noted[:, 0] % _stride(int(rows[-1])) == 0]

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

    def _repeated(self, truth: Array) -> Array:
        """What repeating the label before would have reached, of rows that have one: [n or n - 1, figures]."""
        labels = np.concatenate([self._last, truth.astype(np.float64)])
        self._last = labels[-1:]
        apart = labels[1:] - labels[:-1]
        return np.stack([apart ** 2, np.abs(apart)] if self._task == "regression" else [apart == 0], axis=1)

    def _majority(self, truth: Array) -> Array:
        """The commonest class of the rows before each; of several the least number."""
        size = max(len(self._counts), int(truth.max()) + 1)
        before = np.zeros((len(truth) + 1, size), dtype=np.int64)
        before[0, :len(self._counts)] = self._counts
        before[1:] = before[0] + np.cumsum(truth[:, None] == np.arange(size), axis=0)
        self._counts = before[-1]
        return np.asarray(before[:-1].argmax(axis=1))


def _stride(rows: int) -> int:
    """How far apart the points of a course of so many rows are."""
    stride = _STRIDE
    while rows // stride > MOST_POINTS:
        stride *= 2
    return stride


def _added(sums: Array, rows: Array, found: Array) -> tuple[Array, Array]:
    """Whole and faded sums, and the rows they are of, with figures [n, figures] of further rows."""
    weights, faded = FADING ** np.arange(len(found) - 1, -1, -1), FADING ** len(found)
    return (np.stack([sums[0] + found.sum(axis=0), sums[1] * faded + weights @ found]),
            np.array([rows[0] + len(found), rows[1] * faded + weights.sum()]))


def _faded(sums: Array, rows: float, found: Array, counts: Array) -> Array:
    """Faded rows and sums [counts, 1 + figures] after so many of the further rows."""
    age = counts[:, None] - 1 - np.arange(len(found))
    weights, left = np.where(age >= 0, FADING ** np.maximum(age, 0), 0.0), FADING ** counts
    return np.column_stack([rows * left + weights.sum(axis=1), sums * left[:, None] + weights @ found])
