"""Days of the flow: when how many events come, and which; pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

from deploy.chaos.plan import Daily
from lepton.errors import Invalid

Row = Mapping[str, Any]


class Day:
    """Every day like the one before: a night with few events at its beginning, most of them at noon.

    With a `season` a field's small values are the rule in the morning and its large ones in the evening, and over a
    whole day it has all of them as often as the rows do. Raises Invalid for a season of a field that has no order, or
    one value only.
    """

    def __init__(self, daily: Daily | None, rows: Sequence[Row]) -> None:
        self._daily = daily or Daily(night=1.0)
        self._rows: tuple[Iterator[Row], ...] = (cycle(rows),)
        self._owed = 0.0
        if self._daily.season:
            self._rows = tuple(cycle(half) for half in _halves(rows, self._daily.season))

    def rate(self, at_s: float) -> float:
        """Of the most events a second, what share comes `at_s` seconds after the first day began."""
        return self._daily.night + (1 - self._daily.night) * (1 - math.cos(self._angle(at_s))) / 2

    def row(self, at_s: float) -> Row:
        """The next row then."""
        if len(self._rows) == 1:
            return next(self._rows[0])
        small = (1 + self._daily.swing * math.sin(self._angle(at_s))) / 2
        # Not by chance: what comes is the same in each run.
        self._owed += small
        if self._owed < 1:
            return next(self._rows[1])
        self._owed -= 1
        return next(self._rows[0])

    def _angle(self, at_s: float) -> float:
        return 2 * math.pi * at_s / self._daily.period_s


def _halves(rows: Sequence[Row], field: str) -> tuple[Sequence[Row], Sequence[Row]]:
    """The rows with the smaller values of a field, and the others."""
    try:
        found = sorted(rows, key=lambda row: float(row[field]))
    except (KeyError, TypeError, ValueError) as failure:
        raise Invalid(f"a season needs a number in each row: {failure}", field="flow.daily.season", place=field,
                      remedy="name a number that every row has") from failure
    if found[0][field] == found[-1][field]:
        raise Invalid("all rows have one value", field="flow.daily.season", place=field, remedy="name another field")
    return found[:len(found) // 2], found[len(found) // 2:]
