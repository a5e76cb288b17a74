"""river's ChickWeights (578 weighings of 50 chicks on four diets) as events and, for `later`, their labels.

    python -m examples.chicks.data events > chicks.jsonl     one JSON event a line, in order of time
    python -m examples.chicks.data labels > labels.jsonl     the next weight of each, known at the next weighing

`--run NAME` begins ids and entities with another name, so that the same weighings can be sent again.
"""

import argparse
import json
from collections.abc import Iterator
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


def lines(what: str, run: str) -> Iterator[str]:
    for one in weighings():
        if what == "events":
            yield json.dumps(one.event(run))
        elif one.next_g is not None:
            yield json.dumps(one.label(run))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["events", "labels"])
    parser.add_argument("--run", default="chick", help="first part of ids and entities")
    given = parser.parse_args()
    for line in lines(given.what, given.run):
        print(line)


if __name__ == "__main__":
    main()
