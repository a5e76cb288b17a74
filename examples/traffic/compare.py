"""Learns to foretell traffic as the trainer has it learn, beside plain forecasts and other families.

Every forecast is of the last week, which no model has seen, from counts that were over an hour before.

    python -m examples.traffic.compare
"""

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from examples import alone
from examples.traffic.data import AROUND, LEARNT_UNTIL, Quarter, quarters
from lepton.contracts.modelling.families import Family
from services.trainer.core.learning import Given, learn

SEEDS = (1, 2, 3, 4, 5)
"""Each begins with other first weights."""
PIPELINES: dict[Family, str] = {"cnn": "pipeline.yaml", "gru": "gru.yaml"}
"""Those that can be applied. A straight line stands beside them, each course taken as columns."""

Numbers = npt.NDArray[np.float64]


def parted() -> tuple[list[Quarter], list[Quarter]]:
    """Quarters to learn from, and those of the last week."""
    found = quarters()
    later = [one for one in found if one.foretold >= LEARNT_UNTIL]
    return found[:len(found) - len(later)], later


def plain(rest: Sequence[Quarter]) -> dict[str, Numbers]:
    """Forecasts that learn nothing, in vehicles."""
    now = np.array([one.course[-1] for one in rest])
    before = np.array([one.week[AROUND] for one in rest])
    return {"as many as now": now, "as many as a week before": before, "half way between the two": (now + before) / 2}


def forecast(first: Sequence[Quarter], rest: Sequence[Quarter], seed: int | None = None, family: Family | None = None,
             file: str = PIPELINES["cnn"], **parameters: float) -> Numbers:
    """What a model that learnt from `first` says of `rest`; without a family, by the Pipeline in `file`."""
    of = alone.spec("traffic", file)
    rows = alone.table(of, [one.row() for one in first])
    learned = learn(alone.plan(of, seed, family, **parameters), Given(rows), [])
    return np.asarray(alone.answers(of, learned.exported.data, [one.row() for one in rest])["prediction"], np.float64)


def error(said: Numbers, rest: Sequence[Quarter]) -> float:
    """Mean absolute error, in vehicles a quarter of an hour."""
    return float(np.abs(said - np.array([one.following for one in rest])).mean())


def main() -> int:
    first, rest = parted()
    mean = np.mean([one.following for one in rest])
    print(f"{len(first)} quarters of an hour learnt from, {len(rest)} foretold, of {mean:.0f} vehicles in the mean;")
    print("mean error in vehicles,", end=" ")
    print(f"where something is learnt the mean and range of {len(SEEDS)} seeds:")
    for name, said in plain(rest).items():
        print(f"  {name:26s} {error(said, rest):5.2f}")
    for family, file in PIPELINES.items():
        told(f"{family}, as in {file}", [error(forecast(first, rest, seed, file=file), rest) for seed in SEEDS])
    told("linear_regression", [error(forecast(first, rest, seed, "linear_regression"), rest) for seed in SEEDS])
    return 0


def told(name: str, found: Sequence[float]) -> None:
    print(f"  {name:26s} {np.mean(found):5.2f}  ({min(found):.2f} to {max(found):.2f})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
