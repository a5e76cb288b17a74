"""Finds a model of risk as the trainer does, by a search, and tells how it ranks patients and how it treats groups.

    python -m examples.risk.compare
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from examples import alone
from examples.risk.data import LEARNT_FROM, patients
from services.trainer.core.gate import Verdict, decide
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.plan import Plan
from services.trainer.core.searching.search import Notes
from services.trainer.core.searching.trials import searched

THIRDS = ("least", "middle", "most")


@dataclass(frozen=True, slots=True)
class Found:
    """What the search took, what was learnt with it, and what the gate says of that."""

    plan: Plan
    learned: Learned
    verdict: Verdict

    @property
    def account(self) -> str:
        return str(json.loads(self.plan.found)["explanation"])


def found(rows: Sequence[dict[str, Any]], trials: int | None = None) -> Found:
    """Search, learn and judge; with fewer trials than the Pipeline asks for where `trials` says so."""
    of = alone.spec("risk")
    assert of.model is not None
    assert of.gate is not None
    table, asked = alone.table(of, rows), alone.plan(of)
    assert asked.search is not None
    if trials is not None:
        asked = asked.model_copy(update={"search": asked.search.model_copy(update={"trials": trials})})
    plan = searched(asked, table, Notes(None, lambda kept: None, lambda stage, figures: None, monotonic))
    learned = learn(plan, Given(table), [])
    return Found(plan, learned, decide(of.gate, learned.metrics, None, fairness=of.model.evaluate.fairness))


def risks(of: Found, rows: Sequence[dict[str, Any]]) -> npt.NDArray[np.float64]:
    """Each patient's chance to get worse, as the exported file says."""
    said = alone.answers(alone.spec("risk"), of.learned.exported.data, rows)
    return np.asarray(said["probabilities"][:, 1], dtype=np.float64)


def main() -> int:
    rows = patients()
    model = found(rows[:LEARNT_FROM])
    figures = model.learned.metrics
    print(model.account)
    print(f"held out, {model.learned.held_out_rows} of {LEARNT_FROM}: area {figures['roc_auc']:.3f}, Brier score "
          f"{figures['brier']:.3f}; in five folds area {figures['folds_roc_auc']:.3f}, standard error "
          f"{figures['folds_roc_auc_error']:.3f}")
    print(f"  groups of sex {figures['fairness_gap']:.3f} apart; the gate: "
          f"{'passed' if model.verdict.passed else '; '.join(model.verdict.reasons)}")
    unseen = rows[LEARNT_FROM:]
    chance, worse = risks(model, unseen), np.array([row["worse"] for row in unseen])
    print(f"never seen, {len(unseen)}: area {roc_auc_score(worse, chance):.3f}")
    for name, third in zip(THIRDS, np.array_split(np.argsort(chance, kind="stable"), len(THIRDS)), strict=True):
        print(f"  third at {name:6s} risk: told {chance[third].mean():.2f}, came true {worse[third].mean():.2f}")
    for sex in ("a", "b"):
        at_risk = np.array([row["sex"] == sex for row in unseen]) & worse
        print(f"  of {at_risk.sum()} of sex {sex} who got worse, found {(chance[at_risk] > 1 / 2).mean():.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
