"""Learns which failure a series shows as the trainer has it learn, beside the nearest neighbour and other families.

    python -m examples.plant.compare
"""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from examples import alone
from examples.plant.data import Reading, readings
from lepton.contracts.modelling.families import Family
from services.trainer.core.learning import Given, learn

SEEDS = (1, 2, 3, 4, 5)
OTHERS: tuple[tuple[Family, dict[str, Any]], ...] = (
    ("gru", {"units": 16, "epochs": 40, "patience": 40, "learning_rate": 0.01, "batch_size": 16}),
    ("logistic_regression", {"epochs": 100, "patience": 100, "batch_size": 16}))


def plain(first: Sequence[Reading], rest: Sequence[Reading]) -> dict[str, list[str]]:
    """Answers that learn nothing: the commonest failure, and that of the nearest series by Euclid's distance."""
    known, asked = (np.array([one.samples for one in some]) for some in (first, rest))
    nearest = ((asked[:, None] - known[None]) ** 2).sum(axis=2).argmin(axis=1)
    commonest = Counter(one.failure for one in first).most_common(1)[0][0]
    return {"always the commonest": [commonest] * len(rest), "as the nearest": [first[at].failure for at in nearest]}


def answered(first: Sequence[Reading], rest: Sequence[Reading], seed: int | None = None, family: Family | None = None,
             **parameters: Any) -> list[str]:
    """What a model that learnt from `first` says of `rest`; without a family, the Pipeline's own."""
    of = alone.spec("plant")
    rows = alone.table(of, [one.row() for one in first])
    learned = learn(alone.plan(of, seed, family, **parameters), Given(rows), [])
    return [str(one) for one in alone.answers(of, learned.exported.data, [one.row() for one in rest])["label"]]


def accuracy(said: Sequence[str], rest: Sequence[Reading]) -> float:
    return sum(answer == one.failure for answer, one in zip(said, rest, strict=True)) / len(rest)


def main() -> int:
    first, rest = readings("train"), readings("test")
    print(f"{len(first)} readings learnt from, {len(rest)} others; accuracy, where something is learnt "
          f"the mean and range of {len(SEEDS)} seeds:")
    for name, said in plain(first, rest).items():
        print(f"  {name:24s} {accuracy(said, rest):5.2f}")
    for family, parameters in ((None, {}), *OTHERS):
        found = [accuracy(answered(first, rest, seed, family, **parameters), rest) for seed in SEEDS]
        name = family or "cnn, as in pipeline.yaml"
        print(f"  {name:24s} {np.mean(found):5.2f}  ({min(found):.2f} to {max(found):.2f})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
