"""Whether the database still holds what was announced: asked of it now and then, to be said in our own heartbeats."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from lepton.clock import Clock
from lepton.errors import Unavailable
from lepton.runtime.loops import pause
from lepton.store.documents import DocumentDatabase

EVERY_S: Final = 60.0
AGAIN_S: Final = 5.0
"""While something is gone, or nobody could say, and after a start."""

Known = Callable[[], Mapping[str, Iterable[str]]]
"""What was announced: ids by collection."""

Tell = Callable[[str, int], None]
"""Takes a collection, and how much of it is gone."""


class Keeping:
    """Reads documents by their ids, one after the other. They are read whole, so it looks seldom while none is gone.
    While the database is away nothing is said."""

    def __init__(self, known: Known, database: DocumentDatabase, tell: Tell, clock: Clock) -> None:
        self._known = known
        self._database = database
        self._tell = tell
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        wait_s = AGAIN_S
        while not await pause(stop, wait_s, self._clock):
            wait_s = EVERY_S if await self._all_kept() else AGAIN_S

    async def _all_kept(self) -> bool:
        kept = True
        for name, ids in self._known().items():
            try:
                gone = await self._gone(name, sorted(ids))
            except Unavailable:
                # How the database answers is watched elsewhere.
                kept = False
                continue
            self._tell(name, gone)
            kept = kept and not gone
        return kept

    async def _gone(self, name: str, ids: Iterable[str]) -> int:
        documents = self._database.collection(name)
        return sum([await documents.get(one) is None for one in ids])
