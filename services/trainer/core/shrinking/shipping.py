"""Which file of a model is served: the full one, or a smaller one whose cost in accuracy is within what was allowed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lepton.contracts.modelling.blocks import Export
from lepton.contracts.pb.models_pb2 import Shrinking
from lepton.contracts.pipeline_blocks import LOWER_IS_BETTER
from services.trainer.core.export.graph import Exported
from services.trainer.core.export.session import Session
from services.trainer.core.failure import RunFailed, bad_parameter
from services.trainer.core.preparing.rows import Inputs
from services.trainer.core.shrinking import eight_bits, folding, pruning, sixteen_bits
from services.trainer.core.shrinking.opened import Array, Opened
from services.trainer.core.shrinking.weighted import weighted

# Training rows that activations are measured on, spread evenly over all: more do not move the bounds.
CALIBRATION_ROWS = 1000
_SAYS_ONE, _PROBABILITIES = 1e-2, "probabilities"

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Shipped:
    """The file to serve, its metrics on the held-out rows, and what was done; `shrinking` None: nothing was asked."""

    exported: Exported
    metrics: Metrics
    shrinking: Shrinking | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a smaller file is made from and tried with: training rows, rows no one sends on purpose, the measure."""

    training: Inputs
    strange: Inputs
    measure: Callable[[Session], Metrics]
    metric: str


def ship(full: Exported, metrics: Metrics, wanted: Export | None, trial: Trial) -> Shipped:
    """Raises RunFailed(parameter) for what this network cannot become."""
    if wanted is None or (not wanted.prune and wanted.precision == "full"):
        return Shipped(full, metrics)
    rows = _spread(trial.training)
    small = shrunk(full, wanted, rows)
    session = Session(small.data)
    found = trial.measure(session)
    sound = _sound(session.answers(trial.strange))
    cost = _cost(metrics, found, trial.metric) if sound else math.inf
    report = Shrinking(methods=_methods(wanted), full_size_bytes=len(full.data), shrunk_size_bytes=len(small.data),
                       full_metrics=metrics, shrunk_metrics=found, metric=trial.metric, cost=cost,
                       max_cost=wanted.max_cost,
                       calibration_rows=rows.rows if wanted.prune or wanted.precision == "static_int8" else 0)
    if cost > wanted.max_cost and wanted.otherwise == "full":
        report.full_served = True
        return Shipped(full, metrics, report)
    return Shipped(small, found, report)


def shrunk(full: Exported, wanted: Export, rows: Inputs) -> Exported:
    """The smaller file. Raises RunFailed(parameter) where there is nothing to leave out or to round."""
    opened = Opened.of(full.data)
    if folding.fold(opened):
        opened = Opened.of(opened.closed(full).data)
    if wanted.prune:
        read = [one.second.product.given for one in pruning.links(opened)]
        if not pruning.prune(opened, wanted.prune, _activations(opened, read, rows)):
            raise bad_parameter("the network has no hidden units that could be left out",
                                "remove model.export.prune, raise it, or give the family hidden layers "
                                "(model.parameters.hidden)")
        opened = Opened.of(opened.closed(full).data)
    changed = 1
    if wanted.precision == "dynamic_int8":
        changed = eight_bits.dynamic(opened)
    elif wanted.precision == "static_int8":
        changed = eight_bits.static(opened, _activations(opened, [one.given for one in weighted(opened)], rows))
    elif wanted.precision == "fp16":
        changed = sixteen_bits.halve(opened)
    if not changed:
        raise bad_parameter(f"the network has no operator that {wanted.precision} changes",
                            "remove model.export.precision, or choose another")
    return opened.closed(full)


def _methods(wanted: Export) -> list[str]:
    return [*(["prune"] if wanted.prune else []), *([wanted.precision] if wanted.precision != "full" else [])]


def _cost(full: Mapping[str, float], small: Mapping[str, float], metric: str) -> float:
    if metric not in full or metric not in small:
        raise RunFailed("parameter", f"the cost of a smaller file cannot be stated: there is no {metric} here",
                        "gate by another metric")
    worse = full[metric] - small[metric]
    return -worse if metric in LOWER_IS_BETTER else worse


def _sound(answers: Mapping[str, Array]) -> bool:
    """Whether every number is one, and probabilities are some."""
    numbers = [values for values in answers.values() if values.dtype.kind == "f"]
    if not all(np.isfinite(values).all() for values in numbers):
        return False
    told = answers.get(_PROBABILITIES)
    return told is None or bool((np.abs(told.sum(axis=1) - 1) < _SAYS_ONE).all())


def _spread(inputs: Inputs) -> Inputs:
    if inputs.rows <= CALIBRATION_ROWS:
        return inputs
    return inputs.take(np.linspace(0, inputs.rows - 1, CALIBRATION_ROWS).astype(np.int64))


def _activations(opened: Opened, names: list[str], rows: Inputs) -> dict[str, Array]:
    wanted = sorted(set(names))
    return Session(opened.showing(wanted)).answers(rows) if wanted else {}
