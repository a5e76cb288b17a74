"""The loop over batches: read, compute, write, all or nothing per partition, whoever dies at whichever instruction.

Each partition has one transactional writer whose id is bound to it and which starts before the first record is read:
the former owner, dead or merely frozen, is fenced from then on, and what it committed is settled. Results, state and
offset share a transaction, so that a batch counts once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lepton.bus.care import Care, LagWatch, Turn
from lepton.bus.consumer import Subscription
from lepton.bus.letters.refusing import LineStopped
from lepton.bus.records import Broker, Outgoing, Place, Reader, Record, TransactionalWriter
from lepton.bus.retry import RetryPolicy
from lepton.bus.table import StateReader
from lepton.errors import Busy, Invalid, LeptonError, Missing, Refused, Unavailable
from lepton.runtime.loops import Works, pause, to_the_end

MAX_RECORDS = 16_000
POLL_S = 0.25
WAIT_S = 1.0

OnLimit = Callable[[LineStopped], Awaitable[None]]

_log = logging.getLogger(__name__)


class Handler(Protocol):
    """What a stage does with its records. Calls for one partition never overlap; those for several may."""

    async def restore(self, place: Place, state: StateReader) -> None:
        """Make the state of a partition what its last committed batch left; called before its first record.

        Also called again after a failed commit, without `released` in between. Former owners can no longer write.
        """

    async def handle(self, place: Place, records: Sequence[Record]) -> Sequence[Outgoing]:
        """What a batch, in offset order and never empty, leads to. State changed here is provisional until `committed`.

        Raises Unavailable or Busy to be called again later with the same records first, LineStopped to stop the stage.
        Refuse single records by dead letters among the results; any other exception ends the process.
        """

    async def committed(self, place: Place) -> None:
        """The last batch of the partition counts: keep its provisional state."""

    async def aborted(self, place: Place) -> None:
        """The last batch of the partition did not count, or nobody knows: drop its provisional state."""

    async def released(self, place: Place) -> None:
        """The partition is somebody else's now: forget its state."""


@dataclass(slots=True)
class _Lane:
    """A partition this process owns: its writer and the next offset that counts."""

    writer: TransactionalWriter
    next_offset: int


@dataclass(slots=True)
class _Setback:
    attempt: int
    due: float


