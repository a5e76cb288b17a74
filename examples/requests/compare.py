"""Learns what requests want as the trainer has it learn, beside scikit-learn and families that read word by word.

Every accuracy is of the requests that no model has seen.

    python -m examples.requests.compare
"""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from examples import alone
from examples.requests.data import LEARNT_FROM, Request, requests
from lepton.contracts.modelling.families import Family
from services.trainer.core.learning import Given, learn

SEEDS = (1, 2, 3, 4, 5)
"""Each begins with other first weights, and other requests are held out, since their ids choose them."""
TOGETHER: dict[str, Any] = {"tokens": 24, "epochs": 30, "patience": 0}
"""What the others have in common: longer than any request here, and all rows learnt from, as the Pipeline has it."""
OTHERS: tuple[tuple[Family, dict[str, Any]], ...] = (
    ("cnn", {"channels": (64,)}),
    ("gru", {"units": 32}),
    ("transformer", {"units": 32, "heads": 4, "learning_rate": 0.005}))
_PENALTY = 10.0
"""scikit-learn's C, the better of 1 and 10 in five folds of the requests learnt from."""


def commonest(first: Sequence[Request], rest: Sequence[Request]) -> list[str]:
    """Answers that read nothing."""
    return [Counter(one.wish for one in first).most_common(1)[0][0]] * len(rest)


def peer(first: Sequence[Request], rest: Sequence[Request], seed: int | None = None) -> list[str]:
    """What scikit-learn's weighted words and logistic regression say; with a seed, of four fifths of `first`.

    So many are left to the trainer, which holds the others out.
    """
    if seed is not None:
        first = [first[at] for at in np.random.default_rng(seed).permutation(len(first))[:len(first) * 4 // 5]]
    made = make_pipeline(TfidfVectorizer(), LogisticRegression(C=_PENALTY, max_iter=1000))
    made.fit([one.text for one in first], [one.wish for one in first])
    return [str(said) for said in made.predict([one.text for one in rest])]


def answered(first: Sequence[Request], rest: Sequence[Request], seed: int | None = None, family: Family | None = None,
             **parameters: Any) -> list[str]:
    """What a model that learnt from `first` says of `rest`; without a family, the Pipeline's own."""
    of = alone.spec("requests")
    rows = alone.table(of, [one.row(f"request-{seed}") for one in first])
    learned = learn(alone.plan(of, seed, family, **parameters), Given(rows), [])
    return [str(said) for said in alone.answers(of, learned.exported.data, [one.row() for one in rest])["label"]]


def accuracy(said: Sequence[str], rest: Sequence[Request]) -> float:
    return sum(answer == one.wish for answer, one in zip(said, rest, strict=True)) / len(rest)


def told(name: str, found: Sequence[float]) -> None:
    print(f"  {name:28s} {np.mean(found):.3f}  ({min(found):.3f} to {max(found):.3f})", flush=True)


def main() -> int:
    rows = requests()
    first, rest = rows[:LEARNT_FROM], rows[LEARNT_FROM:]
    print(f"{len(first)} requests learnt from, {len(rest)} others; accuracy, where chance has a say "
          f"the mean and range of {len(SEEDS)} seeds:")
    for name, said in (("always the commonest", commonest(first, rest)), ("scikit-learn", peer(first, rest))):
        print(f"  {name:28s} {accuracy(said, rest):.3f}", flush=True)
    told("scikit-learn, four fifths", [accuracy(peer(first, rest, seed), rest) for seed in SEEDS])
    for family, parameters in ((None, {}), *OTHERS):
        taken = {**TOGETHER, **parameters} if family else parameters
        told(family or "as in pipeline.yaml",
             [accuracy(answered(first, rest, seed, family, **taken), rest) for seed in SEEDS])
    wrong = Counter((one.wish, said) for one, said in zip(rest, answered(first, rest), strict=True) if said != one.wish)
    print("mistakes of pipeline.yaml: " + ", ".join(
        f"{count} × {wish} as {said}" for (wish, said), count in wrong.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
