"""The audit chain of a process over the audit topic, and how its end is found there."""

import logging

from google.protobuf.message import DecodeError

from lepton.bus.commands.audit import Audit
from lepton.bus.producer import Producer
from lepton.bus.records import Broker, Place, Reader, Record
from lepton.clock import Clock
from lepton.contracts import topics
from lepton.contracts.auditing.chain import LOOK_BACK, Head, digest
from lepton.contracts.pb.incidents_pb2 import AuditRecord
from lepton.contracts.topics import Topic

# What is looked through first, from the end; then four times as many each time.
FIRST_LOOK = 500
# A chain that counts from 1 never comes near, and the number after the last one must fit its field too.
_SEQUENCES = 1 << 63

log = logging.getLogger(__name__)


def audit_chain(broker: Broker, producer: Producer, writer: str, clock: Clock) -> Audit:
    """The chain of `writer`; to be started after `producer`."""
    async def keep(record: AuditRecord) -> int:
        return (await producer.send(Topic.AUDIT, record, key=writer)).offset

    async def find() -> Head:
        await producer.flush()
        return await last_of(broker, writer)

    return Audit(keep, find, writer, clock)


async def last_of(broker: Broker, writer: str, look_back: int = LOOK_BACK) -> Head:
    """The end of a writer's chain, looked for among the newest `look_back` records, from the end.

    Raises Missing without the topic, Unavailable when it cannot be read.
    """
    reader = broker.reader([topics.name(Topic.AUDIT)], group=None, client_id=f"{writer}-audit")
    await reader.start()
    try:
        return await _look_back(reader, writer, look_back)
    finally:
        await reader.stop()


async def _look_back(reader: Reader, writer: str, look_back: int) -> Head:
    found = Head()
    for place in sorted(reader.assignment()):
        end = (await reader.end_offsets([place]))[place]
        begin = max((await reader.begin_offsets([place]))[place], end - look_back)
        span, high = FIRST_LOOK, end
        while high > begin and not found.sequence:
            low = max(begin, high - span)
            found = await _last_between(reader, place, low, high, writer)
            span, high = span * 4, low
    if not found.sequence:
        log.warning("the audit log has no record of %s: its chain begins", writer)
    return found


async def _last_between(reader: Reader, place: Place, low: int, high: int, writer: str) -> Head:
    await reader.seek(place, low)
    found, key = Head(), writer.encode()
    while reader.position(place) < high:
        for records in (await reader.poll(max_records=1000, timeout_s=0.5)).values():
            for record in records:
                if record.key == key and record.offset < high and record.value is not None:
                    found = _head(record, record.value, writer) or found
    return found


def _head(record: Record, value: bytes, writer: str) -> Head | None:
    """None for what no writer of that name can have written: a chain must not go on from it."""
    try:
        written = AuditRecord.FromString(value)
    except DecodeError:
        written = AuditRecord()
    if written.writer == writer and 0 < written.sequence < _SEQUENCES:
        return Head(written.sequence, digest(value), record.offset)
    log.error("%s is no audit record of %s, whose key it has, and is passed over: `lepton audit verify` tells which "
              "chain it breaks", record.place, writer)
    return None
