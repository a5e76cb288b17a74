"""Carries what still arrives on the topics of a pipeline's former generations over to those of the present one."""

from collections.abc import Sequence

from lepton.bus.records import Headers, Outgoing, Place, Record
from lepton.bus.table import StateReader
from lepton.contracts import names
from lepton.contracts.envelope import ARRIVED, SPLIT_FROM, with_time
from lepton.runtime.telemetry import Telemetry
from services.ingest.edge.topics import LineTopics


class CarryHandler:
    """A `lepton.bus.stage.Handler` under the group and the transactional ids of the former generation.

    So its offsets go on where the accept stage of that generation ended, which this fences, and each record is judged
    once: there, or after it was carried, whichever generation was the present one then. Records keep key, value and
    headers, and say when they first came; of what lies on one topic a key keeps its order.
    """

    def __init__(self, pipeline: str, former: LineTopics, present: LineTopics, telemetry: Telemetry) -> None:
        self._pipeline = pipeline
        self._to = {former.events: present.events, former.labels: present.labels}
        self._labels = former.labels
        self._carried = telemetry.counter(names.CARRIED, "Records carried over from a former generation's topics")
        self._counts: dict[Place, int] = {}

    async def restore(self, place: Place, state: StateReader) -> None:
        """Nothing is remembered between batches."""
        self._counts.pop(place, None)

    async def handle(self, place: Place, records: Sequence[Record]) -> list[Outgoing]:
        self._counts[place] = len(records)
        return [Outgoing(self._to[place.topic], record.value, record.key, self._headers(place, record))
                for record in records if record.value is not None or record.key is not None]

    def _headers(self, place: Place, record: Record) -> Headers:
        # Where a batch was split by the former partitions says nothing about the present ones.
        kept = tuple(header for header in record.headers if header[0] != SPLIT_FROM)
        if place.topic == self._labels:
            # Which of an event's labels is the latest goes by the broker's clock alone.
            return kept if any(name == ARRIVED for name, _ in kept) else (
                *kept, (ARRIVED, str(record.timestamp_ms).encode()))
        return with_time(kept, record.timestamp_ms)

    async def committed(self, place: Place) -> None:
        self._carried.add(self._counts.pop(place, 0), {names.PIPELINE: self._pipeline})

    async def aborted(self, place: Place) -> None:
        self._counts.pop(place, None)

    async def released(self, place: Place) -> None:
        self._counts.pop(place, None)
