"""Summaries on their way into roll-ups: merged in memory, written a few seconds later, sealed and dropped in time."""

from collections.abc import MutableMapping
from datetime import UTC, datetime

from lepton.contracts import codec
from lepton.contracts.pb.quality_pb2 import QualityRollup, QualitySummary
from lepton.contracts.topics import Topic
from lepton.errors import Invalid
from services.ingest.core.counting import rollups
from services.ingest.core.counting.rollups import GRACE, Open, Taken
from services.ingest.core.counting.summary import Tally

__all__ = ["Rolling", "Taken"]


class Rolling:
    """Roll-ups by key in `stored`, whose values are messages of the roll-ups topic.

    Time is that of the summaries: catching up after an hour away seals what a live hour would have sealed.
    """

    def __init__(self, stored: MutableMapping[str, bytes]) -> None:
        self._stored = stored
        self._open: dict[str, Open] = {}
        self._changed: set[str] = set()
        self._unsealed: set[str] = set()
        self._newest: dict[str, datetime] = {}
        self._swept: dict[str, datetime] = {}

    @property
    def pending(self) -> bool:
        """Whether something is merged that is not in `stored` yet."""
        return bool(self._changed)

    def begin(self) -> list[Invalid]:
        """Forget what is not stored, and go on from what is.

        A value that is none of ours is dropped, and told of: one that anybody wrote must not stop all others for good.
        """
        self.forget()
        refused = []
        for key, value in list(self._stored.items()):
            try:
                told = _own(key, value)
                if not rollups.is_sealed(told):
                    rollups.reopened(told)
                    self._unsealed.add(key)
            except Invalid as error:
                refused.append(error)
                del self._stored[key]
        return refused

    def forget(self) -> None:
        """Let go of everything that is only in memory."""
        for pending in (self._open, self._changed, self._newest, self._swept, self._unsealed):
            pending.clear()

    def take(self, summary: QualitySummary, taken: Taken) -> int:
        """Merge one summary; how many roll-ups it changed, 0 when all had it. Raises Invalid, changing nothing."""
        if summary.pipeline.count("/"):
            raise Invalid(f"{summary.pipeline!r} is no pipeline name", field="pipeline")
        tally = Tally.of(summary)
        mine = [self._opened(summary.pipeline, interval, start) for interval, start in rollups.starts_of(summary)]
        grown = [one.key for one in mine if one.take(summary, tally, taken)]
        self._changed.update(grown)
        # A clock that runs ahead must not seal and drop what others still add to.
        began = min(summary.interval_start.ToDatetime(UTC), taken.at)
        self._newest[summary.pipeline] = max(began, self._newest.get(summary.pipeline, began))
        return len(grown)

    def write(self) -> None:
        """Put into `stored` what changed, without sketches where the time for them is over; drop what is outdated."""
        for key in sorted(self._changed | self._due()):
            one = self._open.get(key) or rollups.reopened(_read(self._stored[key]))
            sealing = self._is_over(one)
            self._stored[key] = codec.encode(Topic.QUALITY_ROLLUPS, one.message(seal=sealing))
            (self._unsealed.discard if sealing else self._unsealed.add)(key)
        self._changed.clear()
        self._open = {key: one for key, one in self._open.items() if not self._is_over(one)}
        self._sweep()

    def _opened(self, pipeline: str, interval: str, start: datetime) -> Open:
        key = rollups.key_of(pipeline, interval, start)
        if key not in self._open:
            stored = self._stored.get(key)
            self._open[key] = Open(pipeline, interval, start) if stored is None else rollups.reopened(_read(stored))
        return self._open[key]

    def _due(self) -> set[str]:
        return {key for key in self._unsealed if key in self._stored and self._over(*rollups.parse_key(key))}

    def _is_over(self, one: Open) -> bool:
        return self._over(one.pipeline, one.interval, one.start)

    def _over(self, pipeline: str, interval: str, start: datetime) -> bool:
        newest = self._newest.get(pipeline)
        return newest is not None and start + rollups.WIDTHS[interval] + GRACE < newest

    def _sweep(self) -> None:
        for pipeline, newest in self._newest.items():
            minute = newest.replace(second=0, microsecond=0)
            if self._swept.get(pipeline) != minute:
                self._swept[pipeline] = minute
                mine = [key for key in self._stored if key.startswith(f"{pipeline}/")]
                for key in rollups.outdated(mine, newest):
                    del self._stored[key]
                    self._unsealed.discard(key)


def _own(key: str, value: bytes) -> QualityRollup:
    """Raises Invalid for what this stage never wrote."""
    try:
        rollups.parse_key(key)
    except ValueError as error:
        raise Invalid(f"the key of a roll-up is none: {error}", field="key", place=str(key)) from error
    told = _read(value)
    if told.key != key:
        raise Invalid(f"a roll-up of {told.key} under another key", field="key", place=key)
    return told


def _read(value: bytes) -> QualityRollup:
    return codec.decode_as(Topic.QUALITY_ROLLUPS, QualityRollup, value)
