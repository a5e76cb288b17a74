"""How summaries of many instances become one roll-up of a minute or an hour, each once, however often it is read.

A roll-up carries the offset of the last summary merged into it, by partition. Summaries of a partition are merged in
its order, so a summary at or before that offset is in it already.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from lepton.contracts.pb.quality_pb2 import AppliedOffset, QualityRollup, QualitySummary
from services.ingest.core.counting.summary import Tally

WIDTHS = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1)}
KEEP = {"1m": timedelta(hours=24), "1h": timedelta(days=31)}
GRACE = timedelta(minutes=5)
"""How long after its end a roll-up keeps its sketches; a summary that comes later adds its counts alone."""
_SKETCHES: tuple[Literal["quantile_sketch", "distinct_sketch", "frequent_sketch"], ...] = (
    "quantile_sketch", "distinct_sketch", "frequent_sketch")
_SAID: tuple[Literal["quantiles", "histogram", "top", "distinct", "sketched"], ...] = (
    "quantiles", "histogram", "top", "distinct", "sketched")


@dataclass(frozen=True, slots=True)
class Taken:
    """Where a summary was read, and the broker's time of it."""

    topic: str
    partition: int
    offset: int
    at: datetime


@dataclass(slots=True)
class Open:
    """One roll-up that may still grow."""

    pipeline: str
    interval: str
    start: datetime
    tally: Tally = field(default_factory=Tally)
    version: int = 0
    applied: dict[tuple[str, int], int] = field(default_factory=dict)
    sealed: QualityRollup | None = None
    """As it was when its sketches were dropped."""

    @property
    def end(self) -> datetime:
        return self.start + WIDTHS[self.interval]

    @property
    def key(self) -> str:
        return key_of(self.pipeline, self.interval, self.start)

    def take(self, summary: QualitySummary, tally: Tally, taken: Taken) -> bool:
        """Merge a summary in; False when it was in already."""
        place = (taken.topic, taken.partition)
        if taken.offset <= self.applied.get(place, -1):
            return False
        self.tally.add(tally)
        self.version = max(self.version, summary.spec_version)
        self.applied[place] = taken.offset
        return True

    def message(self, *, seal: bool = False) -> QualityRollup:
        """`seal` leaves the sketches out and keeps what they said."""
        summary = self.tally.message(self.pipeline, self.version, "", self.start, self.end)
        told = QualityRollup(key=self.key, interval=self.interval, summary=summary, applied=[
            AppliedOffset(topic=topic, partition=partition, offset=offset)
            for (topic, partition), offset in sorted(self.applied.items())])
        told.start.FromDatetime(self.start)
        if self.sealed is not None:
            _keep_what_sketches_said(told, self.sealed)
        for one in told.summary.fields if seal or self.sealed is not None else ():
            for name in _SKETCHES:
                one.ClearField(name)
        return told


def key_of(pipeline: str, interval: str, start: datetime) -> str:
    """`<pipeline>/<interval>/<start>`, the start as 2026-01-31T12:05:00Z."""
    return f"{pipeline}/{interval}/{start.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse_key(key: str) -> tuple[str, str, datetime]:
    """The inverse of `key_of`. Raises ValueError for any other text."""
    pipeline, interval, start = key.split("/")
    if interval not in WIDTHS:
        raise ValueError(f"{interval} is no interval of a roll-up")
    return pipeline, interval, datetime.strptime(start, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def starts_of(summary: QualitySummary) -> Iterator[tuple[str, datetime]]:
    """Interval and start of each roll-up a summary belongs to: those in which it began."""
    began = summary.interval_start.ToDatetime(UTC)
    for interval, width in WIDTHS.items():
        yield interval, began - (began - datetime.min.replace(tzinfo=UTC)) % width


def reopened(message: QualityRollup) -> Open:
    """A stored roll-up, to be merged into. Raises Invalid when its sketches cannot be read."""
    summary = message.summary
    one = Open(summary.pipeline, message.interval, message.start.ToDatetime(UTC), Tally.of(summary),
               summary.spec_version,
               {(place.topic, place.partition): place.offset for place in message.applied})
    if is_sealed(message):
        one.sealed = message
    return one


def is_sealed(message: QualityRollup) -> bool:
    fields = message.summary.fields
    return any(one.sketched for one in fields) and not any(getattr(one, name) for one in fields for name in _SKETCHES)


def outdated(keys: Iterable[str], now: datetime) -> list[str]:
    """Those of the keys whose roll-ups are past their keeping."""
    found = []
    for key in keys:
        _, interval, start = parse_key(key)
        if start + WIDTHS[interval] < now - KEEP[interval]:
            found.append(key)
    return found


def _keep_what_sketches_said(told: QualityRollup, sealed: QualityRollup) -> None:
    before = {one.field: one for one in sealed.summary.fields}
    for one in told.summary.fields:
        for said in _SAID:
            one.ClearField(said)
        kept = before.get(one.field)
        if kept is not None:
            one.quantiles.extend(kept.quantiles)
            one.top.extend(kept.top)
            one.sketched = kept.sketched
            if kept.HasField("histogram"):
                one.histogram.CopyFrom(kept.histogram)
            if kept.HasField("distinct"):
                one.distinct = kept.distinct
