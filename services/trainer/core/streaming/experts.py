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
    """All experts of a learner; rows are standardised [n, columns], targets [n, k], both in 64 bits."""

    def __init__(self, kinds: Sequence[Expertise], columns: int, targets: int, width: int, seed: int) -> None:
        chance = np.random.default_rng(seed)
        half = width // 2
        self.frequencies = torch.from_numpy(np.stack([_frequencies(kind, columns, half, chance) for kind in kinds]))
        size = 2 * half + columns + 1
        self._ridge = _RIDGE * torch.eye(size, dtype=torch.float64)
        self._gram = torch.zeros((len(kinds), size, size), dtype=torch.float64)
        self._seen = torch.zeros((len(kinds), size, targets), dtype=torch.float64)

    @property
    def weights(self) -> torch.Tensor:
        """What each expert makes of its features now: [experts, features, targets]."""
        return torch.cholesky_solve(self._seen, torch.linalg.cholesky(self._gram + self._ridge))

    def answers(self, rows: torch.Tensor) -> torch.Tensor:
        """What each expert says now: [experts, n, targets]."""
        return features(rows, self.frequencies) @ self.weights

    def test_then_train(self, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What each expert says of each row knowing the targets of all rows before it, and no other: [experts, n, k].

        In one step for the whole batch: the Cholesky factor of the rows' covariance, as the experts expect it, turns
        targets into what was unforeseen in each given those before (its inverse is triangular), and its diagonal is
        the scale of that. Afterwards all rows are learnt.
        """
        count = len(rows)
        given = features(rows, self.frequencies)
        turned = given.transpose(1, 2)
        solved = torch.linalg.solve_triangular(torch.linalg.cholesky(self._gram + self._ridge),
                                               torch.cat([turned, self._seen], 2), upper=False)
        mine, known = solved[:, :, :count], solved[:, :, count:]
        factor = torch.linalg.cholesky(mine.transpose(1, 2) @ mine + torch.eye(count, dtype=torch.float64))
        unforeseen: torch.Tensor = torch.linalg.solve_triangular(
            factor, targets - mine.transpose(1, 2) @ known, upper=False)
        scale = torch.diagonal(factor, dim1=1, dim2=2)[:, :, None]
        self._learn(given, turned, targets)
        return targets - scale * unforeseen

    def teach(self, rows: torch.Tensor, targets: torch.Tensor) -> None:
        """Learn rows and nothing else."""
        given = features(rows, self.frequencies)
        self._learn(given, given.transpose(1, 2), targets)

    def add_target(self, value: float, constant: int) -> None:
        """One target more, which was `value` in all rows so far; `constant` is the place of a target that was 1."""
        self._seen = torch.cat([self._seen, value * self._seen[:, :, constant:constant + 1]], 2)

    def arrays(self) -> dict[str, Array]:
        """Everything it learnt; what it drew at the start follows from its seed."""
        return {"gram": self._gram.numpy().copy(), "seen": self._seen.numpy().copy()}

    def load(self, arrays: Mapping[str, Array]) -> None:
        self._gram = torch.from_numpy(np.array(arrays["gram"]))
        self._seen = torch.from_numpy(np.array(arrays["seen"]))

    def _learn(self, given: torch.Tensor, turned: torch.Tensor, targets: torch.Tensor) -> None:
        self._gram += turned @ given
        self._seen += turned @ targets


def features(rows: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """[experts, n, features]: cosines, sines, the columns, a constant."""
    angles = rows @ frequencies
    scale = random_scale(frequencies)
    plain = torch.cat([rows * column_scale(rows.shape[1]), torch.ones((len(rows), 1), dtype=rows.dtype)], 1)
    return torch.cat([torch.cos(angles) * scale, torch.sin(angles) * scale,
                      plain.expand(len(angles), -1, -1)], 2)


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
