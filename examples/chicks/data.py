"""ChickWeights of river (578 weighings of 50 chicks, four diets) as rows: events, and what each label turned out to be.

    python -m examples.chicks.data > chicks.jsonl     one JSON row a line, in order of time

`--run NAME` begins ids and entities with another name, so that the same weighings can be sent again.
"""

import argparse
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from river import datasets

HATCHED = datetime(2026, 3, 1, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Weighing:
    """One chick on one day; `next_g` is what it will weigh the next time, None for its last."""

    chick: int
    day: int
    diet: int
    weight_g: float
    next_day: int | None = None
    next_g: float | None = None

    def event(self, run: str) -> dict[str, Any]:
        return {"event_id": f"{run}-{self.chick:02d}-{self.day:02d}", "chick": f"{run}-{self.chick:02d}",
                "occurred_at": (HATCHED + timedelta(days=self.day)).isoformat(), "weight_g": self.weight_g,
                "day": self.day, "diet": f"diet-{self.diet}"}

    def label(self, run: str) -> dict[str, Any]:
        return {"event_id": f"{run}-{self.chick:02d}-{self.day:02d}", "entity": f"{run}-{self.chick:02d}",
                "label": self.next_g}


def weighings() -> list[Weighing]:
    """In order of days, then of chicks."""
    rows = [(int(x["chick"]), int(x["time"]), int(x["diet"]), float(y)) for x, y in datasets.ChickWeights()]  # type: ignore[no-untyped-call]
    found = []
    for chick, day, diet, weight_g in sorted(rows, key=lambda row: (row[1], row[0])):
        later = [(other, next_g) for one, other, _, next_g in rows if one == chick and other > day]
        found.append(Weighing(chick, day, diet, weight_g, *(min(later) if later else (None, None))))
    return found


def row(one: Weighing, run: str) -> dict[str, Any]:
    """The event with the label it got later, as recorded data has both."""
    return one.event(run) | ({} if one.next_g is None else {"next_weight_g": one.next_g})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="chick", help="first part of ids and entities")
    given = parser.parse_args()
    for one in weighings():
        print(json.dumps(row(one, given.run)))


if __name__ == "__main__":
    main()
