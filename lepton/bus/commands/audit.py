"""Who did what, as a hash chain on the audit topic: an operation is recorded before it takes effect."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from lepton.clock import Clock
from lepton.contracts.auditing.chain import Head, digest
from lepton.contracts.pb.incidents_pb2 import AuditRecord

Keep = Callable[[AuditRecord], Awaitable[int]]
Find = Callable[[], Awaitable[Head]]

log = logging.getLogger(__name__)


class Audit:
    """The chain of one writer: sequence from 1, each record with the hash of the one before, the first with none.

    A process goes on where the one before under its name ended: a resource of stage BUS. `keep` returns the record's
    offset once it is durable; `find` tells the chain's end, after what was handed to `keep` is durable or lost.
    """

    def __init__(self, keep: Keep, find: Find, writer: str, clock: Clock) -> None:
        self._keep = keep
        self._find = find
        self._writer = writer
        self._clock = clock
        self._head: Head | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Find the chain's end. Raises Unavailable when the topic cannot be read: nothing could be recorded then."""
        async with self._turn:
            await self._resume()

    async def stop(self) -> None:
        """Nothing is held."""

    async def record(self, actor: str, action: str, object_: str, detail: str = "") -> None:
        """Raises Unavailable when it cannot be written: then the operation must not happen either.

        An operation that fails after this leaves the record of an attempt.
        """
        async with self._turn:
            head = self._head or await self._resume()
            record = AuditRecord(writer=self._writer, sequence=head.sequence + 1, previous_hash=head.hash,
                                 actor=actor, action=action, object=object_, detail=detail)
            record.at.FromDatetime(self._clock.now())
            value = record.SerializeToString(deterministic=True)
            # Whoever is not answered does not know whether it was written: the topic tells, before the next one.
            self._head = None
            offset = await self._keep(record)
            self._head = Head(record.sequence, digest(value), offset)

    async def _resume(self) -> Head:
        self._head = await self._find()
        if self._head.sequence:
            log.info("the audit chain of %s goes on after sequence %d", self._writer, self._head.sequence)
        return self._head
