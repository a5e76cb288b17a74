"""What a record on the log is, where its key belongs, and the operations a broker offers; knows no client library.

Both `bus/kafka.py` and `bus/memory.py` implement these protocols and pass the same suite.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_WORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A partition of a topic."""

    topic: str
    partition: int


class Record(NamedTuple):
    """A record as it was read: `offset` is its place in the log, `timestamp_ms` the broker's, since the epoch.

    A tuple, like `Outgoing`, because a batch makes tens of thousands: a third of a frozen dataclass's cost.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


class Outgoing(NamedTuple):
    """A record to be written. `partition` None: chosen from the key by murmur2, Kafka's default."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """How a topic is to exist, or exists; of an existing one `config` holds what differs from the broker's defaults."""

    name: str
    partitions: int
    config: Mapping[str, str]
    replication: int = 1


def partition_for(key: bytes, partitions: int) -> int:
    """The partition Kafka's default partitioner gives `key` in a topic of `partitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 as the Java client computes it, as an unsigned 32-bit number."""
    length = len(data)
    value = (_SEED ^ length) & _WORD
    whole = length & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start:start + 4], "little") * _MIX & _WORD
        word = (word ^ (word >> 24)) * _MIX & _WORD
        value = (value * _MIX & _WORD) ^ word
    if whole < length:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MIX & _WORD
    value = (value ^ (value >> 13)) * _MIX & _WORD
    return value ^ (value >> 15)


class Writer(Protocol):
    """Idempotent producer, acks from all in-sync replicas."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Flush, then close."""

    async def send(self, record: Outgoing) -> Record:
        """Return once the record is durable, with its place. Raises Unavailable (retriable) or Invalid (too large)."""

    async def send_all(self, records: Sequence[Outgoing]) -> list[Record]:
        """The same for many, pipelined; order within a partition is the order given."""

    async def flush(self) -> None: ...


class TransactionalWriter(Protocol):
    """Producer bound to one `transactional.id`."""

    async def start(self) -> None:
        """Fence every older holder of the id, and return once its last transaction has ended (offsets included).

        May be called again, after a commit that raised Unavailable.
        """

    async def stop(self) -> None: ...

    async def commit(self, records: Sequence[Outgoing], offsets: Mapping[Place, int], group: str) -> list[Record]:
        """Write all records and the consumer offsets (next to read) in one transaction.

        Raises Refused when a newer holder has fenced this writer (the process must let go of the partition), Invalid
        when a record is too large or its topic is absent, and Unavailable when the transaction was aborted or its end
        is unknown. After any of them the writer is closed: `start` it again and ask the group's offsets what counted.
        """


Assigned = Callable[[Sequence[Place]], Awaitable[None]]
Revoked = Callable[[Sequence[Place]], Awaitable[None]]


class Reader(Protocol):
    """Consumer: a member of a group, or one that was given all partitions of its topics."""

    async def start(self) -> None:
        """Connect and join; partitions arrive later, during `poll`. Raises Missing when a topic does not exist."""

    async def stop(self) -> None:
        """Leave the group at once; nothing is committed by stopping."""

    async def rejoin(self) -> None:
        """Join anew, keeping the name: for a member that may have lost its partitions without being told."""

    async def poll(self, *, max_records: int, timeout_s: float, without: Collection[Place] = (),
                   until: asyncio.Event | None = None) -> Mapping[Place, Sequence[Record]]:
        """Records by partition in offset order; empty after `timeout_s` without any. Only committed transactions.

        Those of the partitions in `without` are left for a later call. Returns early, empty, once `until` is set.
        Rides over rebalances, broker restarts and moved coordinators; raises Unavailable when the bus stays away, and
        Refused when rights are missing.
        """

    async def commit(self, offsets: Mapping[Place, int]) -> None:
        """Commit next-to-read offsets. Raises Unavailable when the group moved on (records come again)."""

    async def committed(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Next-to-read offsets the group has committed; a place without any is absent."""

    def assignment(self) -> frozenset[Place]:
        """Partitions held now; empty during a rebalance."""

    def position(self, place: Place) -> int:
        """Offset of the next record `poll` would give; -1 while it is not known yet."""

    def behind(self, place: Place) -> int:
        """Records that wait behind `position`, as far as the last answer of the broker told; 0 while nothing is known.
        """

    async def seek(self, place: Place, offset: int) -> None:
        """No effect on a place that is not held."""

    def pause(self, place: Place) -> None:
        """Give no records of `place` until `resume`; lasts while the place is held, rebalances included."""

    def resume(self, place: Place) -> None: ...

    async def end_offsets(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Next offset a read-committed reader could reach."""

    async def high_watermarks(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Next offset anybody could write: beyond `end_offsets` while a transaction is open."""

    async def begin_offsets(self, places: Sequence[Place]) -> Mapping[Place, int]: ...


class Broker(Protocol):
    """A cluster one can open writers and readers on."""

    def writer(self, client_id: str) -> Writer: ...

    def transactional_writer(self, transactional_id: str) -> TransactionalWriter: ...

    def reader(self, topics: Sequence[str], *, group: str | None, client_id: str, start: str = "earliest",
               member: bool = True, on_assigned: Assigned | None = None, on_revoked: Revoked | None = None) -> Reader:
        """`start` ("earliest" or "latest") applies where the group has no committed offset.

        Without a group, or with `member` False, the reader shares with nobody and holds all partitions; a group then
        only keeps the offsets it commits.

        `client_id` is the member's name and unique within its group: a process that comes back under the same name
        takes its partitions at once. `on_revoked` is awaited before another member can get the places, within seconds;
        both are told the whole set, not the difference.
        """

    async def create_topics(self, plans: Sequence[TopicPlan]) -> list[str]:
        """Create what is absent and return the names created, ready to be written.

        Raises Refused when an existing one differs in partitions, and Invalid when the cluster rejects a plan.
        """

    async def describe_topics(self, names: Sequence[str]) -> Mapping[str, TopicPlan]:
        """Those of `names` that exist."""

    async def delete_topics(self, names: Sequence[str]) -> None: ...

    async def list_topics(self) -> list[str]: ...

    async def group_offsets(self, group: str) -> Mapping[Place, int]:
        """Committed next-to-read offsets of a group (for lag)."""

    async def ping(self) -> None:
        """Raises Unavailable, with the reason (wrong address, wrong password, no TLS), when it cannot be reached."""

    async def close(self) -> None: ...
