"""Ridge regressions on random features of several reaches, kept side by side in one stack of arrays.

Each expert is a ridge regression on `width` random Fourier features of a kernel (Rahimi and Recht 2007), the
standardised columns themselves and a constant. What it knows of the rows is two sums, so that a batch of any size
teaches it exactly what the same rows would have taught one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import blas, lapack

Array = npt.NDArray[Any]

# What one standardised row is from another, on average and a column: |a - b| and (a - b)^2 of normal values.
_TYPICAL = {"laplace": 2 / np.sqrt(np.pi), "gauss": 2.0}
_RIDGE = 0.2
_COLUMN_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Expertise:
    """`reach`: the kernel of two typical rows is exp(-reach)."""

    kernel: Literal["laplace", "gauss"]
    reach: float


class Experts:
    """All experts of a learner; rows are standardised [n, columns], targets [n, k], both in 64 bits.

    The arithmetic is BLAS's and LAPACK's own, in place: for matrices of this size that takes half of what the batched
    operators of torch do, and of sums that are symmetric only one triangle is ever made.
    """

    def __init__(self, kinds: Sequence[Expertise], columns: int, targets: int, width: int, seed: int) -> None:
        chance = np.random.default_rng(seed)
        half = width // 2
        self.frequencies = torch.from_numpy(np.stack([_frequencies(kind, columns, half, chance) for kind in kinds]))
        size = 2 * half + columns + 1
        self._ridge = _RIDGE * np.eye(size)
        # Of each only the triangle above the diagonal counts, which is what Fortran sees below it.
        self._gram = np.zeros((len(kinds), size, size))
        self._seen = np.zeros((len(kinds), size, targets))
        # Room to work in.
        self._factor = np.empty((size, size))

    @property
    def weights(self) -> torch.Tensor:
        """What each expert makes of its features now: [experts, features, targets]."""
        whole = torch.from_numpy(_whole(self._gram) + self._ridge)
        return torch.cholesky_solve(torch.from_numpy(self._seen), torch.linalg.cholesky(whole))

    def answers(self, rows: torch.Tensor) -> torch.Tensor:
        """What each expert says now: [experts, n, targets]."""
        return features(rows, self.frequencies) @ self.weights

    def test_then_train(self, rows: torch.Tensor, targets: Array) -> Array:
        """What each expert says of each row knowing the targets of all rows before it, and no other: [experts, n, k].

        In one step for the whole batch: the Cholesky factor of the rows' covariance, as the experts expect it, turns
        targets into what was unforeseen in each given those before (its inverse is triangular), and its diagonal is
        the scale of that. Afterwards all rows are learnt.
        """
        given = features(rows, self.frequencies).numpy()
        said = np.empty((len(given), *targets.shape))
        # One after the other: what belongs to one expert is then still in the processor's cache when it learns.
        for place, some in enumerate(given):
            said[place] = self._said(place, some, targets)
            self._learn(place, some, targets)
        return said

    def teach(self, rows: torch.Tensor, targets: Array) -> None:
        """Learn rows and nothing else."""
        for place, some in enumerate(features(rows, self.frequencies).numpy()):
            self._learn(place, some, targets)

    def add_target(self, value: float, constant: int) -> None:
        """One target more, which was `value` in all rows so far; `constant` is the place of a target that was 1."""
        self._seen = np.concatenate([self._seen, value * self._seen[:, :, constant:constant + 1]], axis=2)

    def arrays(self) -> dict[str, Array]:
        """Everything it learnt; what it drew at the start follows from its seed."""
        return {"gram": _whole(self._gram), "seen": self._seen.copy()}

    def load(self, arrays: Mapping[str, Array]) -> None:
        # In rows, as `_learn` adds to them in place.
        self._gram, self._seen = (np.array(arrays[name], order="C") for name in ("gram", "seen"))

    def _said(self, place: int, given: Array, targets: Array) -> Array:
        """What one expert says of the rows of which `given` [n, features] are its features."""
        count = len(given)
        # Fortran reads rows as columns: what is written [n, features] here is [features, n] there.
        both = np.empty((count + targets.shape[1], given.shape[1]))
        both[:count], both[count:] = given, self._seen[place].T
        np.add(self._gram[place], self._ridge, out=self._factor)
        factor, failed = lapack.dpotrf(self._factor.T, lower=1, overwrite_a=1, clean=0)
        solved = blas.dtrsm(1.0, factor, both.T, lower=1, overwrite_b=1).T
        mine, known = solved[:count], solved[count:]
        spread = blas.dsyrk(1.0, mine.T, trans=1, lower=1)
        spread.ravel(order="K")[::count + 1] += 1.0
        spread, unsure = lapack.dpotrf(spread, lower=1, overwrite_a=1, clean=0)
        if failed or unsure:
            raise ArithmeticError("the sums of an expert are not positive definite: a value in them is not finite")
        unforeseen = blas.dtrsm(1.0, spread, targets - mine @ known.T, lower=1)
        return np.asarray(targets - np.diagonal(spread)[:, None] * unforeseen)

    def _learn(self, place: int, given: Array, targets: Array) -> None:
        blas.dsyrk(1.0, given.T, beta=1.0, c=self._gram[place].T, lower=1, overwrite_c=1)
        self._seen[place] += given.T @ targets


def _whole(triangles: Array) -> Array:
    """Symmetric matrices [.., n, n], of which what is above the diagonal is given."""
    above = np.triu(triangles)
    return above + np.triu(triangles, 1).swapaxes(-1, -2)


def features(rows: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """[experts, n, features]: cosines, sines, the columns, a constant."""
    angles = rows @ frequencies
    scale, half = random_scale(frequencies), frequencies.shape[2]
    found = rows.new_empty((len(angles), len(rows), 2 * half + rows.shape[1] + 1))
    # Cosines are torch's, which is quicker at them; what is small is numpy's, whose calls cost less.
    room = found.numpy()
    np.multiply(torch.cos(angles).numpy(), scale, out=room[:, :, :half])
    np.multiply(torch.sin(angles).numpy(), scale, out=room[:, :, half:2 * half])
    np.multiply(rows.numpy(), column_scale(rows.shape[1]), out=room[:, :, 2 * half:-1])
    room[:, :, -1] = 1.0
    return found


def random_scale(frequencies: torch.Tensor) -> float:
    return float(1 / np.sqrt(frequencies.shape[2]))


def column_scale(columns: int) -> float:
    return float(_COLUMN_SHARE / np.sqrt(columns))


def _frequencies(kind: Expertise, columns: int, count: int, chance: np.random.Generator) -> Array:
    """Frequencies whose cosines and sines give the kernel on average: [columns, count]."""
    rate = kind.reach / (columns * _TYPICAL[kind.kernel])
    if kind.kernel == "laplace":
        return np.asarray(chance.standard_cauchy((columns, count)) * rate)
    return np.asarray(chance.normal(size=(columns, count)) * np.sqrt(2 * rate))
