"""The audit log as it is kept, for whoever checks its chains."""

from dataclasses import dataclass

from lepton.bus.records import Broker, Reader, Record
from lepton.contracts import topics
from lepton.contracts.pb.incidents_pb2 import AuditRecord
from lepton.contracts.topics import Topic
from lepton.errors import Refused

__all__ = ["AuditLog", "AuditRecord", "Page"]


@dataclass(frozen=True, slots=True)
class Page:
    """Records in the order of their offsets. `begin`: of the oldest the log keeps; `end`: after its newest."""

    begin: int
    end: int
    next: int
    """Where the page after this one begins; `end` when there is none."""
    records: list[Record]


class AuditLog:
    """Reads `lepton-audit`; checks nothing, so that a check need not trust this process more than the log."""

    def __init__(self, broker: Broker, client_id: str) -> None:
        self._broker = broker
        self._client_id = f"{client_id}-audit-log"

    async def page(self, start: int | None, limit: int) -> Page:
        """At most `limit` records from offset `start` on, or the newest for None. Raises Missing, Unavailable."""
        reader = self._broker.reader([topics.name(Topic.AUDIT)], group=None, client_id=self._client_id)
        await reader.start()
        try:
            return await _read(reader, start, limit)
        finally:
            await reader.stop()


async def _read(reader: Reader, start: int | None, limit: int) -> Page:
    places = sorted(reader.assignment())
    if len(places) != 1:
        raise Refused(f"the audit log has {len(places)} partitions instead of one: it has no order",
                      remedy="see `python -m deploy.topics check`")
    place = places[0]
    begin, end = (await reader.begin_offsets(places))[place], (await reader.end_offsets(places))[place]
    low = max(begin, end - limit if start is None else min(start, end))
    await reader.seek(place, low)
    records: list[Record] = []
    while len(records) < limit and reader.position(place) < end:
        found = await reader.poll(max_records=limit - len(records), timeout_s=0.5)
        records += [record for record in found.get(place, ()) if record.offset < end]
    following = records[-1].offset + 1 if len(records) >= limit else end
    return Page(begin, end, following, records)
