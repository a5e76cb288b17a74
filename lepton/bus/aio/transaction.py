"""A transaction in as few round trips as Kafka allows: write, note the offsets, end (KIP-890)."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer, errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.structs import TopicPartition

from lepton.bus.aio import forms
from lepton.bus.aio.dispatch import filled, place_them
from lepton.bus.records import Outgoing, Place, Record
from lepton.clock import Clock
from lepton.runtime.loops import to_the_end

# The level of the cluster's feature from which on brokers add to a transaction whatever is written in its name.
_FEATURE, _LEVEL = "transaction.version", 2
# A broker ends a transaction some milliseconds after it has said so, and may turn the next one away until then.
_AGAIN_S = 0.003
_AFTER_FAILURE_S = 0.1
# aiokafka knows ProducerFenced, but not under its number.
_FENCED = 90

_log = logging.getLogger(__name__)


async def agreed(producer: AIOKafkaProducer) -> bool:
    """Whether the cluster of a started transactional producer takes these transactions."""
    node = await _coordinator(producer, CoordinationType.TRANSACTION, producer._txn_manager.transactional_id)
    connection = await producer.client._get_conn(node, group=ConnectionGroup.COORDINATION)
    form = forms.VersionsRequest
    if connection is None:
        raise errors.NodeNotReadyError
    if connection._versions.get(form.API_KEY, (0, 0))[1] < form.LEAST:
        return False
    answer = await producer.client.send(node, form(), group=ConnectionGroup.COORDINATION)
    return forms.features(answer).get(_FEATURE, 0) >= _LEVEL


async def _coordinator(producer: AIOKafkaProducer, kind: CoordinationType, key: str) -> int:
    node: int = await producer._sender._find_coordinator(kind, key)
    return node


@dataclass(slots=True)
class _Batch:
    """Records of one partition on their way, those with the numbers `members`."""

    place: Place
    data: bytes
    members: Sequence[int]


@dataclass(slots=True)
class _Round:
    """One batch a partition at most, and the offset and timestamp of each that has been taken."""

    batches: list[_Batch]
    taken: dict[Place, tuple[int, int]] = field(default_factory=dict)


class ShortTransactions:
    """The transactions of one writer, one after the other. The producer lends its connections and its first epoch.

    Every failure raises aiokafka's error, after which nothing but `abort` is left to do: the epoch may have moved.
    """

    def __init__(self, producer: AIOKafkaProducer, clock: Clock, timeout_ms: int) -> None:
        self._producer = producer
        self._clock = clock
        self._timeout_ms = timeout_ms
        manager = producer._txn_manager
        self._id: str = manager.transactional_id
        self._who = (int(manager.producer_id), int(manager.producer_epoch))
        self._begun = False

    async def commit(self, by_place: Mapping[Place, Sequence[int]], records: Sequence[Outgoing],
                     offsets: Mapping[Place, int], group: str) -> list[Record]:
        """Write the records, given by number for each place, and the offsets, and end the transaction."""
        placed: list[Record | None] = [None] * len(records)
        if not records and not offsets:
            return []
        self._begun = True
        for each in self._rounds(by_place, records):
            await self._until_done(lambda each=each: self._write(each))  # type: ignore[misc]
            for batch in each.batches:
                place_them(placed, records, batch.members, batch.place, *each.taken[batch.place])
        if offsets:
            await self._until_done(lambda: self._note(offsets, group))
        await self._until_done(lambda: self._end(commit=True))
        self._begun = False
        return [record for record in placed if record is not None]

    async def abort(self) -> None:
        """End what was begun, if anything was, without a trace."""
        if self._begun:
            await self._until_done(lambda: self._end(commit=False))
            self._begun = False

    def _rounds(self, by_place: Mapping[Place, Sequence[int]], records: Sequence[Outgoing]) -> list[_Round]:
        """A request takes one batch of a partition; its next waits for the next round, so that order is kept."""
        rounds: list[_Round] = []
        for place, indexes in by_place.items():
            sequence = 0
            for number, (builder, members) in enumerate(filled(self._producer, indexes, records)):
                # Counted anew in each transaction, for each has an epoch of its own.
                builder._set_producer_state(*self._who, sequence)
                sequence += len(members)
                if number == len(rounds):
                    rounds.append(_Round([]))
                rounds[number].batches.append(_Batch(place, bytes(builder._build()), members))
        return rounds

    async def _until_done(self, ask: Callable[[], Awaitable[float | None]]) -> None:
        """Ask again as long as the answer, or its absence, tells to. Whoever waits for it has a limit.

        To ask twice for the same is safe: brokers know a batch by its epoch and sequence, offsets by their values, and
        the end by the epoch that it was told with.
        """
        while True:
            try:
                pause_s = await ask()
            except (errors.KafkaError, OSError) as error:
                if isinstance(error, errors.KafkaError) and not error.retriable:
                    raise
                _log.debug("a transaction of %s is asked for again: %s", self._id, type(error).__name__)
                for kind in (CoordinationType.TRANSACTION, CoordinationType.GROUP):
                    self._producer._sender._coordinator_dead(kind)
                # Not waited for: after an outage aiokafka was seen to leave those waiting who did.
                self._producer.client.force_metadata_update()
                pause_s = _AFTER_FAILURE_S
            if pause_s is None:
                return
            await self._clock.sleep(pause_s)

    async def _write(self, each: _Round) -> float | None:
        by_node: dict[int, list[_Batch]] = {}
        for batch in each.batches:
            if batch.place not in each.taken:
                node = self._producer.client.cluster.leader_for_partition(
                    TopicPartition(batch.place.topic, batch.place.partition))
                if node is None or node == -1:
                    raise errors.LeaderNotAvailableError
                by_node.setdefault(node, []).append(batch)
        pauses = await to_the_end(self._write_to(node, batches, each.taken) for node, batches in by_node.items())
        return max((pause_s for pause_s in pauses if pause_s is not None), default=None)

    async def _write_to(self, node: int, batches: Sequence[_Batch],
                        taken: dict[Place, tuple[int, int]]) -> float | None:
        topics: dict[str, list[tuple[int, bytes]]] = {}
        for batch in batches:
            topics.setdefault(batch.place.topic, []).append((batch.place.partition, batch.data))
        answer = await self._producer.client.send(node, forms.ProduceRequest(self._id, self._timeout_ms, topics))
        codes = []
        for topic, partitions in ((told[0], told[1]) for told in answer.topics):
            for number, code, offset, timestamp, *_ in partitions:
                codes.append(code)
                if not code:
                    taken[Place(topic, number)] = (offset, timestamp)
        return _judged(codes)

    async def _note(self, offsets: Mapping[Place, int], group: str) -> float | None:
        topics: dict[str, list[tuple[int, int]]] = {}
        for place, offset in offsets.items():
            topics.setdefault(place.topic, []).append((place.partition, offset))
        node = await _coordinator(self._producer, CoordinationType.GROUP, group)
        answer = await self._producer.client.send(node, forms.OffsetsRequest(self._id, group, self._who, topics),
                                                  group=ConnectionGroup.COORDINATION)
        return _judged([told[1] for topic in answer.topics for told in topic[1]])

    async def _end(self, *, commit: bool) -> float | None:
        node = await _coordinator(self._producer, CoordinationType.TRANSACTION, self._id)
        answer = await self._producer.client.send(node, forms.EndRequest(self._id, self._who, commit=commit),
                                                  group=ConnectionGroup.COORDINATION)
        pause_s = _judged([answer.error_code])
        if pause_s is None:
            self._who = (answer.producer_id, answer.producer_epoch)
        return pause_s


def _judged(codes: Sequence[int]) -> float | None:
    """None when all is well, else after how many seconds to ask again. Raises what asking again cannot mend."""
    again: float | None = None
    for code in codes:
        if not code:
            continue
        kind: Any = errors.for_code(code)
        if code == _FENCED:
            raise errors.ProducerFenced
        if kind is not errors.ConcurrentTransactions:
            # Whoever asks looks for leaders and coordinators anew, when that can help.
            raise kind
        again = _AGAIN_S
    return again
