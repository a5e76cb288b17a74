"""Summaries of a pipeline in the order of time, and the sums and series a report shows of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Summary = Mapping[str, Any]
WIDTHS = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1)}
MOST_STEPS = 5_000
OF_SOURCE = ("accepted", "rejected", "outliers", "missing")
VALUES = ("present", "missing", "invalid", "outliers", "repaired")


@dataclass(frozen=True, slots=True)
class FieldSum:
    """One field over the whole span; `latest` is its newest summary with values, where there is one."""

    name: str
    counts: Mapping[str, int]
    latest: Mapping[str, Any]

    @property
    def missing_share(self) -> float:
        seen = self.counts["present"] + self.counts["missing"]
        return self.counts["missing"] / seen if seen else 0.0

    @property
    def bad(self) -> int:
        return self.counts["missing"] + self.counts["invalid"]

    @property
    def is_numeric(self) -> bool:
        return bool(self.latest.get("quantiles"))


@dataclass(frozen=True, slots=True)
class History:
    """`summaries` oldest first; never empty."""

    pipeline: str
    interval: str
    summaries: Sequence[Summary]

    @property
    def times(self) -> list[datetime]:
        return [moment(one["interval_start"]) for one in self.summaries]

    @property
    def begin(self) -> datetime:
        return self.times[0]

    @property
    def end(self) -> datetime:
        return moment(self.summaries[-1]["interval_end"])

    def total(self, what: str) -> int:
        return sum(int(one.get(what, 0)) for one in self.summaries)

    def series(self, what: str) -> list[int]:
        return [int(one.get(what, 0)) for one in self.summaries]

    def of_field(self, name: str) -> list[Mapping[str, Any] | None]:
        """The field in each summary, None where it was not seen."""
        return [next((one for one in summary["fields"] if one["field"] == name), None) for summary in self.summaries]

    def share(self, name: str, what: str) -> list[float | None]:
        """Share of a field's events in which it was missing or invalid, by interval; None without any."""
        found: list[float | None] = []
        for one in self.of_field(name):
            seen = sum(int(one[count]) for count in ("present", "missing", "invalid")) if one else 0
            found.append(int(one[what]) / seen if one and seen else None)
        return found

    def fields(self) -> list[FieldSum]:
        names = dict.fromkeys(one["field"] for summary in self.summaries for one in summary["fields"])
        return [self._field(name) for name in names]

    def _field(self, name: str) -> FieldSum:
        seen = [one for one in self.of_field(name) if one is not None]
        counts = {what: sum(int(one.get(what, 0)) for one in seen) for what in VALUES}
        return FieldSum(name, counts, next((one for one in reversed(seen) if one["present"]), {}))

    def reasons(self) -> list[tuple[str, int]]:
        """Codes of rejections, the most frequent first."""
        counted = Counter[str]()
        for summary in self.summaries:
            for one in summary.get("rejections", ()):
                counted[one["code"]] += int(one["count"])
        return counted.most_common()

    def sources(self) -> list[tuple[str, dict[str, int]]]:
        """Counts by source, the one with most events first."""
        found: dict[str, dict[str, int]] = {}
        for summary in self.summaries:
            for one in summary["sources"]:
                mine = found.setdefault(one["source"], dict.fromkeys(OF_SOURCE, 0))
                for what in mine:
                    mine[what] += int(one[what])
        return sorted(found.items(), key=lambda item: -(item[1]["accepted"] + item[1]["rejected"]))


def history(pipeline: str, interval: str, summaries: Iterable[Summary]) -> History:
    """From the gateway's answer, in whatever order; a step without events, absent there, is an empty one here."""
    told = {moment(one["interval_start"]): one for one in summaries}
    width, times = WIDTHS[interval], sorted(told)
    steps = round((times[-1] - times[0]) / width) + 1
    if steps <= MOST_STEPS:
        times = sorted({*times, *(times[0] + place * width for place in range(steps))})
    return History(pipeline, interval, [told.get(time) or _empty(time, width) for time in times])


def _empty(start: datetime, width: timedelta) -> Summary:
    return {"interval_start": start.isoformat(), "interval_end": (start + width).isoformat(), "fields": (),
            "sources": (), "rejections": ()}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
