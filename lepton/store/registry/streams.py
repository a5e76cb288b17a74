"""How far each stream was learnt: one document holds the learner's bytes by digest and the offsets they are of.

Both change in one write, so what was learnt and what was read never part. Bytes are stored before the document names
them, and removed after it names others.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from lepton.clock import Clock
from lepton.errors import Refused
from lepton.store.artifacts import Artifacts, Stored
from lepton.store.documents import Document, DocumentDatabase

# As for the leases of runs: machines kept by NTP differ by milliseconds.
MAX_SKEW_S = 0.5

Offsets = dict[str, list[int]]
"""`stream:partition` to the first offset that was taken and the next one to take."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A stream this owner may learn while it keeps the lease; `digest` is empty before anything was kept."""

    pipeline: str
    fence: int
    digest: str
    offsets: Offsets


class Streams:
    """Written by the trainer only."""

    def __init__(self, database: DocumentDatabase, clock: Clock) -> None:
        self._streams = database.collection("streams")
        self._artifacts = Artifacts(database)
        self._clock = clock

    async def claim(self, pipeline: str, course: str, owner: str, lease_s: float) -> Standing | None:
        """Take the lease; None while another has it. What was learnt of another course is forgotten.

        The same owner has its lease at once: it was killed and is back.
        """
        stored = await self._artifacts.of_kind(_kind(pipeline))
        mine: Document = {"course": course, "owner": owner, "until_s": self._now_s() + lease_s}
        if await self._streams.insert({"_id": pipeline, **mine, "fence": 1, "digest": "", "offered": "",
                                       "offsets": "{}"}):
            return Standing(pipeline, 1, "", {})
        document = await self._streams.get(pipeline)
        if document is None or (document["owner"] != owner and self._now_s() < document["until_s"] + MAX_SKEW_S):
            return None
        fence = int(document["fence"]) + 1
        if document["course"] != course:
            mine |= {"digest": "", "offered": "", "offsets": "{}"}
        if not await self._streams.swap(pipeline, {"fence": document["fence"], "until_s": document["until_s"]},
                                        {**mine, "fence": fence}):
            return None
        now: Document = {**document, **mine}
        await self._sweep(stored, str(now["digest"]), str(now["offered"]))
        return Standing(pipeline, fence, str(now["digest"]), json.loads(now["offsets"]))

    async def renew(self, pipeline: str, fence: int, lease_s: float) -> None:
        """Keep the lease for another `lease_s`. Raises Refused when it was lost."""
        await self._swap(pipeline, fence, {"until_s": self._now_s() + lease_s})

    async def save(self, pipeline: str, fence: int, state: bytes, offsets: Offsets, *, offered: bool = False) -> str:
        """Keep bytes and offsets together and return the bytes' digest; `offered`: a candidate is made of them.

        Raises Refused when the lease was lost: then nothing changed.
        """
        await self._swap(pipeline, fence, {})
        document = await self._streams.get(pipeline) or {}
        before = await self._artifacts.of_kind(_kind(pipeline))
        digest = await self._artifacts.put(state, _kind(pipeline))
        named = digest if offered else str(document.get("offered", ""))
        await self._swap(pipeline, fence, {"digest": digest, "offered": named,
                                           "offsets": json.dumps(offsets, sort_keys=True)})
        await self._sweep(before, digest, named)
        return digest

    async def bytes_of(self, digest: str) -> bytes:
        """Raises Missing or Damaged."""
        return await self._artifacts.get(digest)

    async def let_go(self, pipeline: str, fence: int) -> None:
        """End the lease now, if it is still this one."""
        await self._streams.swap(pipeline, {"fence": fence}, {"until_s": 0.0})

    async def forget(self, pipeline: str) -> None:
        """Remove all that was learnt; harmless where there is nothing."""
        await self._streams.delete({"_id": pipeline})
        await self._sweep(await self._artifacts.of_kind(_kind(pipeline)))

    async def _sweep(self, stored: Sequence[Stored], *named: str) -> None:
        """Remove bytes nobody names. They were listed while the lease was ours: a later owner's are not among them."""
        for one in stored:
            if one.digest not in named:
                await self._artifacts.remove(one)

    async def _swap(self, pipeline: str, fence: int, changes: Document) -> None:
        if not await self._streams.swap(pipeline, {"fence": fence}, {"fence": fence, **changes}):
            raise Refused(f"the stream of {pipeline} is learnt by another trainer now", field="fence")

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _kind(pipeline: str) -> str:
    return f"stream:{pipeline}"
