"""What became of numbered events, by what committed readers see on the topics; trusts no counter of the platform."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from lepton.bus.consumer import message_of
from lepton.bus.records import Broker, Record
from lepton.contracts import topics
from lepton.contracts.arrow import predictions
from lepton.contracts.features import decode_table
from lepton.contracts.topics import Topic

_POLL_S = 0.5
_RECORDS = 20_000


@dataclass
class Ledger:
    """Counts event ids that begin with `prefix`, from where the topics end as it is opened."""

    broker: Broker
    pipeline: str
    prefix: str
    generation: int = 1
    features: Counter[str] = field(default_factory=Counter)
    predictions: Counter[str] = field(default_factory=Counter)

    async def __aenter__(self) -> "Ledger":
        names = {topics.name(topic, self.pipeline, self.generation): topic for topic in (Topic.FEATURES,
                                                                                         Topic.PREDICTIONS)}
        self._topics = names
        self._reader = self.broker.reader(list(names), group=None, client_id="chaos-ledger", start="latest")
        await self._reader.start()
        # Partitions and their ends are known after the first poll; what comes later is counted.
        await self._reader.poll(max_records=_RECORDS, timeout_s=_POLL_S)
        self._reading = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self._reader.stop()
        if not self._reading.cancelled() and self._reading.exception() is not None:
            raise self._reading.exception()  # type: ignore[misc]  # it was looked at

    def lost(self, ids: list[str]) -> list[str]:
        """Of these, what is not among the features or was not answered."""
        return [one for one in ids if not self.features[one] or not self.predictions[one]]

    def doubled(self) -> list[str]:
        return sorted({one for counted in (self.features, self.predictions) for one, times in counted.items()
                       if times > 1})

    async def _read(self) -> None:
        while True:
            for records in (await self._reader.poll(max_records=_RECORDS, timeout_s=_POLL_S)).values():
                for record in records:
                    self._count(record)

    def _count(self, record: Record) -> None:
        if record.value is None:
            return
        if self._topics[record.topic] is Topic.FEATURES:
            ids = decode_table(record.value).column("_event_id").to_pylist()
            self.features.update(one for one in ids if one.startswith(self.prefix))
        else:
            self.predictions.update(one.event_id for one in predictions.told(message_of(record).payload)
                                    if one.event_id.startswith(self.prefix))
