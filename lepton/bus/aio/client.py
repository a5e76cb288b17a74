"""How one aiokafka consumer is set up for a subscription, and taken down again."""

import asyncio
import copy
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, errors
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import TopicPartition

from lepton.bus.aio.failures import outcome, unreachable
from lepton.bus.records import Assigned, Revoked
from lepton.clock import Clock
from lepton.errors import Missing

SESSION_TIMEOUT_MS = 6_000
HEARTBEAT_MS = 1_000
REBALANCE_TIMEOUT_MS = 15_000
# Must exceed the rebalance timeout: a JoinGroup is answered only when the whole group has joined.
REQUEST_TIMEOUT_MS = 20_000
# A seek waits for the fetch in flight, so this bounds how late it takes effect.
FETCH_WAIT_MS = 500
PARTITION_FETCH_BYTES = 4 * 1024 * 1024
# Two requests that time out, one after the other, and some more: a refresh ends sooner, one way or the other.
REFRESH_WITHIN_S = 45.0
TOPICS_WITHIN_S = 10.0
TOPICS_EVERY_S = 0.25
CLOSE_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a reader reads and as whom; not a `member`: all partitions, a group only keeps its offsets."""

    topics: tuple[str, ...]
    group: str | None
    client_id: str
    start: str = "earliest"
    member: bool = True
    on_assigned: Assigned | None = None
    on_revoked: Revoked | None = None


async def open_consumer(connection: Mapping[str, Any], told: Subscription,
                        clock: Clock) -> tuple[AIOKafkaConsumer, dict[str, int]]:
    """A started consumer that reads nothing yet, and the partitions of each topic.

    Raises Unavailable with the reason, Refused, or Missing when a topic is absent.
    """
    consumer = AIOKafkaConsumer(
        **{**connection, "client_id": told.client_id}, group_id=told.group,
        group_instance_id=told.client_id if told.member else None, isolation_level="read_committed",
        enable_auto_commit=False, auto_offset_reset=told.start, session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=HEARTBEAT_MS, rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        request_timeout_ms=REQUEST_TIMEOUT_MS, fetch_max_wait_ms=FETCH_WAIT_MS, metadata_max_age_ms=60_000,
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES, partition_assignment_strategy=(RangePartitionAssignor,))
    try:
        await consumer.start()
        return consumer, await _partition_counts(consumer, told, clock)
    except (errors.KafkaError, OSError, TimeoutError) as error:
        await consumer.stop()
        if isinstance(error, errors.KafkaConnectionError):
            raise await unreachable(connection) from error
        raise outcome(error, f"read {', '.join(told.topics)}") from error
    except BaseException:
        await consumer.stop()
        raise


async def _partition_counts(consumer: AIOKafkaConsumer, told: Subscription, clock: Clock) -> dict[str, int]:
    """Waits a little for topics that are just being created."""
    deadline = clock.monotonic() + TOPICS_WITHIN_S
    while True:
        absent = sorted(set(told.topics) - await consumer.topics())
        if not absent:
            # The public `partitions_for_topic` knows only topics already subscribed to.
            return {topic: len(await consumer._client._wait_on_metadata(topic)) for topic in told.topics}
        if clock.monotonic() > deadline:
            raise Missing(f"no such topic: {', '.join(absent)}", remedy="create it; the broker does not by itself")
        await clock.sleep(TOPICS_EVERY_S)


class Refreshing:
    """Sees when a client's metadata is refreshed no more: then everything that asks where a partition is waits on.

    aiokafka starts the task that does it once and never looks at it again: whatever ends it goes unseen.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._client = consumer._client
        self._awaited: object = None
        self._since = 0.0

    def check(self, now: float) -> None:
        """`now` is monotonic seconds. Raises ConsumerStoppedError."""
        task, awaited = self._client._sync_task, self._client._md_update_fut
        if task is None or task.done():
            raise errors.ConsumerStoppedError("its metadata is refreshed no more")
        if awaited is None or awaited is not self._awaited:
            self._awaited, self._since = awaited, now
        elif now - self._since > REFRESH_WITHIN_S:
            raise errors.ConsumerStoppedError(f"its metadata was not refreshed for {now - self._since:.0f} s")


async def written_ends(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The high watermarks. Raises what aiokafka does.

    A consumer asks for ends at its own isolation level alone; a copy of its fetcher, which shares the connections and
    starts nothing, asks at the other.
    """
    fetcher = copy.copy(consumer._fetcher)
    assert hasattr(fetcher, "_isolation_level")
    fetcher._isolation_level = READ_UNCOMMITTED
    found: dict[TopicPartition, int] = await fetcher.end_offsets(partitions, REQUEST_TIMEOUT_MS)
    return found


async def close_consumer(consumer: AIOKafkaConsumer, told: Subscription, *, leave: bool) -> None:
    """Close it within seconds; `leave`: give the partitions to the others now, instead of keeping them for the name."""
    if leave and told.member and consumer._coordinator is not None:
        # aiokafka leaves on stop only without an instance name.
        consumer._coordinator._group_instance_id = None
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await consumer.stop()
    except (errors.KafkaError, OSError, TimeoutError) as error:
        _log.warning("a reader of %s was closed without a goodbye: %s", told.topics, type(error).__name__)
        with suppress(errors.KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await consumer._client.close()
