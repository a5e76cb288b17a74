"""What is known of a pipeline's data quality: the newest summaries of its instances, and their roll-ups over time."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from lepton.contracts import topics
from lepton.contracts.pb.quality_pb2 import QualityRollup, QualitySummary
from lepton.contracts.topics import Topic
from lepton.errors import Invalid
from services.gateway.flow.pipelines import Catalogue
from services.gateway.flow.streams import Streams

Interval = Literal["1m", "1h"]
_EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Quality:
    """`told`: what lepton-quality-rollups says, by key; it changes by itself."""

    def __init__(self, catalogue: Catalogue, streams: Streams, told: Mapping[str, QualityRollup]) -> None:
        self._catalogue = catalogue
        self._streams = streams
        self._told = told

    async def summaries(self, name: str, count: int) -> list[QualitySummary]:
        """The newest summaries of what ingest accepted and refused, newest first; one an interval and instance."""
        state = await self._catalogue.state(name)
        topic_name = topics.name(Topic.QUALITY, name, state.generation)
        return [_shown(one) for one in await self._streams.messages(Topic.QUALITY, QualitySummary, topic_name, count)]

    async def rolled_up(self, name: str, interval: Interval, begin: datetime | None, end: datetime | None,
                        count: int) -> list[QualitySummary]:
        """All instances together, newest first: at most `count` minutes or hours that began in [begin, end).

        Times without a zone are UTC. Raises Missing for the pipeline, Invalid for a span that ends before it begins.
        """
        await self._catalogue.state(name)
        begin, end = _zoned(begin, _EVER[0]), _zoned(end, _EVER[1])
        if end < begin:
            raise Invalid("the span ends before it begins", field="to", remedy="give `to` later than `from`")
        prefix = f"{name}/{interval}/"
        found = [(start, key) for key, one in list(self._told.items()) if key.startswith(prefix)
                 and begin <= (start := one.start.ToDatetime(UTC)) < end]
        found.sort(reverse=True)
        return [_shown(self._told[key].summary) for _, key in found[:count]]


def _zoned(time: datetime | None, otherwise: datetime) -> datetime:
    if time is None:
        return otherwise
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _shown(summary: QualitySummary) -> QualitySummary:
    """Without the sketches: what they say stands beside them, and nobody reads bytes."""
    shown = QualitySummary()
    shown.CopyFrom(summary)
    for one in shown.fields:
        one.ClearField("quantile_sketch")
        one.ClearField("distinct_sketch")
        one.ClearField("frequent_sketch")
    return shown
