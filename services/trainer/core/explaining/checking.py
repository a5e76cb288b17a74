"""Whether a run's file is to say what each field did, and proof that it says what torch's gradients say."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from services.trainer.core.dataset import Target
from services.trainer.core.explaining.attributions import Attributions, by_torch, of_network
from services.trainer.core.explaining.pieces import base_of, pieces_of
from services.trainer.core.explaining.shapley import Shapley, shapley_of
from services.trainer.core.export.answers import unit_of
from services.trainer.core.export.session import TOLERANCE, Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.networks.branches import Branched
from services.trainer.core.networks.network import Network
from services.trainer.core.networks.stack import Stack
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.part import ATTRIBUTIONS
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs

Array = npt.NDArray[Any]

# Rows compared, and the share of them that may differ: where a unit of ReLU opens within a rounding error of a point
# of the path, one library has it open and the other closed, and where two classes are all but even, each tells another.
CHECKED_ROWS, APART_SHARE = 200, 0.02
# Answers of a network for the rows that are compared, and in which the whole model is explained: a few seconds.
_EVALUATIONS, LEAST_ROWS = 30_000, 8


@dataclass(frozen=True, slots=True)
class Explained:
    """A network that is explained, and how."""

    network: Network
    preparation: Preparation
    target: Target
    how: Attributions | Shapley

    @property
    def rows(self) -> int:
        """So many are explained to check the file and to say what matters by and large."""
        if isinstance(self.how, Attributions):
            return CHECKED_ROWS
        return min(max(_EVALUATIONS // self.how.evaluations, LEAST_ROWS), CHECKED_ROWS)

    def by_torch(self, rows: Inputs) -> Array:
        """What fields did [rows, fields], or parts of them by pairs of orders [rows, pairs, parts]."""
        given = self.preparation.transform(rows)
        if isinstance(self.how, Shapley):
            return self.how.by_torch(given)
        assert isinstance(self.network, Stack)
        return by_torch(self.network, given, self.how)


def explained(plan: Plan, network: Network, preparation: Preparation, target: Target,
              training: Inputs) -> Explained | None:
    """None where the plan does not ask for it, or a command chose a family that cannot."""
    if not plan.explain.rows or not isinstance(network, Stack | Branched):
        return None
    layout, fields, prepared = preparation.layout, preparation.fields, preparation.transform(training)
    if isinstance(network, Branched):
        pieces = pieces_of(layout, fields, plan.parameters.image or (), plan.explain.parts)
        return Explained(network, preparation, target, shapley_of(
            network, pieces, base_of(layout, prepared), plan.explain.steps, unit_of(target), plan.parameters.seed))
    steps = 1 if len(network.layers) == 1 else plan.explain.steps
    return Explained(network, preparation, target, of_network(network, layout, fields, prepared.mean(axis=0), steps,
                                                              unit_of(target)))


def check(running: Session, one: Explained, held: Inputs, strange: Inputs) -> dict[str, Any]:
    """How the attributions were made, for the card. Raises RunFailed(internal) where file and torch differ."""
    some = held.take(np.arange(min(held.rows, one.rows)))
    did, said = one.by_torch(some), running.reasons(some)
    _compare(one, one.how.answers(did), said, "held-out rows")
    _compare(one, one.how.answers(one.by_torch(strange)), running.reasons(strange), "adversarial rows")
    return {"attribution": {**_method(one, did), **_told(one, some, said[ATTRIBUTIONS])}}


def _compare(one: Explained, expected: dict[str, Array], said: dict[str, Array], what: str) -> None:
    rows = len(said[ATTRIBUTIONS])
    apart = np.zeros(rows, dtype=bool)
    for name, value in expected.items():
        flat = value.reshape(rows, math.prod(value.shape[1:]))
        found = said[name].reshape(flat.shape)
        scale = unit_of(one.target) + np.abs(flat).max(axis=1, initial=0.0)
        near = np.abs(found - flat).max(axis=1, initial=0.0) <= TOLERANCE * scale
        apart |= ~(near & np.isfinite(found).all(axis=1))
    # Of one row alone, none may differ.
    if apart.sum() > min(1, rows // 2) + APART_SHARE * rows:
        raise RunFailed("internal", f"the exported model does not explain {what} as the trained one: "
                                    f"{int(apart.sum())} of {rows} differ",
                        "this is a bug of the exporter; nothing was published, and model.explain.rows: false "
                        "goes without")


def _told(one: Explained, rows: Inputs, did: Array) -> dict[str, Any]:
    """`error` is how far, on average, what fields did is from adding up to the score less the base row's."""
    with torch.no_grad():
        scores = one.network(torch.from_numpy(one.preparation.transform(rows))).numpy()
        start = one.network(torch.from_numpy(one.how.base[None, :])).numpy()[0]
    answered = scores.argmax(axis=1)
    lead = (scores[np.arange(len(scores)), answered] - start[answered]) * unit_of(one.target)
    return {"unit": "units of the label" if one.target.task == "regression" else
            "log odds" if one.target.outputs == 1 else "logits of the class answered",
            "error": float(np.abs(lead - did.sum(axis=1)).mean())}


def _method(one: Explained, did: Array) -> dict[str, Any]:
    """`chance`, where orders were drawn, is the mean standard error of what a part did."""
    if isinstance(one.how, Attributions):
        points = len(one.how.places)
        return {"method": "exact for a linear model" if points == 1 else f"integrated gradients over {points} points"}
    pairs, moved = did.shape[1], (did != 0).any(axis=1)
    error = did.std(axis=1, ddof=1)[moved] / math.sqrt(pairs)
    return {"method": f"Shapley values over {2 * pairs} random orders", "chance": float(error.mean()) if len(error)
            else 0.0}
