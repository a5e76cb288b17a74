"""Learns to foretell a month's passengers as the trainer has it learn, beside plain forecasts and other families.

Every forecast is of a month after those that were learnt from, from months that were over by then.

    python -m examples.passengers.compare
"""

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from examples import alone
from examples.passengers.data import LEARNT_UNTIL, Month, months
from lepton.contracts.modelling.families import Family
from services.trainer.core.learning import Given, learn

SEEDS = (1, 2, 3, 4, 5)
"""Each begins with other first weights."""
OTHERS: tuple[tuple[Family, dict[str, float]], ...] = (
    ("lstm", {"units": 16, "epochs": 200, "patience": 200, "learning_rate": 0.01, "batch_size": 16}),
    ("linear_regression", {"epochs": 300, "patience": 300, "learning_rate": 0.02, "l2": 0.001, "batch_size": 16}))
"""Families that stand beside the Pipeline's own, each course taken along or as columns."""

Numbers = npt.NDArray[np.float64]


def parted() -> tuple[list[Month], list[Month]]:
    """Months to learn from, and those after them."""
    found = months()
    return ([one for one in found if one.year <= LEARNT_UNTIL], [one for one in found if one.year > LEARNT_UNTIL])


def plain(rest: Sequence[Month]) -> dict[str, Numbers]:
    """Forecasts that learn nothing, in thousands of passengers."""
    now = np.array([one.passengers[-1] for one in rest])
    return {"as many as this month": now,
            "as many as a year before": np.array([one.a_year_before for one in rest]),
            "changes as a year before": now * np.array([one.seasonal for one in rest])}


def forecast(first: Sequence[Month], rest: Sequence[Month], seed: int | None = None, family: Family | None = None,
             **parameters: float) -> Numbers:
    """What a model that learnt from `first` says of `rest`; without a family, the Pipeline's own."""
    of = alone.spec("passengers")
    rows = alone.table(of, [one.row() for one in first])
    learned = learn(alone.plan(of, seed, family, **parameters), Given(rows), [])
    change = alone.answers(of, learned.exported.data, [one.row() for one in rest])["prediction"]
    return np.asarray(change * np.array([one.passengers[-1] for one in rest]), dtype=np.float64)


def error(said: Numbers, rest: Sequence[Month]) -> float:
    """Mean absolute error, in thousands of passengers."""
    return float(np.abs(said - np.array([one.following for one in rest])).mean())


def main() -> int:
    first, rest = parted()
    print(f"{len(first)} months learnt from, {len(rest)} foretold; mean error in thousands of passengers,")
    print(f"where something is learnt the mean and range of {len(SEEDS)} seeds:")
    for name, said in plain(rest).items():
        print(f"  {name:26s} {error(said, rest):5.1f}")
    for family, parameters in ((None, {}), *OTHERS):
        found = [error(forecast(first, rest, seed, family, **parameters), rest) for seed in SEEDS]
        name, span = family or "cnn, as in pipeline.yaml", f"({min(found):.1f} to {max(found):.1f})"
        print(f"  {name:26s} {np.mean(found):5.1f}  {span}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
