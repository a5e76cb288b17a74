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
    """Rows since the last candidate, at most `KEPT`. What is added is put together only when somebody looks."""

    def __init__(self) -> None:
        self._parts: list[tuple[Inputs, Array, Array]] = []

    @property
    def rows(self) -> int:
        return min(KEPT, sum(len(truth) for _, truth, _ in self._parts))

    @property
    def inputs(self) -> Inputs:
        return self._whole()[0]

    @property
    def truth(self) -> Array:
        return self._whole()[1]

    @property
    def scores(self) -> Array:
        """[rows, classes], 0 for a class that was not known yet; [rows, 1] for a number."""
        return self._whole()[2]

    def add(self, rows: Inputs, truth: Array, scores: Array) -> None:
        if not rows.rows:
            return
        self._parts.append((rows, truth.astype(np.float64), scores))
        if sum(len(truth) for _, truth, _ in self._parts) > 2 * KEPT:
            self._whole()

    def clear(self) -> None:
        self._parts = []

    def arrays(self) -> dict[str, Array]:
        inputs, truth, scores = self._whole()
        return {"missing": inputs.missing, "truth": truth, "scores": scores,
                **values_of(inputs.values, np.ones(len(truth), dtype=bool))}

    def load(self, arrays: Mapping[str, Array]) -> None:
        inputs = Inputs(values_from(arrays), np.array(arrays["missing"]))
        self._parts = [(inputs, np.array(arrays["truth"]), np.array(arrays["scores"]))] if inputs.rows else []

    def _whole(self) -> tuple[Inputs, Array, Array]:
        if not self._parts:
            return Inputs({}, np.zeros((0, 0), dtype=bool)), np.zeros(0), np.zeros((0, 0))
        inputs, truths, scores = zip(*self._parts, strict=True)
        width = max(one.shape[1] for one in scores)
        whole = Inputs({name: np.concatenate([one.values[name] for one in inputs])[-KEPT:]
                        for name in inputs[0].values}, np.concatenate([one.missing for one in inputs])[-KEPT:])
        self._parts = [(whole, np.concatenate(truths)[-KEPT:],
                        np.concatenate([_widened(one, width) for one in scores])[-KEPT:])]
        return self._parts[0]


def _widened(scores: Array, width: int) -> Array:
    return np.pad(scores, ((0, 0), (0, width - scores.shape[1])))
