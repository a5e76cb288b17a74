"""How a change and its announcement become one: the document carries the message, a relay publishes it, then marks it.

A document that must be announced holds `announcement` (bytes), `announced_key`, `revision` and `pending`. The relay
may publish the same revision twice (it was killed between publishing and marking), never in falling order from one
relay; a revision that was overtaken before its turn is not published, because each announcement is a whole state.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from lepton.clock import Clock
from lepton.errors import Invalid, Unavailable
from lepton.runtime.loops import pause
from lepton.store.documents import Document, Documents

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Announcement:
    """`collection` says which store it comes from, `key` and `value` are ready to be produced."""

    collection: str
    key: str
    value: bytes
    revision: int


Publish = Callable[[Announcement], Awaitable[None]]


def announced(key: str, value: bytes, revision: int) -> Document:
    """The fields a store writes together with a change, in the same atomic operation."""
    return {"announced_key": key, "announcement": value, "revision": revision, "pending": True}


class Relay:
    """Publishes what is pending in `collections`. `publish` must return only once the message is durable."""

    def __init__(self, collections: Sequence[Documents], publish: Publish, clock: Clock, every_s: float = 0.5) -> None:
        self._collections = collections
        self._publish = publish
        self._clock = clock
        self._every_s = every_s
        self._wanted = asyncio.Event()
        self._unfit: dict[tuple[str, str], int] = {}

    def kick(self) -> None:
        """Have `run` look at once instead of at its next turn: call it after a change."""
        self._wanted.set()

    async def drain(self) -> int:
        """Publish all that is pending now; how many. Raises Unavailable when bus or database cannot be reached.

        One that the bus can't take, being too large for its topic, stays pending, and the others do not wait for it.
        """
        published = 0
        for collection in self._collections:
            for document in await collection.find({"pending": True}):
                try:
                    await self._announce(collection, document)
                except Invalid as error:
                    self._tell(collection.name, document, error)
                else:
                    published += 1
        return published

    async def run(self, stop: asyncio.Event) -> None:
        """Drain whenever kicked, and every `every_s`, until `stop`; what is pending at the stop is still published.

        A database or bus that is away is tried again at the next turn.
        """
        while True:
            self._wanted.clear()
            asked_to_stop = stop.is_set()
            try:
                await self.drain()
            except Unavailable as error:
                # Nothing is lost: the documents stay pending until bus and database are back.
                log.warning("announcements wait: %s", error)
            if asked_to_stop:
                return
            await pause(stop, self._every_s, self._clock, self._wanted)

    def _tell(self, collection: str, document: Document, error: Invalid) -> None:
        """Once for each revision."""
        key, revision = (collection, str(document["announced_key"])), int(document["revision"])
        if self._unfit.get(key) != revision:
            self._unfit[key] = revision
            log.error("%s %s, revision %d, is not announced: %s", *key, revision, error)

    async def _announce(self, collection: Documents, document: Document) -> None:
        revision = int(document["revision"])
        await self._publish(
            Announcement(collection.name, document["announced_key"], document["announcement"], revision))
        # Only this revision is marked: a newer one stays pending and is published at the next turn.
        await collection.swap(document["_id"], {"revision": revision}, {"pending": False})
