"""What of aiokafka's fetching is done otherwise: whole batches become records, and no partition waits for others."""

import weakref
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer, errors
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.structs import TopicPartition

from lepton.bus.records import Record

# How long the broker may hold a fetch of some partitions while records of others wait to be taken: once they are, those
# partitions have to wait for that answer.
BESIDE_WAIT_MS = 10

_new = tuple.__new__


def install(consumer: AIOKafkaConsumer) -> None:
    """Have a started consumer, that was told no partitions yet, fetch as this module says."""
    fetcher = consumer._fetcher
    fetcher._records = _Buffer()
    # A partition that was taken is fetched at once, whether or not others were. (aiokafka waits for them 0.1 s.)
    fetcher._prefetch_backoff = 0
    plan, alone_ms = fetcher._get_actions_per_node, fetcher._fetch_max_wait_ms

    def beside_others(assignment: Any) -> Any:
        fetcher._fetch_max_wait_ms = BESIDE_WAIT_MS if fetcher._records else alone_ms
        return plan(assignment)

    fetcher._get_actions_per_node = beside_others


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
        self._rest: list[Record] = []
        # Where the reader stands once the rest is taken.
        self._behind = 0

    def __call__(self, max_records: int | None = None) -> list[Record]:
        fetched = self._fetched()
        if fetched is None or not fetched.check_assignment(fetched._topic_partition) or not fetched.has_more():
            return []
        taken = self._rest
        while max_records is None or len(taken) < max_records:
            following = next(self._batches, None)
            if following is None:
                break
            records, self._behind = following
            taken = taken + records if taken else records
        taken, self._rest = (taken, []) if max_records is None else (taken[:max_records], taken[max_records:])
        raw = fetched._partition_records
        raw.next_fetch_offset = self._rest[0].offset if self._rest else max(self._behind, raw.next_fetch_offset)
        fetched._update_position()
        if not self._rest and not raw._records.has_next():
            fetched._partition_records = None
        return taken


def _batches(place: TopicPartition, fetched: PartitionRecords) -> Iterator[tuple[list[Record], int]]:
    """The committed records of each batch, and the offset behind it.

    What `PartitionRecords._unpack_records` does, whose rules these are (KIP-98 for what was aborted).
    """
    topic, partition = place
    first = fetched.next_fetch_offset
    while fetched._records.has_next():
        batch = fetched._records.next_batch()
        if not batch.validate_crc():
            raise errors.CorruptRecordException(f"a batch of {topic}/{partition} is damaged")
        if not _counts(fetched, batch):
            yield [], batch.next_offset
            continue
        records = [_new(Record, (topic, partition, raw.offset, raw.key, raw.value, tuple(raw.headers), raw.timestamp))
                   for raw in batch]
        if batch.base_offset < first:
            records = [record for record in records if record.offset >= first]
        yield records, batch.next_offset


def _counts(fetched: PartitionRecords, batch: Any) -> bool:
    """Whether a batch holds records that somebody is to see: no marks of a transaction's end, nothing aborted."""
    if batch.producer_id is not None:
        fetched._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and fetched._contains_abort_marker(batch):
            fetched._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in fetched._aborted_producers:
            return False
    return not batch.is_control_batch
