"""How records leave Kafka: a group member, or a reader of all partitions, that outlives every failure of its client."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, errors
from aiokafka.structs import TopicPartition

from lepton.bus.aio import buffer
from lepton.bus.aio.client import Refreshing, Subscription, close_consumer, open_consumer, written_ends
from lepton.bus.aio.failures import outcome
from lepton.bus.records import Assigned, Place, Record, Revoked
from lepton.clock import Clock
from lepton.errors import LeptonError, Refused, Unavailable
from lepton.runtime.loops import pause, unless_stopped

CALL_TIMEOUT_S = 20.0
# How long `poll` rides over failures before it says so.
PATIENCE_S = 60.0
BACKOFF_S = 0.5
# Without a record for this long, ask the broker whether there are any: aiokafka can go quiet after a rebalance.
QUIET_S = 10.0

_log = logging.getLogger(__name__)


class KafkaReader:
    """See `records.Reader` for the promises; one client underneath, replaced when it fails."""

    def __init__(self, connection: Mapping[str, Any], subscription: Subscription, clock: Clock) -> None:
        self._connection = connection
        self._subscription = subscription
        self._clock = clock
        self._consumer: AIOKafkaConsumer | None = None
        self._refreshing: Refreshing
        self._fetching: buffer.Fetching
        self._held: frozenset[Place] = frozenset()
        self._paused: set[Place] = set()
        # Where a reader without a group goes on when its client is replaced, however long that takes.
        self._resume_at: dict[Place, int] = {}
        self._listener_error: Exception | None = None
        self._failing_since: float | None = None
        self._quiet = _Quiet(clock.monotonic())

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        await self._open()

    async def stop(self) -> None:
        await self._close(leave=True)

    async def rejoin(self) -> None:
        await self._close(leave=False)
        await self._open()

    async def _open(self) -> None:
        consumer, counts = await open_consumer(self._connection, self._subscription, self._clock)
        self._fetching = buffer.Fetching(consumer)
        self._consumer = consumer
        self._refreshing = Refreshing(consumer)
        self._quiet = _Quiet(self._clock.monotonic())
        if self._subscription.member:
            consumer.subscribe(list(self._subscription.topics), listener=_Listener(self))
        else:
            self._assign_all(consumer, counts)

    def _assign_all(self, consumer: AIOKafkaConsumer, counts: Mapping[str, int]) -> None:
        places = [Place(topic, number) for topic, count in counts.items() for number in range(count)]
        consumer.assign([_tp(place) for place in places])
        self._held = frozenset(places)
        for place, offset in self._resume_at.items():
            if place in self._held:
                consumer.seek(_tp(place), offset)
        self._apply_pauses(consumer)

    async def _close(self, *, leave: bool) -> None:
        self._resume_at |= {place: at for place in self._held if (at := self.position(place)) >= 0}
        consumer, self._consumer = self._consumer, None
        self._held = frozenset()
        if consumer is not None:
            await close_consumer(consumer, self._subscription, leave=leave)

    # -- rebalances, called by aiokafka -------------------------------------------------------------------------

    async def lost(self) -> None:
        held, self._held = self._held, frozenset()
        if held and self._subscription.on_revoked is not None:
            await self._tell(self._subscription.on_revoked, held)

    async def gained(self, places: frozenset[Place]) -> None:
        self._paused &= places
        if self._consumer is not None:
            self._held = places
            self._apply_pauses(self._consumer)
        self._quiet = _Quiet(self._clock.monotonic())
        if self._subscription.on_assigned is not None:
            await self._tell(self._subscription.on_assigned, places)

    async def _tell(self, callback: Assigned | Revoked, places: frozenset[Place]) -> None:
        try:
            await callback(sorted(places))
        except Exception as error:  # noqa: BLE001  aiokafka would log and forget it; the next poll raises it
            self._listener_error = error

    # -- reading ------------------------------------------------------------------------------------------------

    async def poll(self, *, max_records: int, timeout_s: float, without: Collection[Place] = (),
                   until: asyncio.Event | None = None) -> Mapping[Place, Sequence[Record]]:
        if self._listener_error is not None:
            error, self._listener_error = self._listener_error, None
            raise error
        if self._consumer is None and not await self._reopen():
            return {}
        try:
            self._refreshing.check(self._clock.monotonic())
            found = await self._take(max_records, timeout_s, without, until)
        except (errors.KafkaError, errors.ConsumerStoppedError, OSError) as failure:
            await self._failed(failure)
            return {}
        self._failing_since = None
        if found:
            self._quiet = _Quiet(self._clock.monotonic())
        elif self._quiet.due(self._clock.monotonic()):
            await self._check_quiet()
        return found

    async def _take(self, max_records: int, timeout_s: float, without: Collection[Place],
                    until: asyncio.Event | None) -> dict[Place, Sequence[Record]]:
        consumer = self._consumer
        if consumer is None:
            return {}
        only = [_tp(place) for place in self._held.difference(without)] if without else []
        if without and not only:
            await pause(until or asyncio.Event(), timeout_s, self._clock)
            return {}
        self._fetching.now([_tp(place) for place in without])
        try:
            # getmany waits without bound for the end of a rebalance; it drains its buffer only after its last await,
            # so a cancelled call loses nothing.
            async with asyncio.timeout(timeout_s + 1.0):
                getting = consumer.getmany(*only, timeout_ms=max(1, int(timeout_s * 1000)), max_records=max_records)
                found = await (getting if until is None else unless_stopped(until, getting)) or {}
        except TimeoutError:
            return {}
        # Before the fetcher has its turn. What waits on the broker is fetched ahead; what has yet to come is not.
        self._fetching.later([tp for tp in found if not self.behind(Place(tp.topic, tp.partition))])
        return {Place(tp.topic, tp.partition): raws
                for tp, raws in found.items() if Place(tp.topic, tp.partition) in self._held and raws}

    async def _failed(self, failure: BaseException) -> None:
        """Replace the client; past `PATIENCE_S` of failures in a row, raise."""
        translated = outcome(failure, f"read {', '.join(self._subscription.topics)}")
        if isinstance(translated, Refused):
            raise translated from failure
        now = self._clock.monotonic()
        self._failing_since = self._failing_since if self._failing_since is not None else now
        if now - self._failing_since > PATIENCE_S:
            raise translated from failure
        _log.warning("a reader of %s starts again: %s", self._subscription.topics, translated.message)
        await self._clock.sleep(BACKOFF_S)
        await self._close(leave=False)
        await self._reopen()

    async def _reopen(self) -> bool:
        try:
            await self._open()
        except Unavailable as error:
            now = self._clock.monotonic()
            self._failing_since = self._failing_since if self._failing_since is not None else now
            if now - self._failing_since > PATIENCE_S:
                raise
            _log.warning("a reader of %s waits: %s", self._subscription.topics, error.message)
            await self._clock.sleep(BACKOFF_S)
            return False
        return True

    async def _check_quiet(self) -> None:
        """When records wait on the broker and positions do not move between two checks, the client is stuck."""
        now = self._clock.monotonic()
        places = sorted(self._held - self._paused)
        if not places:
            self._quiet = _Quiet(now)
            return
        try:
            ends = await self.end_offsets(places)
        except LeptonError:
            self._quiet = _Quiet(now)
            return
        behind = {place: self.position(place) for place in places if self.position(place) < ends[place]}
        if behind and behind == self._quiet.behind:
            _log.warning("a reader of %s went quiet with records waiting, and starts again", self._subscription.topics)
            await self.rejoin()
        else:
            self._quiet = _Quiet(now, behind)

    # -- offsets ------------------------------------------------------------------------------------------------

    async def commit(self, offsets: Mapping[Place, int]) -> None:
        consumer = self._opened()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await consumer.commit({_tp(place): offset for place, offset in offsets.items()})
        except errors.IllegalStateError as error:
            raise Unavailable(f"cannot commit in group {self._subscription.group}: the partitions moved on") from error
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise outcome(error, f"commit in group {self._subscription.group}") from error

    async def committed(self, places: Sequence[Place]) -> Mapping[Place, int]:
        consumer = self._opened()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                found = await asyncio.gather(*(consumer.committed(_tp(place)) for place in places))
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise outcome(error, f"read offsets of group {self._subscription.group}") from error
        return {place: offset for place, offset in zip(places, found, strict=True) if offset is not None}

    def assignment(self) -> frozenset[Place]:
        return self._held

    def position(self, place: Place) -> int:
        # The public `position` waits until it is known; here the present knowledge is asked for.
        state = self._state(place)
        return int(state.position) if state is not None and state.has_valid_position else -1

    def behind(self, place: Place) -> int:
        state = self._state(place)
        if state is None or not state.has_valid_position:
            return 0
        # Records of transactions that are still open cannot be read yet, so they do not wait for us.
        end = state.highwater if state.lso is None else state.lso
        return max(0, int(end) - int(state.position)) if end is not None else 0

    def _state(self, place: Place) -> Any:
        """What aiokafka knows of a partition; None while it is not ours."""
        consumer = self._consumer
        if consumer is None or consumer._subscription.subscription is None:
            return None
        assignment = consumer._subscription.subscription.assignment
        return assignment.state_value(_tp(place)) if assignment is not None else None

    async def seek(self, place: Place, offset: int) -> None:
        if self._consumer is not None and place in self._held:
            with suppress(errors.IllegalStateError):
                self._consumer.seek(_tp(place), offset)

    def pause(self, place: Place) -> None:
        self._paused.add(place)
        if self._consumer is not None and place in self._held:
            self._apply_pauses(self._consumer)

    def resume(self, place: Place) -> None:
        self._paused.discard(place)
        if self._consumer is not None and place in self._held:
            with suppress(errors.IllegalStateError):
                self._consumer.resume(_tp(place))

    async def end_offsets(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return await self._bounds(self._opened().end_offsets, places)

    async def high_watermarks(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return await self._bounds(partial(written_ends, self._opened()), places)

    async def begin_offsets(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return await self._bounds(self._opened().beginning_offsets, places)

    async def _bounds(self, ask: Any, places: Sequence[Place]) -> dict[Place, int]:
        if not places:
            return {}
        try:
            found = await ask([_tp(place) for place in places])
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise outcome(error, f"ask for offsets of {', '.join(self._subscription.topics)}") from error
        return {Place(tp.topic, tp.partition): offset for tp, offset in found.items()}

    def _apply_pauses(self, consumer: AIOKafkaConsumer) -> None:
        with suppress(errors.IllegalStateError):
            consumer.pause(*(_tp(place) for place in self._paused & self._held))

    def _opened(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise Unavailable(f"the reader of {', '.join(self._subscription.topics)} is not connected")
        return self._consumer


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, reader: KafkaReader) -> None:
        self._reader = reader

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._reader.lost()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._reader.gained(frozenset(Place(tp.topic, tp.partition) for tp in assigned))


@dataclass(frozen=True, slots=True)
class _Quiet:
    """Since when no record came, and which positions were behind at the last look."""

    since: float
    behind: Mapping[Place, int] | None = None

    def due(self, now: float) -> bool:
        return now - self.since > QUIET_S


def _tp(place: Place) -> TopicPartition:
    return TopicPartition(place.topic, place.partition)
