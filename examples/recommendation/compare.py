"""Learns what a grocery's customers buy as the trainer has it learn, and prints how good the lists are.

    python -m examples.recommendation.compare
"""

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from examples import alone
from examples.recommendation.data import purchases
from services.trainer.core.dataset import HELD_OUT, roles
from services.trainer.core.learning import Given, learn

TOP = 10
FIGURES = ("ndcg", "hit_rate", "mrr", "coverage")
SETTINGS: dict[str, dict[str, Any]] = {
    "matrix factorisation, as in pipeline.yaml": {}, "with hidden: [32, 16]": {"hidden": (32, 16)}}


def main() -> int:
    of, rows = alone.spec("recommendation"), purchases()
    given = Given(alone.table(of, rows))
    print(f"{len(rows)} purchases, a fifth of them held out        " + "  ".join(f"{name:>8s}" for name in FIGURES))
    told = False
    for name, parameters in SETTINGS.items():
        found = learn(alone.plan(of, **parameters), given, []).metrics
        if not told:
            print(_line("bought most first", [found[f"baseline_{one}"] for one in FIGURES]))
            print(_line("what the customer bought most, then that", bought_before(rows, 0.2)))
            told = True
        print(_line(name, [found[one] for one in FIGURES]), flush=True)
    return 0


def bought_before(rows: Sequence[alone.Row], held_out: float) -> list[float]:
    """The figures of lists of what each customer bought most often, filled up with what all did, on the same rows."""
    held = [bool(one) for one in roles([str(row["event_id"]) for row in rows], held_out) == HELD_OUT]
    own: dict[str, Counter[str]] = defaultdict(Counter)
    for row, out in zip(rows, held, strict=True):
        if not out:
            own[str(row["customer"])][str(row["product"])] += 1
    counted = Counter(str(row["product"]) for row, out in zip(rows, held, strict=True) if not out)
    popular = [name for name, _ in counted.most_common()]
    lists: dict[str, list[str]] = {}
    for customer in {str(row["customer"]) for row in rows}:
        first = [name for name, _ in own[customer].most_common(TOP)]
        lists[customer] = (first + [name for name in popular[:2 * TOP] if name not in first])[:TOP]
    places = [lists[str(row["customer"])].index(str(row["product"])) if row["product"] in lists[str(row["customer"])]
              else None for row, out in zip(rows, held, strict=True) if out]
    hits = [place for place in places if place is not None]
    return [sum(1 / math.log2(place + 2) for place in hits) / len(places), len(hits) / len(places),
            sum(1 / (place + 1) for place in hits) / len(places), len(set().union(*lists.values())) / len(popular)]


def _line(name: str, figures: list[float]) -> str:
    return f"  {name:44s} " + "  ".join(f"{one:8.3f}" for one in figures)


if __name__ == "__main__":
    sys.exit(main())
