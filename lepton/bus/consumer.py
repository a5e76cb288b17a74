"""The loop over single messages: decode, handle, and by the outcome commit, try again in place, or dead-letter."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message as Protobuf

from lepton.bus.care import Care, LagWatch, Turn
from lepton.bus.letters.refusing import DeadLetters, LineStopped
from lepton.bus.records import Broker, Place, Reader, Record
from lepton.bus.retry import RetryPolicy
from lepton.contracts import codec, topics
from lepton.contracts.envelope import Envelope
from lepton.errors import Invalid, LeptonError, Unavailable
from lepton.runtime.loops import pause

MAX_RECORDS = 500
POLL_S = 0.25
WAIT_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """A record that could be read: `payload` is the topic's protobuf message, or the bytes where it carries others.

    The same topic may carry both (`content.media_types` in its file); then the record's content type tells.
    """

    record: Record
    envelope: Envelope
    payload: Protobuf | bytes | None


Handle = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a consumer reads, as which group, under which name (unique in the group), and from where at first."""

    topics: Sequence[str]
    group: str
    client_id: str
    start: str = "earliest"


@dataclass(slots=True)
class _Waiting:
    """A partition that tries its next record again at `due` (monotonic seconds)."""

    offset: int
    attempt: int
    due: float


class Consumer:
    """At least once, in order within a partition; an offset is committed only after the effect or the dead letter.

    `handle` returns: done. It raises Unavailable or Busy: its partition waits and tries again, others go on. Invalid,
    Missing or Refused: to the dead-letter topic, or, where the topic has none, reported and passed over. Anything else
    is a bug and leaves `run`. Past the dead-letter limit nothing moves until the process restarts.
    """

    def __init__(self, broker: Broker, subscription: Subscription, handle: Handle, care: Care, *,
                 dead_letters: DeadLetters, retry: RetryPolicy | None = None) -> None:
        self._handle = handle
        self._care = care
        self._dead_letters = dead_letters
        self._retry = retry or RetryPolicy()
        self._writer = broker.writer(f"{subscription.client_id}-dead-letters")
        self._reader: Reader = broker.reader(
            subscription.topics, group=subscription.group, client_id=subscription.client_id, start=subscription.start,
            on_revoked=self._revoked)
        self._turn = Turn()
        self._waiting: dict[Place, _Waiting] = {}
        self._stopped_by: LineStopped | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; the record in hand is finished and committed first."""
        await self._writer.start()
        try:
            await self._reader.start()
            try:
                await self._loop(stop)
            finally:
                await self._reader.stop()
        finally:
            await self._writer.stop()

    async def _loop(self, stop: asyncio.Event) -> None:
        watch = LagWatch(self._reader, self._care)
        while not stop.is_set():
            self._resume_due()
            try:
                found = await self._reader.poll(max_records=MAX_RECORDS, timeout_s=self._poll_s())
            except Unavailable as error:
                _log.warning("nothing can be read: %s", error.message)
                await pause(stop, WAIT_S, self._care.clock)
                continue
            if self._stopped_by is not None:
                continue
            async with self._turn:
                moved = await self._work_through(found, stop)
            if self._waiting or self._stopped_by is not None:
                # A partition that cannot go on is not hidden by others that can.
                continue
            if moved:
                watch.moved()
            elif not found:
                await watch.idle()

    async def _work_through(self, found: Mapping[Place, Sequence[Record]], stop: asyncio.Event) -> bool:
        done: dict[Place, int] = {}
        for place, records in found.items():
            for record in records:
                # A record left here was not committed: it comes again, here or to the next owner.
                if stop.is_set() or self._turn.wanted or self._stopped_by or not await self._one(place, record):
                    break
                done[place] = record.offset + 1
        if done:
            try:
                await self._reader.commit(done)
            except Unavailable as error:
                _log.warning("offsets are not committed, records come again: %s", error.message)
                return False
        return bool(done)

    async def _one(self, place: Place, record: Record) -> bool:
        """Whether the record is behind us."""
        waiting = self._waiting.get(place)
        attempt = waiting.attempt + 1 if waiting is not None and waiting.offset == record.offset else 1
        try:
            with self._care.span(f"process {record.topic}", [record]):
                await self._handle(message_of(record))
        except LineStopped as error:
            self._stop_line(error)
            return False
        except LeptonError as error:
            if self._retry.again(error, attempt):
                await self._wait(place, record, attempt, error)
                return False
            return await self._refuse(place, record, attempt, error)
        self._waiting.pop(place, None)
        return True

    async def _refuse(self, place: Place, record: Record, attempt: int, error: LeptonError) -> bool:
        try:
            if self._retry.then == "dead_letter" and self._dead_letters.accepts(record.topic):
                await self._writer.send(self._dead_letters.letter(record, error, attempt))
            self._care.report("refused_record", f"{type(error).__name__}: {error}", record.place)
        except LineStopped as stopped:
            self._stop_line(stopped)
            return False
        except Unavailable as failure:
            # Without its dead letter the record may not be passed over.
            await self._wait(place, record, attempt, failure)
            return False
        self._waiting.pop(place, None)
        return True

    async def _wait(self, place: Place, record: Record, attempt: int, error: LeptonError) -> None:
        pause_s = self._retry.pause_s(attempt, error)
        _log.warning("%s is tried again in %.1f s (attempt %d): %s", record.place, pause_s, attempt, error)
        self._waiting[place] = _Waiting(record.offset, attempt, self._care.clock.monotonic() + pause_s)
        self._reader.pause(place)
        await self._reader.seek(place, record.offset)

    def _stop_line(self, error: LineStopped) -> None:
        self._stopped_by = error
        self._care.fail("line_stopped", str(error), error.place or "")
        for place in self._reader.assignment():
            self._reader.pause(place)

    def _resume_due(self) -> None:
        if self._stopped_by is not None:
            return
        now = self._care.clock.monotonic()
        for place, waiting in self._waiting.items():
            if waiting.due <= now:
                self._reader.resume(place)

    def _poll_s(self) -> float:
        now = self._care.clock.monotonic()
        waits = [waiting.due - now for waiting in self._waiting.values() if waiting.due > now]
        return max(0.01, min([POLL_S, *waits]))

    async def _revoked(self, places: Sequence[Place]) -> None:
        await self._turn.hand_over()
        for place in places:
            self._waiting.pop(place, None)
            self._reader.resume(place)


def message_of(record: Record) -> Message:
    """Raises Invalid when headers or value break the topic's contract."""
    located = topics.locate(record.topic)
    payload: Protobuf | bytes | None = record.value
    envelope = Envelope.from_headers(record.headers)
    if located is not None and (spec := topics.spec(located.topic)).content.encoding == "protobuf":
        if record.value is None and "compact" not in spec.cleanup:
            raise Invalid("the record has no value", place=record.place)
        if record.value is not None and envelope.content_type not in spec.content.media_types:
            payload = codec.decode(located.topic, record.value)
    return Message(record, envelope, payload)
