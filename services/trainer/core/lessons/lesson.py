"""What every task promises a run: from its rows to what a network is taught, from the file's answers to figures."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from lepton.contracts.features import EVENT_ID
from services.trainer.core.dataset import Target
from services.trainer.core.export.session import Session
from services.trainer.core.networks.network import Network
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs

Array = npt.NDArray[Any]


class Lesson(ABC):
    """One for each run. `truth` is whatever an entry a row the task needs: [rows] or [rows, n]."""

    stops_early = True
    """Whether the loss on validation rows says when enough was learnt."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def owners(self, rows: pa.Table) -> list[str]:
        """What is held out or learnt from as a whole, for each row: its event."""
        found: list[str] = rows.column(EVENT_ID).to_pylist()
        return found

    @abstractmethod
    def target(self, rows: pa.Table, training: Array) -> Target:
        """What is frozen in the training rows. Raises RunFailed."""

    @abstractmethod
    def truth(self, rows: pa.Table, inputs: Inputs, target: Target) -> Array:
        """An entry a row."""

    @abstractmethod
    def check_known(self, target: Target, truth: Array, training: Array) -> None:
        """Raises RunFailed where a parent's target does not cover these rows."""

    def teaches(self, truth: Array, training: Array) -> Array:
        """Rows that say something: others are neither learnt from nor measured on."""
        return np.ones(len(truth), dtype=bool)

    @abstractmethod
    def check(self, target: Target, training_truth: Array) -> None:
        """Raises RunFailed where nothing can be learnt from these."""

    @abstractmethod
    def tensor(self, truth: Array, preparation: Preparation, target: Target) -> torch.Tensor:
        """What the network's loss takes beside the rows."""

    def calibrated(self, target: Target, network: Network, training: torch.Tensor) -> Target:
        """The target once the network has learnt; `training` are the prepared rows it learnt from."""
        return target

    def bounded(self, target: Target, network: Network, judging: tuple[torch.Tensor, torch.Tensor]) -> Target:
        """The target with the bounds of its numbers, by prepared rows the network did not learn from and their
        truth."""
        return target

    @abstractmethod
    def measure(self, running: Session, held: Inputs, truth: Array, target: Target,
                classes: Sequence[str] = ()) -> dict[str, float]:
        """Figures of a file's answers to held-out rows; `classes` are the file's, where they are not the target's."""

    @abstractmethod
    def baseline(self, training: tuple[Inputs, Array], held: tuple[Inputs, Array], preparation: Preparation,
                 target: Target) -> dict[str, float]:
        """What the plainest answer reaches on the held-out rows, each figure named `baseline_...`."""
