"""The learner of a stream: experts, how far each is trusted at present, and when they begin anew from the buffer."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs
from services.trainer.core.streaming.course import Course
from services.trainer.core.streaming.experts import Expertise, Experts
from services.trainer.core.streaming.replay import ReplayBuffer
from services.trainer.core.transforming.fitting import fit, prepared_by

Array = npt.NDArray[Any]

KINDS = (Expertise("laplace", 0.7), Expertise("laplace", 3.0), Expertise("gauss", 2.5), Expertise("gauss", 8.0))
# Experts whose squared error was less by this, in sum, are trusted e times as much; it fades with each row.
_TRUST, _FADING = 0.1, 0.005
# A class is aimed at with 1, all others with -1; beyond this a score says no more.
SURE = 1.5
LEAST_CHANCE = 0.005
# Values further out than this many standard deviations teach no more than those at this distance.
FAR = 6.0
# Fields are prepared anew whenever the rows have doubled, until they are this many.
_SETTLED = 512
# Then only when the newest rows lie this far from where they lay, in standard deviations and in ratios of them.
_LOOK_EVERY, _MOVED, _STRETCHED = 256, 1.0, 3.0
_TEACH_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Standard:
    """Where prepared columns and numeric labels lie, and how far they spread."""

    center: Array
    scale: Array
    label_center: float = 0.0
    label_scale: float = 1.0

    def of(self, prepared: Array) -> torch.Tensor:
        return torch.from_numpy(np.clip((prepared - self.center) / self.scale, -FAR, FAR))


class StreamLearner:
    """Answers are scores: for classes the chance of each, [n, classes]; else the number, [n, 1].

    The same rows and labels give the same answers, with or without a stop in between, and but for rounding in whatever
    batches they come.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        self._targets = course.classes if course.task == "classification" else 1
        self._buffer = ReplayBuffer(course.replay, course.seed)
        self._preparation: Preparation | None = None
        self._standard = Standard(np.zeros(0), np.ones(0))
        self._experts: Experts | None = None
        self._trust = np.zeros(len(KINDS))
        self._anew = 0

    @property
    def classes(self) -> int:
        """Classes known; 1 for a number."""
        return self._targets

    @property
    def seen(self) -> int:
        """Rows learnt from."""
        return self._buffer.count

    @property
    def trust(self) -> Array:
        """Share each expert has in an answer at present."""
        return _shares(self._trust)

    @property
    def times_anew(self) -> int:
        """How often the experts began anew because the rows had moved."""
        return self._anew

    @property
    def preparation(self) -> Preparation | None:
        """How fields become columns at present; None before the first row."""
        return self._preparation

    @property
    def standard(self) -> Standard:
        return self._standard

    @property
    def experts(self) -> Experts | None:
        """None before the first row."""
        return self._experts

    def test_then_train(self, rows: Inputs, labels: Array) -> Array:
        """Scores for each row by what was known before its own label, which is then learnt.

        However many rows come at once, the answer for a row takes in the labels of all rows before it.
        """
        if self._course.task == "classification":
            while len(labels) and self._targets <= int(labels.max()):
                if self._experts is not None:
                    self._experts.add_target(-1.0, constant=0)
                self._targets += 1
        found, begin = [], 0
        while begin < rows.rows:
            self._settle(rows)
            end = min(rows.rows, begin + self._until_settling())
            found.append(self._step(rows.take(np.arange(begin, end)) if end - begin < rows.rows else rows,
                                    labels[begin:end]))
            begin = end
        return np.concatenate(found) if found else np.empty((0, self._targets))

    def arrays(self) -> dict[str, Array]:
        """All it has learnt, to be taken by `load` of a learner of the same course, with `about`."""
        experts = {} if self._experts is None else self._experts.arrays()
        return {"trust": self._trust.copy(), "center": self._standard.center.copy(),
                "scale": self._standard.scale.copy(),
                **{f"experts/{name}": array for name, array in experts.items()},
                **{f"buffer/{name}": array for name, array in self._buffer.arrays().items()}}

    def about(self) -> dict[str, Any]:
        """Plain JSON data that belongs to `arrays`."""
        standard = self._standard
        return {"targets": self._targets, "anew": self._anew, "label": [standard.label_center, standard.label_scale],
                "preparation": None if self._preparation is None else self._preparation.to_data()}

    def load(self, arrays: Mapping[str, Array], about: Mapping[str, Any]) -> None:
        self._targets, self._anew = int(about["targets"]), int(about["anew"])
        self._trust = np.array(arrays["trust"])
        self._standard = Standard(np.array(arrays["center"]), np.array(arrays["scale"]), *about["label"])
        self._buffer.load(under(arrays, "buffer"))
        if about["preparation"] is not None:
            self._preparation = prepared_by(about["preparation"])
            self._experts = self._fresh()
            self._experts.load(under(arrays, "experts"))

    def _step(self, rows: Inputs, labels: Array) -> Array:
        assert self._preparation is not None and self._experts is not None
        prepared = self._standard.of(self._preparation.transform(rows).astype(np.float64))
        targets = self._aims(labels)
        said = self._bounded(self._experts.test_then_train(prepared, targets)[:, :, 1:])
        missed = said - targets[:, 1:]
        losses = np.einsum("enk,enk->en", missed, missed) / missed.shape[2]
        fading, left = _fading(rows.rows)
        # What a row's answer trusts is known from the rows before it.
        before = self._trust * left[:-1, None] - _TRUST * (fading @ losses.T)
        answer = np.einsum("ne,enk->nk", _shares(before), said)
        self._trust = self._trust * left[-1] - _TRUST * (1 - _FADING) * (fading[-1] @ losses.T + losses[:, -1])
        self._trust -= self._trust.max()
        self._buffer.add(rows, labels)
        return self._scores(answer)

    def _settle(self, coming: Inputs) -> None:
        """Begin anew from the buffer where rows are no more what they were taken for."""
        count = self._buffer.count
        if not count:
            if self._preparation is None:
                # Before any row was seen, nothing of it is known but its form.
                self._prepare(coming.take(np.arange(0)), np.zeros(0))
            return
        doubled = count <= _SETTLED and count & (count - 1) == 0
        if not doubled:
            if count % _LOOK_EVERY or count <= _SETTLED or not self._moved():
                return
            self._anew += 1
        rows, labels = self._buffer.rows()
        prepared, aims = self._prepare(rows, labels), self._aims(labels)
        assert self._experts is not None
        for begin in range(0, len(prepared), _TEACH_AT_ONCE):
            self._experts.teach(prepared[begin:begin + _TEACH_AT_ONCE], aims[begin:begin + _TEACH_AT_ONCE])

    def _prepare(self, rows: Inputs, labels: Array) -> torch.Tensor:
        """Preparation, standard and experts without knowledge, from these rows; the rows by them."""
        self._preparation = fit(self._course.fields, self._course.outliers, rows)
        prepared = self._preparation.transform(rows).astype(np.float64)
        self._standard = _standard(prepared, labels if self._course.task == "regression" else np.zeros(0))
        self._experts = self._fresh()
        return self._standard.of(prepared)

    def _until_settling(self) -> int:
        count = self._buffer.count
        if count < _SETTLED:
            return 1 if not count else (1 << count.bit_length()) - count
        return _LOOK_EVERY - count % _LOOK_EVERY

    def _moved(self) -> bool:
        assert self._preparation is not None
        newest = _standard(self._preparation.transform(self._buffer.rows(_LOOK_EVERY)[0]).astype(np.float64),
                           np.zeros(0))
        away = np.abs(newest.center - self._standard.center) / self._standard.scale
        stretched = newest.scale / self._standard.scale
        return bool(((away > _MOVED) | (stretched > _STRETCHED)).any())

    def _fresh(self) -> Experts:
        return Experts(KINDS, len(self._standard.center), 1 + self._targets, self._course.width, self._course.seed)

    def _aims(self, labels: Array) -> Array:
        """[n, 1 + targets]: first the constant 1, from which a new class's past follows."""
        aims = np.ones((len(labels), 1 + self._targets))
        if self._course.task == "regression":
            aims[:, 1] = (labels - self._standard.label_center) / self._standard.label_scale
        else:
            aims[:, 1:] = np.where(labels[:, None] == np.arange(self._targets), 1.0, -1.0)
        return aims

    def _bounded(self, said: Array) -> Array:
        return np.clip(said, -SURE, SURE) if self._course.task == "classification" else said

    def _scores(self, answer: Array) -> Array:
        if self._course.task == "regression":
            return np.asarray(answer * self._standard.label_scale + self._standard.label_center)
        chances = np.clip((answer + 1) / 2, LEAST_CHANCE, 1 - LEAST_CHANCE)
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def under(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Those whose names begin with `prefix/`, by the rest of their names."""
    return {name.removeprefix(prefix + "/"): array for name, array in arrays.items() if name.startswith(prefix + "/")}


def _standard(prepared: Array, labels: Array) -> Standard:
    if not len(prepared):
        return Standard(np.zeros(prepared.shape[1]), np.ones(prepared.shape[1]))
    center, spread = prepared.mean(axis=0), prepared.std(axis=0)
    label_spread = float(labels.std()) if len(labels) else 1.0
    return Standard(center, np.where(spread > 1e-9 * np.maximum(np.abs(center), 1e-300), spread, 1.0),
                    float(labels.mean()) if len(labels) else 0.0, label_spread if label_spread > 0 else 1.0)


@lru_cache(maxsize=256)
def _fading(count: int) -> tuple[Array, Array]:
    """What row i's loss still counts at row j (0 unless i < j), and what the trust before the batch does."""
    left = (1 - _FADING) ** np.arange(count + 1)
    age = np.arange(count)[:, None] - np.arange(count)[None, :]
    return np.where(age > 0, (1 - _FADING) ** np.maximum(age, 0), 0.0), left


def _shares(trust: Array) -> Array:
    weights = np.exp(trust - trust.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
