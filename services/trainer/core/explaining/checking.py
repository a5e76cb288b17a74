"""Whether a run's file is to say what each field did, and proof that it says what torch's gradients say."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from services.trainer.core.dataset import Target
from services.trainer.core.explaining.attributions import Attributions, by_torch, of_network
from services.trainer.core.export.answers import unit_of
from services.trainer.core.export.session import TOLERANCE, Session
from services.trainer.core.failure import RunFailed
from services.trainer.core.networks.network import Network
from services.trainer.core.networks.stack import Stack
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs

# Rows compared, and the share of them that may differ: where a unit of ReLU opens within a rounding error of a point
# of the path, one library has it open and the other closed.
CHECKED_ROWS, APART_SHARE = 200, 0.02


@dataclass(frozen=True, slots=True)
class Explained:
    """A network that is explained, and how."""

    network: Stack
    preparation: Preparation
    target: Target
    how: Attributions


def explained(plan: Plan, network: Network, preparation: Preparation, target: Target,
              training: Inputs) -> Explained | None:
    """None where the plan does not ask for it, or a command chose a family that cannot."""
    if not plan.explain.rows or not isinstance(network, Stack):
        return None
    steps = 1 if len(network.layers) == 1 else plan.explain.steps
    base = preparation.transform(training).mean(axis=0)
    return Explained(network, preparation, target, of_network(network, preparation.layout, preparation.fields, base,
                                                              steps, unit_of(target)))


def check(running: Session, one: Explained, held: Inputs, strange: Inputs) -> dict[str, Any]:
    """How the attributions were made, for the card. Raises RunFailed(internal) where file and torch differ."""
    for what, rows in (("held-out rows", held.take(np.arange(min(held.rows, CHECKED_ROWS)))),
                       ("adversarial rows", strange)):
        expected = by_torch(one.network, one.preparation.transform(rows), one.how)
        found = running.attributions(rows)
        scale = unit_of(one.target) + np.abs(expected).max(axis=1, initial=0.0)
        apart = np.abs(found - expected).max(axis=1, initial=0.0) > TOLERANCE * scale
        if not np.isfinite(found).all() or apart.sum() > 1 + APART_SHARE * rows.rows:
            raise RunFailed("internal", f"the exported model does not explain {what} as the trained one: "
                                        f"{int(apart.sum())} of {rows.rows} differ",
                            "this is a bug of the exporter; nothing was published, and model.explain.rows: false "
                            "goes without")
    return {"attribution": _told(running, one, held.take(np.arange(min(held.rows, CHECKED_ROWS))))}


def _told(running: Session, one: Explained, rows: Inputs) -> dict[str, Any]:
    """`error` is how far, on average, what fields did is from adding up to the score less the average row's."""
    with torch.no_grad():
        scores = one.network(torch.from_numpy(one.preparation.transform(rows))).numpy()
        start = one.network(torch.from_numpy(one.how.base[None, :])).numpy()[0]
    answered = scores.argmax(axis=1)
    lead = (scores[np.arange(len(scores)), answered] - start[answered]) * unit_of(one.target)
    points = len(one.how.places)
    return {"method": "exact for a linear model" if points == 1 else f"integrated gradients over {points} points",
            "unit": "units of the label" if one.target.task == "regression" else
            "log odds" if one.target.outputs == 1 else "logits of the class answered",
            "error": float(np.abs(lead - running.attributions(rows).sum(axis=1)).mean())}
