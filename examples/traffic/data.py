"""A road's detector as events: vehicles of the last three hours and of a week ago, and how many passed an hour later.

    python -m examples.traffic.data > traffic.jsonl      the quarters of an hour to learn from, to be uploaded
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from examples.bundled import bundled

DETECTOR = 17
"""The busiest of the 22 of this intersection."""
QUARTERS, AHEAD, AROUND = 12, 4, 2
"""Quarters of an hour of a course, how many of them ahead is foretold, and how many a week ago are seen around that."""
LEARNT_UNTIL = datetime(2024, 5, 7, tzinfo=UTC)
"""From here on no model has seen what is foretold: the last week of the four."""
_STEP, _WEEK = timedelta(minutes=15), timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Quarter:
    """An end of a quarter of an hour, at which the quarter that ends an hour later is to be foretold: vehicles."""

    foretold: datetime
    """Beginning of the quarter to be foretold. The data have no zone: times of the place are written as if in UTC."""
    course: tuple[int, ...]
    """Of the last three hours, the newest last."""
    week: tuple[int, ...]
    """A week before the quarter to be foretold, with two quarters on either side."""
    following: int
    """What passed in the quarter to be foretold."""

    def row(self) -> dict[str, Any]:
        # The newest quarter is counted once it is over.
        known = self.foretold - (AHEAD - 1) * _STEP
        return {"event_id": f"quarter-{known:%Y%m%dT%H%M}", "occurred_at": known.isoformat(),
                "course": list(self.course), "week": list(self.week), "weekday": f"{self.foretold:%a}",
                "hour": self.foretold.hour + self.foretold.minute / 60, "vehicles": self.following}


def quarters() -> list[Quarter]:
    """In order of time, of each of which all that it needs was counted: from the second week on. Raises Missing."""
    seen = counts()
    found = (_quarter(seen, when) for when in sorted(seen))
    return [one for one in found if one is not None]


def counts() -> dict[datetime, int]:
    """Vehicles by the beginning of the quarter in which the detector counted them. Raises Missing."""
    table = pq.read_table(bundled("traffic_anomaly/data/sample_counts.parquet"))
    table = table.filter(pc.field("detector") == DETECTOR)
    times = (when.replace(tzinfo=UTC) for when in table.column("timestamp").to_pylist())
    return dict(zip(times, table.column("total").to_pylist(), strict=True))


def _quarter(seen: Mapping[datetime, int], foretold: datetime) -> Quarter | None:
    newest = foretold - AHEAD * _STEP
    course = [newest - back * _STEP for back in reversed(range(QUARTERS))]
    week = [foretold - _WEEK + away * _STEP for away in range(-AROUND, AROUND + 1)]
    if not all(when in seen for when in (*course, *week)):
        return None
    return Quarter(foretold, tuple(seen[when] for when in course), tuple(seen[when] for when in week), seen[foretold])


def main() -> None:
    for one in quarters():
        if one.foretold < LEARNT_UNTIL:
            print(json.dumps(one.row()))


if __name__ == "__main__":
    main()
