"""One source of one pipeline, pulled: what it gave becomes events in the transaction that moves its cursor."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.records import Broker, Outgoing, Place, TransactionalWriter
from lepton.bus.retry import RetryPolicy
from lepton.bus.table import StateReader
from lepton.clock import Clock
from lepton.contracts import names, topics
from lepton.contracts.source_blocks import SourceSpec
from lepton.contracts.topics import Topic
from lepton.errors import LeptonError, Refused, Unavailable
from lepton.runtime.loops import pause, unless_stopped
from lepton.runtime.telemetry import Telemetry
from services.ingest.core.pulling import state as kept
from services.ingest.core.pulling.state import SourceState
from services.ingest.flow.pulling.backlog import Backlog
from services.ingest.flow.pulling.batch import Batches, Rejection
from services.ingest.flow.pulling.origin import OpenOrigin, Pulled
from services.ingest.flow.spec import Spec

STATE_PARTITION = 0
WAIT_S = 0.5
# A transaction of another owner may hold readers of the state topic back so long, and a little more.
STATE_WITHIN_S = 45.0

CountRefused = Callable[[str, Sequence[Rejection]], None]
"""(pipeline, what of its sources was refused): for the summaries of its quality."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Standing:
    """How a source stands; changed by whoever pulls it, read by whoever reports."""

    state: str = "starting"
    cursor: str = ""
    events: int = 0
    refused: int = 0
    lag: int | None = None
    unit: str = ""
    reason: str = ""
    """Why it fails or waits now."""
    error: str = ""
    """The last failure, also when it is over."""
    error_at_s: float = 0.0
    moved_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all sources of a process share."""

    instance: str
    broker: Broker
    open_origin: OpenOrigin
    letters: DeadLetters
    telemetry: Telemetry
    note: Callable[[str, str], None]
    """(name, text) shown beside this process's health; an empty text takes it back."""
    count_refused: CountRefused
    clock: Clock
    backlog_records: int
    """A source waits while so many records of its pipeline's events are not accepted yet."""


