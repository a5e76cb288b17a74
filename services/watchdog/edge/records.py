"""What the watchdog leaves behind: its journal, and its audit records as a hash chain."""

import hashlib

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.bus.producer import Producer
from lepton.clock import Clock
from lepton.contracts.pb.incidents_pb2 import AuditRecord, JournalEntry
from lepton.contracts.topics import Topic
from services.watchdog.flow.watching import Entry


class JournalLog:
    """Entries on `lepton-watchdog-journal`, from which a day replays."""

    def __init__(self, producer: Producer, watchdog: str) -> None:
        self._producer = producer
        self._watchdog = watchdog

    async def write(self, entry: Entry) -> None:
        """Raises Unavailable; written twice, an entry shows by its sequence."""
        at = Timestamp()
        at.FromMilliseconds(round(entry.at_s * 1000))
        message = JournalEntry(sequence=entry.sequence, watchdog=self._watchdog, fence=entry.fence,
                               tick_s=entry.tick_s, at=at, kind=entry.kind, body_json=entry.body)
        await self._producer.send(Topic.WATCHDOG_JOURNAL, message, key=self._watchdog)


class Audit:
    """Chain of this process: sequence from 1, each record with the hash of the one before, the first with none."""

    def __init__(self, producer: Producer, writer: str, clock: Clock) -> None:
        self._producer = producer
        self._writer = writer
        self._clock = clock
        self._sequence = 0
        self._head = b""

    async def record(self, action: str, object_: str, detail: str) -> None:
        """To be called before the action. Raises Unavailable: then it must not be taken. One call at a time."""
        record = AuditRecord(writer=self._writer, sequence=self._sequence + 1, previous_hash=self._head,
                             actor=self._writer, action=action, object=object_, detail=detail)
        record.at.FromDatetime(self._clock.now())
        await self._producer.send(Topic.AUDIT, record, key=self._writer)
        self._sequence += 1
        self._head = hashlib.sha256(record.SerializeToString(deterministic=True)).digest()
