"""Who did what, as a hash chain on the audit topic: an operation is recorded before it takes effect."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

from lepton.clock import Clock
from lepton.contracts.pb.incidents_pb2 import AuditRecord

Keep = Callable[[AuditRecord], Awaitable[None]]


class Audit:
    """Chain of this process: sequence from 1, each record with the hash of the one before, the first with none.

    `keep` returns once a record is durable.
    """

    def __init__(self, keep: Keep, writer: str, clock: Clock) -> None:
        self._keep = keep
        self._writer = writer
        self._clock = clock
        self._sequence = 0
        self._head = b""
        self._turn = asyncio.Lock()

    async def record(self, actor: str, action: str, object_: str, detail: str = "") -> None:
        """Raises Unavailable when it cannot be written: then the operation must not happen either.

        An operation that fails after this leaves the record of an attempt.
        """
        async with self._turn:
            record = AuditRecord(writer=self._writer, sequence=self._sequence + 1, previous_hash=self._head,
                                 actor=actor, action=action, object=object_, detail=detail)
            record.at.FromDatetime(self._clock.now())
            value = record.SerializeToString(deterministic=True)
            await self._keep(record)
            self._sequence += 1
            self._head = hashlib.sha256(value).digest()
