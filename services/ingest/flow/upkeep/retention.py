"""How long rows stay: segments stored longer ago than their pipeline says are dropped, unless a snapshot holds them."""

import logging
from collections.abc import Callable, Iterable

from lepton.clock import Clock
from lepton.contracts.pipeline import Pipeline
from lepton.store.datasets.erasures import Erasures
from lepton.store.datasets.snapshots import Snapshots
from lepton.store.datasets.upkeep import Upkeep
from lepton.store.documents import DocumentDatabase

log = logging.getLogger(__name__)


class Retention:
    """Every process of ingest may do it; doing it twice, or at the same time, has no second effect."""

    def __init__(self, database: DocumentDatabase, pipelines: Callable[[], Iterable[Pipeline]], clock: Clock) -> None:
        self._upkeep = Upkeep(database)
        self._snapshots = Snapshots(database)
        self._erasures = Erasures(database)
        self._pipelines = pipelines
        self._clock = clock

    async def keep(self) -> int:
        """Drop what is too old in every pipeline; how many segments. Raises Unavailable."""
        dropped = 0
        for pipeline in list(self._pipelines()):
            now_s = self._clock.now().timestamp()
            await self._erasures.expire(pipeline.name, now_s)
            retention_s = pipeline.events.retention
            if retention_s is not None:
                dropped += await self._drop(pipeline.name, retention_s, now_s)
        return dropped

    async def _drop(self, pipeline: str, retention_s: float, now_s: float) -> int:
        await self._upkeep.stamp(pipeline, now_s)
        going = await self._upkeep.begin_drop(pipeline, now_s - retention_s)
        if going:
            # Asked for only now: a snapshot taken before the mark is known, one taken after does not name them.
            await self._upkeep.end_drop(going, await self._snapshots.pinned(pipeline))
            log.info("pipeline %s: %d segments are older than %.0f s and dropped", pipeline, len(going), retention_s)
        return len(going)
