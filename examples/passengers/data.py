"""River's airline passengers as events: the course of the last two years, and by how much traffic then changed.

    python -m examples.passengers.data > passengers.jsonl      the months to learn from, to be uploaded
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from river import datasets

MONTHS = 24
"""Months of a course, the newest last."""
YEAR = 12
LEARNT_UNTIL = 1957
"""The last year learnt from; what comes later no model has seen."""


@dataclass(frozen=True, slots=True)
class Month:
    """A month in which the next one is to be foretold: passengers in thousands, of it and of those before it."""

    when: datetime
    passengers: tuple[float, ...]
    """The newest last."""
    following: float
    """The month to be foretold."""

    @property
    def year(self) -> int:
        """Of the month to be foretold."""
        return self.when.year + self.when.month // YEAR

    @property
    def a_year_before(self) -> float:
        """Passengers a year before the month to be foretold."""
        return self.passengers[-YEAR]

    @property
    def seasonal(self) -> float:
        """Change from this month to the next as it was a year ago."""
        return self.a_year_before / self.passengers[-YEAR - 1]

    def row(self) -> dict[str, Any]:
        """Each month as a share of the newest, so that growth over the years does not lead out of what is known."""
        newest = self.passengers[-1]
        return {"event_id": f"month-{self.when:%Y-%m}", "occurred_at": self.when.isoformat(),
                "course": [round(one / newest, 6) for one in self.passengers],
                "change": round(self.following / newest, 6)}


def months() -> list[Month]:
    """In order of time, from the first that has two years behind it to the last that has one after it."""
    seen = [(x["month"].replace(tzinfo=UTC), float(y)) for x, y in datasets.AirlinePassengers()]  # type: ignore[no-untyped-call]
    counts = [count for _, count in seen]
    return [Month(seen[at][0], tuple(counts[at + 1 - MONTHS:at + 1]), counts[at + 1])
            for at in range(MONTHS - 1, len(seen) - 1)]


def main() -> None:
    for one in months():
        if one.year <= LEARNT_UNTIL:
            print(json.dumps(one.row()))


if __name__ == "__main__":
    main()
