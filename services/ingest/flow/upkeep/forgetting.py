"""How rows of erased entities stay out of segments: left out when written, taken out when the list was outrun."""

import asyncio

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lepton.contracts import features
from lepton.store.datasets.erasures import NOBODY, Erased, Erasures
from lepton.store.datasets.upkeep import Stored, Upkeep
from lepton.store.documents import DocumentDatabase
from services.ingest.core.persons import rows as persons


class Forgetting:
    """What a writer of segments asks before and after it writes; shared by all of a process."""

    def __init__(self, database: DocumentDatabase) -> None:
        self._erasures = Erasures(database)
        self._upkeep = Upkeep(database)
        self._known: dict[str, Erased] = {}

    async def known(self, pipeline: str) -> Erased:
        """Who is left out of the pipeline's rows now. Raises Unavailable."""
        found = self._known[pipeline] = await self._erasures.current(pipeline, self._known.get(pipeline, NOBODY))
        return found

    async def settle(self, pipeline: str, segment: Stored | None) -> None:
        """Have nobody of the list in a segment that was written under an earlier list.

        A writer calls it for what it just wrote, and for the last segment of a chain it takes over: one that stopped
        between reading the list and writing, however long, leaves nothing behind.
        """
        while segment is not None:
            erased = await self.known(pipeline)
            if segment.erasures >= erased.seq:
                return
            await self.clean(pipeline, segment, erased, erased.newest)
            segment = await self._upkeep.at(pipeline, segment.stream, segment.generation, segment.partition,
                                            segment.first)

    async def clean(self, pipeline: str, segment: Stored, erased: Erased, job: str) -> int:
        """Take everybody of the list out of one segment; how many rows they were, 0 also when it changed meanwhile.

        Raises Missing or Damaged when its bytes are not there to be read.
        """
        data = await self._upkeep.load(segment.digest)
        left, removed = await asyncio.to_thread(taken_out, segment.stream, data, erased)
        if not removed:
            await self._upkeep.judged(segment, erased.seq)
            return 0
        digest = await self._upkeep.store(pipeline, segment.digest, left, stream=segment.stream, removed=removed,
                                          job=job)
        replaced = await self._upkeep.replace(segment, digest, removed, erased.seq)
        await self._upkeep.release_rewritten(pipeline)
        return removed if replaced else 0


def taken_out(stream: str, data: bytes, erased: Erased) -> tuple[bytes, int]:
    """A segment's bytes less the rows of erased entities, and how many those were; the same bytes for none."""
    table = features.decode_table(data)
    theirs = theirs_of(stream, table, erased)
    removed = int(theirs.sum())
    return (features.encode_table(persons.without(table, theirs)), removed) if removed else (data, 0)


def theirs_of(stream: str, table: pa.Table, erased: Erased) -> npt.NDArray[np.bool_]:
    """True where a row is that of an erased entity, by its entity or, a label, by its event."""
    return persons.of_entities(stream, table, erased.salt, erased.entities) | persons.of_events(
        stream, table, erased.salt, erased.events)