class BatchStage:
    """See the module and `Handler`. `writer_prefix` begins the transactional ids: `<service>.<pipeline>`."""

    def __init__(self, broker: Broker, subscription: Subscription, handler: Handler, care: Care, *, writer_prefix: str,
                 max_records: int = MAX_RECORDS, on_limit: OnLimit | None = None) -> None:
        self._broker = broker
        self._subscription = subscription
        self._handler = handler
        self._care = care
        self._writer_prefix = writer_prefix
        self._max_records = max_records
        self._on_limit = on_limit
        self._retry = RetryPolicy()
        self._reader: Reader = broker.reader(
            subscription.topics, group=subscription.group, client_id=subscription.client_id, start=subscription.start,
            on_assigned=self._assigned, on_revoked=self._revoked)
        self._turn = Turn()
        self._wanted: frozenset[Place] = frozenset()
        # Lost in some generation, even if given back since: another owner may have worked on them.
        self._lost: set[Place] = set()
        # Fenced although the group seemed to say they are ours: not opened before it has spoken again.
        self._doubtful: set[Place] = set()
        self._asked_group = False
        self._lanes: dict[Place, _Lane] = {}
        self._setbacks: dict[Place, _Setback] = {}
        # A batch a partition: while one waits for its commit, those of others are read and computed.
        self._works: Works[Place, bool] = Works()
        self._in_flight = 0
        self._moved = False
        self._stopped_by: LeptonError | None = None
        self._held = False

    @property
    def stopped_by(self) -> LeptonError | None:
        """Why nothing moves any more until somebody resumes it; None while the stage works."""
        return self._stopped_by

    def resume(self) -> bool:
        """Go on after a stop, from what was committed; False where nothing had stopped.

        What stopped it may stop it again: mend the cause first, or lift the limit.
        """
        if self._stopped_by is None:
            return False
        _log.info("the stage of %s goes on", self._subscription.group)
        self._stopped_by = None
        if not self._held:
            self._take_up()
        return True

    def hold(self, held: bool) -> None:
        """Take no more in, as asked: batches in hand are finished, and the partitions stay ours. Or take in again."""
        if held == self._held:
            return
        self._held = held
        _log.info("the stage of %s %s", self._subscription.group, "is held" if held else "goes on")
        if held:
            for place in self._reader.assignment():
                self._reader.pause(place)
        elif self._stopped_by is None:
            self._take_up()

    @property
    def _still(self) -> bool:
        return self._held or self._stopped_by is not None

    def _take_up(self) -> None:
        # Opened anew: what was read behind the batch that stopped the line has to be read again.
        self._lost |= set(self._lanes)
        for place in self._reader.assignment():
            if place not in self._setbacks:
                self._reader.resume(place)

    @property
    def places(self) -> frozenset[Place]:
        """Partitions owned and ready."""
        return frozenset(self._lanes)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; the batches in hand are finished and committed first."""
        await self._reader.start()
        try:
            await self._loop(stop)
            await self._works.all()
        finally:
            await self._works.cancel()
            await to_the_end(self._close(place) for place in list(self._lanes))
            await self._reader.stop()

    async def _loop(self, stop: asyncio.Event) -> None:
        watch = LagWatch(self._reader, self._care)
        while not stop.is_set():
            try:
                async with self._turn:
                    await self._settle()
                    while self._in_flight > self._max_records:
                        await self._works.any()
                if self._works.keys and self._works.keys >= self._reader.assignment():
                    # There is nothing to read for: what is read behind a batch under way would be old when that is
                    # committed.
                    await self._works.any(POLL_S)
                    continue
                # A partition whose batch ends meanwhile is asked for at once, not when this poll is over.
                self._works.ended.clear()
                found = await self._reader.poll(max_records=self._max_records, timeout_s=self._poll_s(),
                                                without=self._works.keys, until=self._works.ended)
                if self._still:
                    if self._stopped_by is None:
                        self._care.beat()
                    continue
                async with self._turn:
                    self._work_through(found)
                if self._doubtful and not self._asked_group:
                    self._asked_group = True
                    await self._reader.rejoin()
            except Unavailable as error:
                _log.warning("the stage of %s waits: %s", self._subscription.group, error.message)
                await pause(stop, WAIT_S, self._care.clock)
                continue
            if self._setbacks or self._stopped_by is not None:
                # A partition that cannot go on is not hidden by others that can.
                continue
            moved, self._moved = self._moved, False
            if moved:
                watch.moved()
            elif not found and not self._works.keys:
                await watch.idle()

    # -- partitions come and go ---------------------------------------------------------------------------------

    async def _assigned(self, places: Sequence[Place]) -> None:
        self._lost |= self._wanted - set(places)
        self._wanted = frozenset(places)
        if self._held:
            for place in places:
                self._reader.pause(place)
        self._doubtful.clear()
        self._asked_group = False

    async def _revoked(self, places: Sequence[Place]) -> None:
        await self._turn.hand_over(self._works.all)

    async def _settle(self) -> None:
        """Own exactly the wanted partitions: close what went, open what came, all at once."""
        self._works.check()
        wanted = frozenset[Place]() if self._still else self._wanted
        lost, self._lost = self._lost, set()
        await to_the_end(self._let_go(place) for place in set(self._lanes) - (wanted - lost))
        for place in set(self._setbacks) - wanted:
            del self._setbacks[place]
        for place in self._due():
            self._reader.resume(place)
        blocked = self._doubtful | self._works.keys | (set(self._setbacks) - self._due())
        opening = sorted(wanted - set(self._lanes) - blocked)
        if opening:
            await self._open(opening)

    async def _open(self, places: Sequence[Place]) -> None:
        # In this order: only behind the fence do the group's offsets and the state stand still.
        writers = dict(zip(places, await to_the_end(self._fence(place) for place in places), strict=True))
        fenced = {place: writer for place, writer in writers.items() if writer is not None}
        state = StateReader(self._broker, self._subscription.client_id, {place.partition for place in fenced},
                            self._care.clock)
        await to_the_end(self._restore(place, writer, state) for place, writer in fenced.items())

    async def _fence(self, place: Place) -> TransactionalWriter | None:
        writer = self._broker.transactional_writer(self._writer_id(place))
        try:
            await writer.start()
        except Unavailable as error:
            self._set_back(place, error)
            return None
        return writer

    async def _restore(self, place: Place, writer: TransactionalWriter, state: StateReader) -> None:
        try:
            next_offset = await self._next_offset(place)
            await self._handler.restore(place, state)
            waits = place in self._setbacks and (await self._reader.end_offsets([place]))[place] > next_offset
        except (Unavailable, Busy, Missing) as error:
            await writer.stop()
            self._set_back(place, error)
            return
        except BaseException:
            await writer.stop()
            raise
        self._lanes[place] = _Lane(writer, next_offset)
        if not waits:
            # No batch will come to show that the setback is overcome.
            self._setbacks.pop(place, None)
        if self._reader.position(place) != next_offset:
            await self._reader.seek(place, next_offset)

    async def _next_offset(self, place: Place) -> int:
        committed = await self._reader.committed([place])
        if place in committed:
            return committed[place]
        ask = self._reader.begin_offsets if self._subscription.start == "earliest" else self._reader.end_offsets
        return (await ask([place]))[place]

    async def _let_go(self, place: Place) -> None:
        await self._works.end_of(place)
        if place in self._lanes:
            await self._close(place)

    async def _close(self, place: Place) -> None:
        lane = self._lanes.pop(place)
        await lane.writer.stop()
        await self._handler.released(place)

    def _writer_id(self, place: Place) -> str:
        """Bound to the partition alone, so that its next owner, in whichever process, fences this one."""
        name = f"{self._writer_prefix}.{place.partition}"
        return name if place.topic == self._subscription.topics[0] else f"{name}.{place.topic}"

    # -- batches ------------------------------------------------------------------------------------------------

    def _work_through(self, found: Mapping[Place, Sequence[Record]]) -> None:
        """Begin a batch for each partition; none of them has one under way."""
        for place, records in found.items():
            lane = self._lanes.get(place)
            if lane is None or self._still or (place in self._setbacks and place not in self._due()):
                continue
            # After a rebalance the reader may stand at an offset from before our last commit.
            fresh = [record for record in records if record.offset >= lane.next_offset] \
                if records[0].offset < lane.next_offset else records
            if fresh:
                self._in_flight += len(fresh)
                behind = max(fresh[-1].offset + 1, self._reader.position(place))
                self._works.start(place, self._batch(place, lane, fresh, behind))

    async def _batch(self, place: Place, lane: _Lane, records: Sequence[Record], next_offset: int) -> bool:
        """Whether it counts."""
        try:
            with self._care.span(f"process {place.topic}", records):
                moved = await self._compute_and_commit(place, lane, records, next_offset)
        finally:
            self._in_flight -= len(records)
        self._moved |= moved
        return moved

    async def _compute_and_commit(self, place: Place, lane: _Lane, records: Sequence[Record],
                                  next_offset: int) -> bool:
        try:
            results = await self._handler.handle(place, records)
        except (Unavailable, Busy) as error:
            await self._handler.aborted(place)
            self._set_back(place, error)
            await self._reader.seek(place, lane.next_offset)
            return False
        except LineStopped as error:
            await self._handler.aborted(place)
            await self._stop_line(error)
            return False
        try:
            await lane.writer.commit(results, {place: next_offset}, self._subscription.group)
        except LeptonError as error:
            await self._not_committed(place, error)
            return False
        lane.next_offset = next_offset
        self._setbacks.pop(place, None)
        await self._handler.committed(place)
        return True

    async def _not_committed(self, place: Place, error: LeptonError) -> None:
        await self._handler.aborted(place)
        if isinstance(error, Refused):
            _log.warning("%s/%d has a new owner: %s", place.topic, place.partition, error.message)
            self._doubtful.add(place)
            await self._close(place)
        elif isinstance(error, Invalid):
            # The same batch would fail for ever: a person must see it.
            await self._stop_line(error)
        else:
            # Reopening settles what became of the transaction and where to go on.
            await self._lanes.pop(place).writer.stop()
            self._set_back(place, error)

    def _set_back(self, place: Place, error: LeptonError) -> None:
        before = self._setbacks.get(place)
        attempt = before.attempt + 1 if before is not None else 1
        pause_s = self._retry.pause_s(attempt, error)
        self._care.report("setback", f"tried again in {pause_s:.1f} s (attempt {attempt}): {error}",
                          f"{place.topic}/{place.partition}")
        self._setbacks[place] = _Setback(attempt, self._care.clock.monotonic() + pause_s)
        self._reader.pause(place)

    async def _stop_line(self, error: LeptonError) -> None:
        self._stopped_by = error
        self._care.fail("line_stopped", str(error), error.place or "")
        for place in self._reader.assignment():
            self._reader.pause(place)
        if self._on_limit is not None and isinstance(error, LineStopped):
            await self._on_limit(error)

    def _due(self) -> set[Place]:
        now = self._care.clock.monotonic()
        return {place for place, setback in self._setbacks.items() if setback.due <= now}

    def _poll_s(self) -> float:
        now = self._care.clock.monotonic()
        waits = [setback.due - now for setback in self._setbacks.values() if setback.due > now]
        return min([POLL_S, *(max(0.01, wait) for wait in waits)])
