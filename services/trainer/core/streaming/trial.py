"""The newest held-out rows with the stream learner's answers to them: what the next candidate is judged on.

An event is held out by its id alone, as in any run (`core/dataset.py`), so a champion that a run trained has not learnt
from these rows either.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from services.trainer.core.preparing.rows import Inputs
from services.trainer.core.streaming.replay import values_from, values_of

Array = npt.NDArray[Any]

KEPT = 2000


class Trial:
    """Rows since the last candidate, at most `KEPT`."""

    def __init__(self) -> None:
        self._values: dict[str, Array] = {}
        self._missing = np.zeros((0, 0), dtype=bool)
        self._truth = np.zeros(0)
        self._scores = np.zeros((0, 0))

    @property
    def rows(self) -> int:
        return len(self._truth)

    @property
    def inputs(self) -> Inputs:
        return Inputs(self._values, self._missing)

    @property
    def truth(self) -> Array:
        return self._truth

    @property
    def scores(self) -> Array:
        """[rows, classes], 0 for a class that was not known yet; [rows, 1] for a number."""
        return self._scores

    def add(self, rows: Inputs, truth: Array, scores: Array) -> None:
        if not rows.rows:
            return
        if not self.rows:
            self._values, self._missing = rows.values, rows.missing
            self._truth, self._scores = truth.astype(np.float64), scores
        else:
            width = max(scores.shape[1], self._scores.shape[1])
            self._values = {name: np.concatenate([some, rows.values[name]]) for name, some in self._values.items()}
            self._missing = np.concatenate([self._missing, rows.missing])
            self._truth = np.concatenate([self._truth, truth.astype(np.float64)])
            self._scores = np.concatenate([_widened(self._scores, width), _widened(scores, width)])
        self._values = {name: some[-KEPT:] for name, some in self._values.items()}
        self._missing, self._truth, self._scores = self._missing[-KEPT:], self._truth[-KEPT:], self._scores[-KEPT:]

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]  # exactly as new

    def arrays(self) -> dict[str, Array]:
        return {"missing": self._missing, "truth": self._truth, "scores": self._scores,
                **values_of(self._values, np.ones(self.rows, dtype=bool))}

    def load(self, arrays: Mapping[str, Array]) -> None:
        self._values = values_from(arrays)
        self._missing, self._truth = np.array(arrays["missing"]), np.array(arrays["truth"])
        self._scores = np.array(arrays["scores"])


def _widened(scores: Array, width: int) -> Array:
    return np.pad(scores, ((0, 0), (0, width - scores.shape[1])))