class Pull:
    """A source while this process owns it. `run` returns when asked to, or when another owner has taken over."""

    def __init__(self, at: Workplace, spec: Spec, source: SourceSpec, turned: Callable[[], None]) -> None:
        """`turned` is called when it begins or ceases to fail, and when it has caught up."""
        self.standing = Standing()
        self._turned = turned
        self.taken_over = False
        self._at = at
        self._source = source
        self._place = f"{spec.name}/{source.name}"
        self._check = f"pull {self._place}"
        self._group = f"ingest.{spec.name}.source.{source.name}"
        self._retry = RetryPolicy(first_s=0.2, limit_s=30.0)
        self._events = at.telemetry.counter(names.SOURCE_EVENTS, "Events pulled from sources")
        self._refused = at.telemetry.counter(names.SOURCE_REFUSED, "Rows of sources that cannot be events")
        self._read_anything = False
        self.adopt(spec)

    def adopt(self, spec: Spec) -> None:
        """Make events by another version of the pipeline, whose source is the same, from the next batch on."""
        self._spec = spec
        self._batches = Batches(spec, self._source, self._at.letters, self._at.clock)

    async def run(self, stop: asyncio.Event) -> None:
        attempt = 0
        while not stop.is_set():
            self._read_anything = False
            try:
                await self._work(stop)
            except Exception as error:  # noqa: BLE001  whatever a driver raises: one source must not end the process
                attempt = 1 if self._read_anything else attempt + 1
                self._failed(error, attempt)
                if self.taken_over:
                    self._at.note(self._check, "")
                    return
                await pause(stop, self._retry.pause_s(attempt, error), self._at.clock)
        self.standing.state, self.standing.reason = "stopped", ""
        self._at.note(self._check, "")

    # -- one life of the connections ----------------------------------------------------------------------------

    async def _work(self, stop: asyncio.Event) -> None:
        at, spec = self._at, self._spec
        origin = at.open_origin(self._source, f"{at.instance}.{self._group}")
        writer = at.broker.transactional_writer(self._group)
        backlog = Backlog(at.broker, at.clock, at.instance, spec, at.backlog_records)
        try:
            await self._mine(writer.start())
            state = await self._restore(stop)
            if state is None:
                return
            await origin.open(state.cursor)
            self.standing.unit = origin.unit
            while not stop.is_set():
                if await self._held_back(backlog, stop):
                    continue
                found = await unless_stopped(stop, origin.read(state.cursor))
                if found is None:
                    return
                state = await self._take(writer, backlog, state, found)
                self._read_anything = True
                if not found.more:
                    self.standing.state = "following"
                    if found.items:
                        self._turned()
                    await pause(stop, self._source.every, at.clock)
        finally:
            await origin.close()
            await backlog.close()
            await writer.stop()

    async def _restore(self, stop: asyncio.Event) -> SourceState | None:
        """What the last commit left, once no older owner can commit any more; None when asked to stop meanwhile.

        A generation that keeps the rows of the one before, as a repartitioned pipeline does, goes on from there.
        """
        spec = self._spec
        state = await self._settled(spec, stop)
        while state is not None and not state.sequence and spec.keeps_rows and spec.former is not None:
            spec = spec.former
            if await self._at.broker.describe_topics([_state_topic(spec)]):
                state = await self._settled(spec, stop)
        if state is None:
            return None
        if state.origin and state.origin != self._source.origin:
            raise Refused("its cursor belongs to another place", field="sources.pull", place=self._place,
                          remedy="give the source another name to begin anew, or apply it with --new-generation")
        self.standing.cursor, self.standing.events, self.standing.refused = state.shown, state.events, state.refused
        return state

    async def _settled(self, spec: Spec, stop: asyncio.Event) -> SourceState | None:
        """The state in a generation's topic, after all commits there.

        The group's offset counts commits in the same transactions. It is settled with the fence, whereas a reader of
        the state may still be held back behind somebody else's open transaction: until it has seen so many.
        """
        topic = _state_topic(spec)
        wanted = (await self._at.broker.group_offsets(self._group)).get(Place(topic, STATE_PARTITION), 0)
        deadline = self._at.clock.monotonic() + STATE_WITHIN_S
        while True:
            reader = StateReader(self._at.broker, f"{self._at.instance}.{self._group}", {STATE_PARTITION},
                                 self._at.clock, whole=False)
            record = (await reader.latest(topic, STATE_PARTITION)).get(kept.key_of(self._source.name))
            state = kept.decode(record.value or b"") if record is not None else SourceState()
            if state.sequence >= wanted:
                return state
            if self._at.clock.monotonic() > deadline:
                raise Unavailable("the state of the source cannot be read to its end", place=topic)
            if await pause(stop, WAIT_S, self._at.clock):
                return None

    async def _held_back(self, backlog: Backlog, stop: asyncio.Event) -> bool:
        waiting = await backlog.records()
        if waiting <= self._at.backlog_records:
            return False
        self.standing.state, self.standing.reason = "waiting", f"{waiting} events are not accepted yet"
        await pause(stop, WAIT_S, self._at.clock)
        return True

    async def _take(self, writer: TransactionalWriter, backlog: Backlog, state: SourceState,
                    found: Pulled) -> SourceState:
        """Commit what was found; the state after it."""
        for loss in found.losses:
            self._at.telemetry.error("source_rows_lost", loss, self._place)
        batch = self._batches.of(found.items)
        refused, taken = len(batch.refused), len(found.items) - len(batch.refused)
        standing = self.standing
        if found.items or found.cursor != state.cursor:
            state = state.after(found.cursor, found.shown, self._source.origin, events=taken, refused=refused)
            await self._commit(writer, state, batch.records)
            backlog.sent += taken
            labels = {names.PIPELINE: self._spec.name, "source": self._source.name}
            self._events.add(taken, labels)
            self._refused.add(refused, labels)
            self._at.count_refused(self._spec.name, batch.refused)
            standing.moved_at_s = self._at.clock.now().timestamp()
        if standing.state == "failing":
            self._at.note(self._check, "")
            self._turned()
        standing.state, standing.reason = "pulling", ""
        standing.cursor, standing.events, standing.refused = state.shown, state.events, state.refused
        standing.lag = found.lag
        return state

    async def _commit(self, writer: TransactionalWriter, state: SourceState, records: Sequence[Outgoing]) -> None:
        topic = _state_topic(self._spec)
        cursor = Outgoing(topic, kept.encode(state), kept.key_of(self._source.name), (), STATE_PARTITION)
        await self._mine(writer.commit([*records, cursor], {Place(topic, STATE_PARTITION): state.sequence},
                                       self._group))

    async def _mine(self, doing: Awaitable[object]) -> None:
        """A refusal of the bus means that somebody else is the owner now (or that rights are missing)."""
        try:
            await doing
        except Refused:
            self.taken_over = True
            raise

    def _failed(self, error: Exception, attempt: int) -> None:
        if isinstance(error, LeptonError):
            reason = str(error)
        else:
            log.error("source %s failed unexpectedly", self._place, exc_info=error)
            reason = f"{type(error).__name__}: a fault of the connector, see the log of {self._at.instance}"
        standing = self.standing
        standing.state, standing.reason, standing.error = "failing", reason, reason
        standing.error_at_s = self._at.clock.now().timestamp()
        self._turned()
        self._at.note(self._check, reason)
        if attempt == 1 or attempt % 10 == 0:
            self._at.telemetry.error("source_failing", reason, self._place)


def _state_topic(spec: Spec) -> str:
    return topics.name(Topic.INGEST_STATE, spec.name, spec.generation)
