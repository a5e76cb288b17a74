"""A broker inside the process: partitions, groups, transactions and fences with Kafka's semantics, without Kafka."""

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lepton.bus.inside.group import Group, MemoryReader
from lepton.bus.inside.writers import MemoryTransactionalWriter, MemoryWriter
from lepton.bus.records import (
    Assigned,
    Outgoing,
    Place,
    Reader,
    Record,
    Revoked,
    TopicPlan,
    TransactionalWriter,
    Writer,
    partition_for,
)
from lepton.clock import Clock, SystemClock
from lepton.errors import Invalid, Missing, Refused

DEFAULT_MAX_RECORD_BYTES = 1_048_588


@dataclass(slots=True)
class Log:
    """One partition: what readers may see, and the next offset (markers and aborted records take offsets too)."""

    records: list[Record] = field(default_factory=list)
    next_offset: int = 0


@dataclass(slots=True)
class _Topic:
    plan: TopicPlan
    logs: list[Log]

    @property
    def max_record_bytes(self) -> int:
        return int(self.plan.config.get("max.message.bytes", DEFAULT_MAX_RECORD_BYTES))


class MemoryBroker:
    """See `records.Broker` for the promises. Lives in one event loop."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._topics: dict[str, _Topic] = {}
        self._groups: dict[str, Group] = {}
        self._epochs: dict[str, int] = {}
        self._spread = itertools.count()
        self._arrival = asyncio.Event()

    def writer(self, client_id: str) -> Writer:
        return MemoryWriter(self)

    def transactional_writer(self, transactional_id: str) -> TransactionalWriter:
        return MemoryTransactionalWriter(self, transactional_id)

    def reader(self, topics: Sequence[str], *, group: str | None, client_id: str, start: str = "earliest",
               member: bool = True, on_assigned: Assigned | None = None, on_revoked: Revoked | None = None) -> Reader:
        if group is None or not member:
            offsets = None if group is None else self.group(group).offsets
            return MemoryReader(self, tuple(topics), None, client_id, start, offsets=offsets)
        return MemoryReader(self, tuple(topics), self.group(group), client_id, start, (on_assigned, on_revoked))

    async def create_topics(self, plans: Sequence[TopicPlan]) -> list[str]:
        for plan in plans:
            found = self._topics.get(plan.name)
            if found is not None and found.plan.partitions != plan.partitions:
                raise Refused(f"topic {plan.name} has {found.plan.partitions} partitions, not {plan.partitions}",
                              field="partitions", remedy="move the pipeline to a new generation")
        created = [plan for plan in plans if plan.name not in self._topics]
        for plan in created:
            if plan.partitions < 1:
                raise Invalid(f"topic {plan.name} cannot be created: it needs a partition", place=plan.name)
            self._topics[plan.name] = _Topic(plan, [Log() for _ in range(plan.partitions)])
        return [plan.name for plan in created]

    async def describe_topics(self, names: Sequence[str]) -> Mapping[str, TopicPlan]:
        return {name: self._topics[name].plan for name in names if name in self._topics}

    async def delete_topics(self, names: Sequence[str]) -> None:
        for name in names:
            self._topics.pop(name, None)

    async def list_topics(self) -> list[str]:
        return sorted(self._topics)

    async def group_offsets(self, group: str) -> Mapping[Place, int]:
        return dict(self._groups[group].offsets) if group in self._groups else {}

    async def ping(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Nothing is held outside this object."""

    # -- what its writers and readers need ----------------------------------------------------------------------

    def group(self, name: str) -> Group:
        return self._groups.setdefault(name, Group(self))

    def places(self, topics: Iterable[str]) -> list[Place]:
        return [Place(topic, number) for topic in topics for number in range(self.topic(topic).plan.partitions)]

    def topic(self, name: str) -> _Topic:
        found = self._topics.get(name)
        if found is None:
            raise Missing(f"no such topic: {name}", remedy="create it; the broker does not by itself")
        return found

    def log(self, place: Place) -> Log:
        return self.topic(place.topic).logs[place.partition]

    def fence(self, transactional_id: str) -> int:
        self._epochs[transactional_id] = self._epochs.get(transactional_id, 0) + 1
        return self._epochs[transactional_id]

    def fenced(self, transactional_id: str, epoch: int) -> bool:
        return self._epochs[transactional_id] != epoch

    def locate(self, records: Sequence[Outgoing]) -> list[Place]:
        """Where each record goes; Invalid or Missing when one of them cannot go anywhere."""
        keyless = next(self._spread)
        return [self._locate(record, keyless) for record in records]

    def _locate(self, record: Outgoing, keyless: int) -> Place:
        count = self.topic(record.topic).plan.partitions
        if record.key is None and record.value is None:
            raise Invalid("a record needs a key or a value", place=record.topic)
        if record.partition is not None:
            if not 0 <= record.partition < count:
                raise Invalid(f"topic {record.topic} has {count} partitions", field="partition",
                              place=f"{record.topic}/{record.partition}")
            return Place(record.topic, record.partition)
        return Place(record.topic, keyless % count if record.key is None else partition_for(record.key, count))

    def check_sizes(self, records: Sequence[Outgoing]) -> None:
        for record in records:
            size = len(record.key or b"") + len(record.value or b"")
            if size > self.topic(record.topic).max_record_bytes:
                raise Invalid(f"cannot write to {record.topic}: larger than its topic allows",
                              remedy="raise max.message.bytes of the topic")

    def append(self, places: Sequence[Place], records: Sequence[Outgoing], *, visible: bool = True) -> list[Record]:
        stamp = int(self._clock.now().timestamp() * 1000)
        placed = []
        for place, record in zip(places, records, strict=True):
            log = self.log(place)
            written = Record(place.topic, place.partition, log.next_offset, record.key, record.value, record.headers,
                             stamp)
            log.next_offset += 1
            if visible:
                log.records.append(written)
            placed.append(written)
        self._wake()
        return placed

    def mark(self, places: Iterable[Place]) -> None:
        """End a transaction: its marker takes an offset in every partition it wrote."""
        for place in set(places):
            self.log(place).next_offset += 1
        self._wake()

    def _wake(self) -> None:
        arrival, self._arrival = self._arrival, asyncio.Event()
        arrival.set()

    def wake(self) -> None:
        """Let waiting readers look again."""
        self._wake()

    @property
    def arrival(self) -> asyncio.Event:
        """Set at the next change of any log or group."""
        return self._arrival
