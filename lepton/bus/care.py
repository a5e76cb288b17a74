"""What every loop over a reader needs besides the reader: time, signs of life, traces, and a turn at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from lepton.bus.records import Reader, Record
from lepton.clock import Clock
from lepton.contracts import names
from lepton.contracts.envelope import TRACEPARENT
from lepton.errors import LeptonError
from lepton.runtime.health import Progress
from lepton.runtime.telemetry import Telemetry

# How long a rebalance waits for the batch in hand; the group waits 15 s for a member.
HANDOVER_S = 5.0
LOOK_EVERY_S = 1.0
MAX_LINKS = 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Care:
    """What looks after a loop. `progress` beats when offsets moved or nothing waits."""

    clock: Clock
    progress: Progress | None = None
    telemetry: Telemetry | None = None

    def beat(self) -> None:
        if self.progress is not None:
            self.progress.beat()

    def fail(self, kind: str, reason: str, place: str = "") -> None:
        """Say loudly that the work cannot go on."""
        if self.progress is not None:
            # With its kind, so that every heartbeat says which of the checks that fail is a stopped line.
            self.progress.fail(f"{kind}: {reason}")
        self.report(kind, reason, place)

    def report(self, kind: str, reason: str, place: str = "") -> None:
        """A failure that is survived: logged, counted, told to the watchdog."""
        if self.telemetry is not None:
            self.telemetry.error(kind, reason, place)
        else:
            _log.error("%s: %s %s", kind, reason, place)

    @contextmanager
    def span(self, name: str, records: Sequence[Record]) -> Iterator[None]:
        """The span of work on records: child of their trace when they share one, else linked to the first of theirs."""
        if self.telemetry is None or not records:
            yield
            return
        parents = list(dict.fromkeys(parent for record in records[:MAX_LINKS] if (parent := traceparent_of(record))))
        attributes: dict[str, AttributeValue] = {
            "messaging.system": "kafka", "messaging.destination.name": records[0].topic,
            "messaging.destination.partition.id": str(records[0].partition),
            "messaging.batch.message_count": len(records)}
        only = parents[0] if len(parents) == 1 else None
        with self.telemetry.span_from(only, name, kind=SpanKind.CONSUMER, links=[] if only else parents, **attributes):
            yield


def traceparent_of(record: Record) -> str | None:
    value = next((value for name, value in record.headers if name == TRACEPARENT), None)
    return value.decode("ascii", "replace") if value else None


class Turn:
    """Held while a batch is worked on, so that a rebalance can wait until it is committed, within bounds."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.wanted = False

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()

    async def hand_over(self, rest: Callable[[], Awaitable[None]] | None = None) -> None:
        """Return when no batch is worked on, or after `HANDOVER_S`; `wanted` is true meanwhile.

        `rest`: ends with the work that goes on while nobody holds the turn.
        """
        self.wanted = True
        try:
            async with asyncio.timeout(HANDOVER_S), self._lock:
                if rest is not None:
                    await rest()
        except TimeoutError:
            _log.warning("partitions are handed over with a batch in hand; its commit will be refused")
        finally:
            self.wanted = False


class LagWatch:
    """Tells progress from silence: beats when offsets moved, or when the broker says that nothing waits."""

    def __init__(self, reader: Reader, care: Care) -> None:
        self._reader = reader
        self._care = care
        self._look_at = care.clock.monotonic()
        self._tell_at = self._look_at

    def moved(self) -> None:
        self._care.beat()
        self._tell()

    async def idle(self) -> None:
        """Called when a poll gave nothing; asks the broker once a second at most."""
        now = self._care.clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        places = sorted(self._reader.assignment())
        try:
            ends = await self._reader.end_offsets(places) if places else {}
        except LeptonError as error:
            # No beat: a bus that stays away is what the check is to show.
            _log.info("cannot see whether records wait: %s", error.message)
            return
        if all(self._reader.position(place) >= ends[place] for place in places):
            self._care.beat()
        self._tell()

    def _tell(self) -> None:
        """Say how much waits, by topic, for the watchdog; it costs no request."""
        now = self._care.clock.monotonic()
        if self._care.telemetry is None or now < self._tell_at:
            return
        self._tell_at = now + LOOK_EVERY_S
        waiting: dict[str, int] = {}
        for place in self._reader.assignment():
            waiting[place.topic] = waiting.get(place.topic, 0) + self._reader.behind(place)
        for topic, records in waiting.items():
            self._care.telemetry.measure(names.CONSUMER_LAG, records, topic=topic)
