"""What the watchdog leaves behind: its journal."""

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.bus.producer import Producer
from lepton.contracts.pb.incidents_pb2 import JournalEntry
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
