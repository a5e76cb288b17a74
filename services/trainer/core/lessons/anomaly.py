"""What is usual, learnt from rows that nobody called strange; and a gate that needs no labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from services.trainer.core.dataset import LABEL, Target
from services.trainer.core.export.session import Session
from services.trainer.core.failure import bad_parameter
from services.trainer.core.lessons.lesson import Array, Lesson
from services.trainer.core.metrics import roc_auc
from services.trainer.core.networks.network import Network
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs

UNKNOWN, USUAL, STRANGE = -1, 0, 1
MIXED_SHARE = 1 / 3
"""Of a row's fields, that another row's values stand in for."""


class Anomaly(Lesson):
    """`truth`: UNKNOWN, USUAL or STRANGE. Strange rows are measured on, and never learnt from."""

    def target(self, rows: pa.Table, training: Array) -> Target:
        return Target("anomaly", "bool", ("false", "true"))

    def truth(self, rows: pa.Table, inputs: Inputs, target: Target) -> Array:
        labels = rows.column(LABEL)
        if labels.null_count == len(labels):
            return np.full(len(labels), UNKNOWN, dtype=np.int64)
        if labels.type != pa.bool_():
            raise bad_parameter(f"the label is {labels.type}, and does not say what is strange",
                                "label with true or false")
        known = pc.fill_null(labels.cast(pa.int64()), UNKNOWN)
        return np.asarray(known.to_numpy(), dtype=np.int64)

    def check_known(self, target: Target, truth: Array, training: Array) -> None:
        """A parent knows no classes."""

    def teaches(self, truth: Array, training: Array) -> Array:
        found: Array = (truth != STRANGE) | ~training
        return found

    def check(self, target: Target, training_truth: Array) -> None:
        """Any rows will do."""

    def tensor(self, truth: Array, preparation: Preparation, target: Target) -> torch.Tensor:
        return torch.from_numpy(truth)

    def calibrated(self, target: Target, network: Network, training: torch.Tensor) -> Target:
        """Strange is what is said again worse than all but a share `contamination` of the training rows."""
        network.eval()
        with torch.no_grad():
            errors = np.concatenate([network(part).numpy()[:, 0] for part in torch.split(training, 4096)])
        limit = float(np.quantile(errors.astype(np.float64), 1 - self.plan.parameters.contamination))
        return replace(target, std=max(limit, 1e-9))

    def measure(self, running: Session, held: Inputs, truth: Array, target: Target,
                classes: Sequence[str] = ()) -> dict[str, float]:
        usual = held.take(np.flatnonzero(truth != STRANGE))
        answers = running.answers(held)
        found = {"flagged_share": float(answers["label"][truth != STRANGE].mean())} if usual.rows else {}
        if usual.rows > 1 and len(usual.values) > 1:
            found["separation"] = _area(running.answers(usual)["score"], running.answers(mixed(usual))["score"])
        return found | _by_labels(answers["score"], truth)

    def baseline(self, training: tuple[Inputs, Array], held: tuple[Inputs, Array], preparation: Preparation,
                 target: Target) -> dict[str, float]:
        """How far a row is from the mean of the training rows; what is mixed keeps its distance, so half is right."""
        distances = (preparation.transform(held[0]).astype(np.float64) ** 2).mean(axis=1)
        return {"baseline_separation": 0.5} | {
            f"baseline_{name}": value for name, value in _by_labels(distances, held[1]).items()}


def mixed(rows: Inputs) -> Inputs:
    """The same rows with a third of each one's fields taken from another row, the same way for the same count.

    Each field keeps its distribution, and what holds a row together is broken (Hastie, Tibshirani and Friedman, *The
    Elements of Statistical Learning*, 14.2.4).
    """
    chance = np.random.default_rng([14, 2, 4, rows.rows])
    fields = len(rows.values)
    swapped = chance.random((rows.rows, fields)).argsort(axis=1) < max(1, round(fields * MIXED_SHARE))
    values, missing = {}, rows.missing.copy()
    for place, (name, column) in enumerate(rows.values.items()):
        other = (np.arange(rows.rows) + chance.integers(1, rows.rows, rows.rows)) % rows.rows
        taken = np.where(swapped[:, place], other, np.arange(rows.rows))
        values[name], missing[:, place] = column[taken], rows.missing[taken, place]
    return Inputs(values, missing)


def _by_labels(scores: Array, truth: Array) -> dict[str, float]:
    known = truth != UNKNOWN
    area = roc_auc(scores[known], truth[known] == STRANGE)
    return {} if area is None else {"roc_auc": area}


def _area(usual: Array, strange: Array) -> float:
    area = roc_auc(np.concatenate([usual, strange]), np.arange(len(usual) + len(strange)) >= len(usual))
    return 0.5 if area is None else area
