"""Who is erased from a pipeline's rows: keyed hashes, never names, kept until no log can bring the rows back.

One small document a pipeline holds the list; its `seq` grows with every change, so that a writer of rows knows whether
the list it judged by is still the list. Keys of erased events' ids lie beside it, in a document an erasure. Salts are
made by the gateway, which must know a key before it may name one; everything else is written by ingest.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lepton.contracts.datasets.erasure import EVENT_KEY_BYTES, SALT_BYTES
from lepton.errors import Busy
from lepton.store.documents import Document, DocumentDatabase

_TRIES = 10
# 4 MB a document, far below its limit. A label that comes later, without its entity, for an event past these is kept:
# it says nothing but the event's id and belongs to no row.
MAX_EVENT_KEYS = 500_000


@dataclass(frozen=True, slots=True)
class Erased:
    """What a writer of a pipeline's rows leaves out. `seq` 0: nobody was ever erased."""

    seq: int = 0
    salt: bytes = b""
    entities: frozenset[str] = frozenset()
    events: frozenset[bytes] = frozenset()
    newest: str = ""
    """The job of who was added last: what a writer that outran the list takes out counts as that job's."""

    def __bool__(self) -> bool:
        return bool(self.entities)


NOBODY = Erased()


class Salts:
    """Written by the gateway only; a pipeline's salt never changes."""

    def __init__(self, database: DocumentDatabase) -> None:
        self._salts = database.collection("erasure_salts")

    async def of(self, pipeline: str) -> bytes:
        """The pipeline's salt, made when it has none."""
        await self._salts.insert({"_id": pipeline, "salt": secrets.token_bytes(SALT_BYTES)})
        found = await self.known(pipeline)
        if found is None:
            raise Busy(f"the salt of pipeline {pipeline} is being made")
        return found

    async def known(self, pipeline: str) -> bytes | None:
        """None where nobody was ever erased."""
        document = await self._salts.get(pipeline)
        return None if document is None else bytes(document["salt"])


class Erasures:
    """Written by ingest only."""

    def __init__(self, database: DocumentDatabase) -> None:
        self._lists = database.collection("erasures")
        self._events = database.collection("erasure_events")
        self._salts = Salts(database)

    async def current(self, pipeline: str, known: Erased = NOBODY) -> Erased:
        """Who is left out now; `known` itself while nothing changed, so that asking again and again stays cheap."""
        document = await self._lists.get(pipeline)
        if document is None:
            return NOBODY
        if int(document["seq"]) == known.seq:
            return known
        salt = await self._salts.known(pipeline)
        events = await self._events.find({"pipeline": pipeline})
        return Erased(int(document["seq"]), salt or b"", frozenset(entry["key"] for entry in document["entries"]),
                      frozenset(key for one in events for key in _split(bytes(one["keys"]))),
                      str(document["entries"][-1]["job"]) if document["entries"] else "")

    async def add(self, pipeline: str, job: str, entity_key: str, until_s: float) -> None:
        """Leave the entity's rows out from now on, until `until_s` (epoch seconds); once a job."""
        def added(entries: list[Document]) -> list[Document]:
            kept = [entry for entry in entries if entry["job"] != job]
            return [*kept, {"key": entity_key, "job": job, "until_s": until_s}]

        document = await self._lists.get(pipeline)
        if document is None or all(entry["job"] != job for entry in document["entries"]):
            await self._change(pipeline, added)

    async def remember_events(self, pipeline: str, job: str, keys: Iterable[bytes]) -> None:
        """Know late labels of the erased events by the keys of their ids, at most MAX_EVENT_KEYS of them."""
        stored = b"".join(sorted(keys)[:MAX_EVENT_KEYS])
        await self._events.put({"_id": job, "pipeline": pipeline, "keys": stored})
        # Also when they were there: whoever put them may have been killed before anyone was told.
        await self._change(pipeline, lambda entries: entries)

    async def events_of(self, job: str) -> frozenset[bytes]:
        """Keys an erasure remembered before it was interrupted."""
        document = await self._events.get(job)
        return frozenset() if document is None else frozenset(_split(bytes(document["keys"])))

    async def expire(self, pipeline: str, now_s: float) -> int:
        """Forget entries whose time is over: no log holds their rows any more. How many they were."""
        document = await self._lists.get(pipeline)
        over = [] if document is None else [entry["job"] for entry in document["entries"] if entry["until_s"] <= now_s]
        if over:
            await self._change(pipeline, lambda entries: [one for one in entries if one["until_s"] > now_s])
            await self._events.delete({"_id": {"$in": over}})
        return len(over)

    async def _change(self, pipeline: str, change: Callable[[list[Document]], list[Document]]) -> None:
        for _ in range(_TRIES):
            document = await self._lists.get(pipeline)
            if document is None:
                if await self._lists.insert({"_id": pipeline, "seq": 1, "entries": change([])}):
                    return
                continue
            seq = int(document["seq"])
            if await self._lists.swap(pipeline, {"seq": seq}, {"seq": seq + 1, "entries": change(document["entries"])}):
                return
        raise Busy(f"erasures of pipeline {pipeline} are being changed by others at the same time")


def _split(keys: bytes) -> list[bytes]:
    return [keys[start:start + EVENT_KEY_BYTES] for start in range(0, len(keys), EVENT_KEY_BYTES)]
