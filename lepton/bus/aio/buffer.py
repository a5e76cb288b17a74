"""What of aiokafka's fetching is done otherwise: whole batches, and none that waits for others or grows old here."""

import struct
import weakref
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, errors
from aiokafka.consumer import fetcher as fetching
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from lepton import native
from lepton.bus.aio.fetched import Fetched
from lepton.bus.records import Record

if TYPE_CHECKING:
    from lepton.native.loops import Records

# How long the broker may hold a fetch of some partitions while records of others wait to be taken: once they are, those
# partitions have to wait for that answer.
BESIDE_WAIT_MS = 10

_new = tuple.__new__

# Of a batch in format 2: base offset, length, leader epoch, format, checksum, attributes, last offset, first and
# greatest timestamp, producer, its epoch, first sequence number, records (KIP-98).
_HEAD = struct.Struct(">qiibIhiqqqhii")
_BEFORE_LENGTH = 12
_FORMAT = 16


class _Kept(MemoryRecords):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's batches of a fetch, and the bytes they are in, which it keeps to itself."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


# The fetcher makes them by this name, and offers no other place to come in.
fetching.MemoryRecords = _Kept


class Fetching:
    """Has a started consumer, that was told no partitions yet, fetch as this module says."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._fetcher = consumer._fetcher
        self._fetcher._records = _Buffer()
        # A partition that was taken is fetched at once, whether or not others were. (aiokafka waits for them 0.1 s.)
        self._fetcher._prefetch_backoff = 0
        self._plan, self._alone_ms = self._fetcher._get_actions_per_node, self._fetcher._fetch_max_wait_ms
        self._fetcher._get_actions_per_node = self._planned
        self._later: frozenset[TopicPartition] = frozenset()

    def later(self, places: Collection[TopicPartition]) -> None:
        """Do not fetch these ahead: nobody will take them soon, and what is fetched now is all they would get then."""
        self._later |= frozenset(places)

    def now(self, without: Collection[TopicPartition]) -> None:
        """Fetch all again but these."""
        kept = self._later.intersection(without)
        if kept != self._later:
            self._later = kept
            self._fetcher._notify(self._fetcher._wait_consume_future)

    def _planned(self, assignment: Any) -> Any:
        self._fetcher._fetch_max_wait_ms = BESIDE_WAIT_MS if self._fetcher._records or self._later else self._alone_ms
        return self._plan(_Few(assignment, self._later) if self._later else assignment)


class _Few:
    """An assignment less some of its partitions, as far as a plan of fetches looks at it."""

    def __init__(self, assignment: Any, without: frozenset[TopicPartition]) -> None:
        self.tps = assignment.tps - without
        self.state_value = assignment.state_value


class _Buffer(OrderedDict[TopicPartition, Any]):
    """aiokafka's buffer of what was fetched, whose parts give our records by whole batches.

    One of aiokafka's records after the other, and ours of each, took half of the time that reading JSON takes.
    """

    def __setitem__(self, place: TopicPartition, fetched: Any) -> None:
        if isinstance(fetched, FetchResult):
            fetched.getall = _Taking(place, fetched)
        super().__setitem__(place, fetched)


class _Taking:
    """`FetchResult.getall`, batch by batch."""

    def __init__(self, place: TopicPartition, fetched: FetchResult) -> None:
        # No circles: what holds megabytes goes when it is dropped, not when the collector comes by.
        self._fetched = weakref.ref(fetched)
        fetched._partition_records._records_iterator = None
        self._batches = _batches(place, fetched._partition_records)
        self._rest: Sequence[Record] = []
        # Where the reader stands once the rest is taken.
        self._behind = 0

    def __call__(self, max_records: int | None = None) -> Sequence[Record]:
        fetched = self._fetched()
        if fetched is None or not fetched.check_assignment(fetched._topic_partition) or not fetched.has_more():
            return []
        parts, size = ([self._rest], len(self._rest)) if self._rest else ([], 0)
        while max_records is None or size < max_records:
            following = next(self._batches, None)
            if following is None:
                break
            records, self._behind = following
            if records:
                parts.append(records)
                size += len(records)
        taken = _joined(parts)
        taken, self._rest = (taken, []) if max_records is None or size <= max_records \
            else (taken[:max_records], taken[max_records:])
        raw = fetched._partition_records
        raw.next_fetch_offset = self._rest[0].offset if self._rest else max(self._behind, raw.next_fetch_offset)
        fetched._update_position()
        if not self._rest and not raw._records.has_next():
            fetched._partition_records = None
        return taken


def _joined(parts: Sequence[Sequence[Record]]) -> Sequence[Record]:
    if len(parts) == 1:
        return parts[0]
    first, *others = parts or ([],)
    if isinstance(first, Fetched):
        several = [other for other in others if isinstance(other, Fetched)]
        if len(several) == len(others):
            return first.joined(several)
    return [record for part in parts for record in part]


def _batches(place: TopicPartition, fetched: PartitionRecords) -> Iterator[tuple[Sequence[Record], int]]:
    """The committed records of each batch, and the offset behind it.

    What `PartitionRecords._unpack_records` does, whose rules these are (KIP-98 for what was aborted).
    """
    topic, partition = place
    first = fetched.next_fetch_offset
    loops = native.built() if isinstance(fetched._records, _Kept) else None
    at = 0
    while fetched._records.has_next():
        batch = fetched._records.next_batch()
        if not batch.validate_crc():
            raise errors.CorruptRecordException(f"a batch of {topic}/{partition} is damaged")
        start = at
        if loops is not None:
            at = start + _BEFORE_LENGTH + int.from_bytes(fetched._records.data[start + 8:start + 12])
        if not _counts(fetched, batch):
            yield [], batch.next_offset
        elif loops is not None and fetched._records.data[start + _FORMAT] == 2:
            yield Fetched(topic, partition, _found(loops.Records, fetched._records.data, start, at, first)), \
                batch.next_offset
        else:
            records = [_new(Record, (topic, partition, raw.offset, raw.key, raw.value, tuple(raw.headers),
                                     raw.timestamp)) for raw in batch]
            if batch.base_offset < first:
                records = [record for record in records if record.offset >= first]
            yield records, batch.next_offset


def _found(kind: "type[Records]", data: bytes, start: int, end: int, first: int) -> "Records":
    """Those of the batch from `start` to `end` whose offset is `first` or greater. It has been checked to be whole."""
    base, _, _, _, _, attributes, _, since, latest, _, _, _, count = _HEAD.unpack_from(data, start)
    start += _HEAD.size
    if attributes & _DefaultRecordBatchPy.CODEC_MASK:
        packed = _DefaultRecordBatchPy(data[start - _HEAD.size:end])
        # Its own way with every codec, whether the libraries for them are there or not.
        packed._maybe_uncompress()
        data = bytes(packed._buffer)
        start, end = 0, len(data)
    append_time = latest if attributes & _DefaultRecordBatchPy.TIMESTAMP_TYPE_MASK else None
    try:
        return kind.read(data, start, end, count, base, since, append_time, first)
    except ValueError as error:
        raise errors.CorruptRecordException(f"a batch of records cannot be read: {error}") from error


def _counts(fetched: PartitionRecords, batch: Any) -> bool:
    """Whether a batch holds records that somebody is to see: no marks of a transaction's end, nothing aborted."""
    if batch.producer_id is not None:
        fetched._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and fetched._contains_abort_marker(batch):
            fetched._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in fetched._aborted_producers:
            return False
    return not batch.is_control_batch
