"""Another topic as a source: its partitions read from kept offsets, committed records only."""

from collections.abc import Callable

from lepton.bus.records import Broker, Place, Reader
from lepton.contracts.source_blocks import KafkaSource
from lepton.errors import Unavailable
from services.ingest.flow.pulling.origin import Cursor, Item, Pulled, record_item

BATCH_RECORDS = 2000
POLL_S = 0.5
LOOK_EVERY = 20
"""Polls without records between two looks whether the topic has grown."""


class KafkaOrigin:
    """A `services.ingest.flow.pulling.origin.Origin`. It reads every partition and shares with nobody."""

    unit = "records"

    def __init__(self, source: KafkaSource, client_id: str, connect: Callable[[], Broker], *, owned: bool) -> None:
        """`owned`: the broker that `connect` gives is closed with the source."""
        self._source = source
        self._client_id = client_id
        self._connect = connect
        self._owned = owned
        self._broker: Broker | None = None
        self._reader: Reader | None = None
        self._offsets: dict[Place, int] = {}
        self._losses: list[str] = []
        self._idle = 0

    async def open(self, cursor: Cursor) -> None:
        self._broker = self._connect()
        reader = self._broker.reader([self._source.topic], group=None, client_id=self._client_id)
        await reader.start()
        self._reader, self._idle = reader, 0
        places = sorted(reader.assignment())
        begins, ends = await reader.begin_offsets(places), await reader.end_offsets(places)
        for place in places:
            at = int(cursor.get(str(place.partition), begins[place]))
            if at < begins[place]:
                self._losses.append(f"{place.topic}/{place.partition}: {begins[place] - at} offsets from {at} on were "
                                    "deleted before they were read")
            if at > ends[place]:
                raise Unavailable(f"{place.topic}/{place.partition} ends at {ends[place]}, before the kept offset {at}",
                                  remedy="the topic was made anew: give the source another name")
            self._offsets[place] = max(at, begins[place])
            await reader.seek(place, self._offsets[place])

    async def read(self, cursor: Cursor) -> Pulled:
        broker, reader = self._broker, self._reader
        if broker is None or reader is None:
            raise Unavailable("the topic is not connected")
        found = await reader.poll(max_records=BATCH_RECORDS, timeout_s=POLL_S)
        items: list[Item] = []
        for place, records in found.items():
            items += [record_item(record.value, record.headers, record.timestamp_ms,
                                  f"{record.partition}/{record.offset}") for record in records]
            self._offsets[place] = records[-1].offset + 1
        if not found:
            await self._look(broker, reader)
        ends = await reader.end_offsets(sorted(self._offsets))
        lag = sum(max(0, ends[place] - max(at, reader.position(place))) for place, at in self._offsets.items())
        losses, self._losses = self._losses, []
        after = {str(place.partition): at for place, at in sorted(self._offsets.items())}
        shown = ", ".join(f"{partition}@{at}" for partition, at in list(after.items())[:8])
        return Pulled(items, after, shown, more=bool(items), lag=lag, losses=losses)

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        broker, self._broker = self._broker, None
        if reader is not None:
            await reader.stop()
        if broker is not None and self._owned:
            await broker.close()

    async def _look(self, broker: Broker, reader: Reader) -> None:
        self._idle += 1
        if self._idle % LOOK_EVERY:
            return
        plan = (await broker.describe_topics([self._source.topic])).get(self._source.topic)
        if plan is not None and plan.partitions != len(reader.assignment()):
            raise Unavailable(f"{self._source.topic} has {plan.partitions} partitions now; it is opened again")
