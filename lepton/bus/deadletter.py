"""Where refused records go, with what is known of them, how many may go there, and how they come back."""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from lepton.bus.records import Broker, Headers, Outgoing, Record, TransactionalWriter
from lepton.clock import Clock
from lepton.contracts import topics
from lepton.contracts.envelope import ATTEMPT
from lepton.errors import Invalid, LeptonError, Unavailable
from lepton.runtime.loops import pause

WINDOW_S = 60.0
ASIDE_S = 0.25
REPLAY_BATCH = 500
MAX_REASON_BYTES = 4096

PREFIX = "lepton-dead-"
REASON = PREFIX + "reason"
FIELD = PREFIX + "field"
PLACE = PREFIX + "place"
ATTEMPTS = PREFIX + "attempts"
AT = PREFIX + "at"
SERVICE = PREFIX + "service"
# A record with this header is no letter: it says that the letter at the place it names went back to its topic.
REPLAYED = "lepton-replayed"

_log = logging.getLogger(__name__)


class LineStopped(LeptonError):
    """More records were refused within the window than the topic allows: everything turned bad, so nothing moves."""


def limit_of(topic_name: str) -> int | None:
    """Dead letters a minute a topic allows; None for one that has no dead-letter topic."""
    located = topics.locate(topic_name)
    if located is None:
        raise Invalid(f"{topic_name} is no topic of the platform")
    dead_letter = topics.spec(located.topic).dead_letter
    return None if dead_letter is None else dead_letter.limit


class DeadLetters:
    """Builds dead letters and counts them; writing them, before or with the offsets, is its caller's part."""

    def __init__(self, service: str, clock: Clock, limit: Callable[[str], int | None] = limit_of,
                 window_s: float = WINDOW_S) -> None:
        self._service = service
        self._clock = clock
        self._limit = limit
        self._window_s = window_s
        # Places, not a count: a batch that is tried again refuses the same records again.
        self._refused: dict[str, OrderedDict[str, float]] = {}

    def accepts(self, topic_name: str) -> bool:
        """Whether the topic has a dead-letter topic at all."""
        return self._limit(topic_name) is not None

    def letter(self, record: Record, error: LeptonError, attempts: int = 1, *, row: int | None = None,
               counted: bool = True) -> Outgoing:
        """The record to write for one that was refused. Raises LineStopped past the topic's limit.

        `row`: only that row of a record of several was refused, and `record` holds it alone; the letter's place then
        ends in `#row`. Not `counted`: a refusal that was asked for, such as of a quarantined source, and so is no sign
        of trouble.
        """
        place = record.place if row is None else f"{record.place}#{row}"
        if counted:
            self._count(record, place)
        dead = {REASON: error.message, FIELD: error.field, PLACE: place, ATTEMPTS: str(attempts),
                AT: self._clock.now().isoformat(), SERVICE: self._service}
        added = tuple((name, value.encode()[:MAX_REASON_BYTES]) for name, value in dead.items() if value)
        # A record of nothing at all can be read but, by most clients, not be written.
        value = b"" if record.value is None and record.key is None else record.value
        return Outgoing(topics.dead_letter_name(record.topic), value, record.key,
                        _without_ours(record.headers) + added)

    def _count(self, record: Record, place: str) -> None:
        limit = self._limit(record.topic)
        if limit is None:
            raise Invalid(f"{record.topic} has no dead-letter topic", place=record.place)
        now = self._clock.monotonic()
        refused = self._refused.setdefault(record.topic, OrderedDict())
        while refused and next(iter(refused.values())) <= now - self._window_s:
            refused.popitem(last=False)
        refused.setdefault(place, now)
        if len(refused) > limit:
            raise LineStopped(f"more than {limit} records of {record.topic} were refused within {self._window_s:.0f} s",
                              place=record.place,
                              remedy=f"read {topics.dead_letter_name(record.topic)}, mend the cause, then restart")


class Aside:
    """Writes the dead letters of topics that a process follows without a group, from the beginning at every start.

    A resource and a loop. `refuse` is the `on_invalid` of their tables. Each record goes to the dead letters once,
    however often it is read again.
    """

    def __init__(self, broker: Broker, client_id: str, letters: DeadLetters, clock: Clock) -> None:
        self._broker = broker
        self._writer = broker.writer(f"{client_id}-aside")
        self._letters = letters
        self._clock = clock
        self._waiting: deque[tuple[Record, LeptonError]] = deque()
        self._written: dict[str, set[str]] = {}

    def refuse(self, record: Record, error: LeptonError) -> None:
        self._waiting.append((record, error))

    async def start(self) -> None:
        await self._writer.start()

    async def stop(self) -> None:
        await self._writer.stop()

    async def run(self, stop: asyncio.Event) -> None:
        """Raises LineStopped past the limit of a topic."""
        while not stop.is_set():
            try:
                while self._waiting:
                    await self._write(*self._waiting[0])
                    self._waiting.popleft()
            except Unavailable as error:
                _log.warning("a dead letter waits: %s", error.message)
            await pause(stop, ASIDE_S, self._clock)

    async def _write(self, record: Record, error: LeptonError) -> None:
        if record.topic not in self._written:
            self._written[record.topic] = {letter.origin for letter in await read_letters(self._broker, record.topic)}
        written = self._written[record.topic]
        if record.place not in written:
            await self._writer.send(self._letters.letter(record, error))
            written.add(record.place)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it is read back: `record` lies in the dead-letter topic, `origin` is where it came from."""

    record: Record
    origin: str
    reason: str
    field: str | None
    attempts: int
    at: datetime | None
    service: str
    replayed: bool = False

    @property
    def origin_partition(self) -> int | None:
        number = self.origin.rpartition("@")[0].rpartition("/")[2]
        return int(number) if number.isdigit() else None


async def read_letters(broker: Broker, topic_name: str, *, newest: int | None = None) -> list[Letter]:
    """Dead letters of a topic in the order they were refused; of each partition the `newest` last offsets only."""
    reader = broker.reader([topics.dead_letter_name(topic_name)], group=None, client_id="dead-letters")
    await reader.start()
    try:
        places = sorted(reader.assignment())
        ends = dict(await reader.end_offsets(places))
        begins = await reader.begin_offsets(places)
        for place in places:
            await reader.seek(place, begins[place] if newest is None else max(begins[place], ends[place] - newest))
        records: list[Record] = []
        while any(reader.position(place) < ends[place] for place in places):
            found = await reader.poll(max_records=1000, timeout_s=0.5)
            records.extend(record for part in found.values() for record in part)
    finally:
        await reader.stop()
    replayed = {value for record in records for name, value in record.headers if name == REPLAYED}
    return [_letter(record, replayed) for record in sorted(records, key=lambda record: record.timestamp_ms)
            if not any(name == REPLAYED for name, _ in record.headers)]


def _letter(record: Record, replayed: set[bytes]) -> Letter:
    told = {name: value.decode("utf-8", "replace") for name, value in record.headers if name.startswith(PREFIX)}
    attempts = told.get(ATTEMPTS, "")
    return Letter(record, told.get(PLACE, ""), told.get(REASON, ""), told.get(FIELD),
                  int(attempts) if attempts.isdigit() else 1, _time(told.get(AT)), told.get(SERVICE, ""),
                  record.place.encode() in replayed)


async def replay(broker: Broker, topic_name: str, chosen: Callable[[Letter], bool], *,
                 dry_run: bool = False) -> list[Letter]:
    """Send chosen letters back to the topic and partition they came from; returns those that went (or would go).

    Each goes back once: that it did is written to the dead-letter topic in the same transaction, so a second replay,
    also one at the same moment, has no second effect.
    """
    writer = broker.transactional_writer(f"replay.{topic_name}")
    if not dry_run:
        # Before reading: a replay that still runs elsewhere is fenced, and what it did is seen.
        await writer.start()
    try:
        waiting = [letter for letter in await read_letters(broker, topic_name) if not letter.replayed]
        letters = [letter for letter in waiting if chosen(letter)]
        if not dry_run:
            for start in range(0, len(letters), REPLAY_BATCH):
                await _send_back(writer, topic_name, letters[start:start + REPLAY_BATCH])
    finally:
        await writer.stop()
    return letters


async def _send_back(writer: TransactionalWriter, topic_name: str, letters: Sequence[Letter]) -> None:
    outgoing: list[Outgoing] = []
    for letter in letters:
        record = letter.record
        headers = (*(pair for pair in _without_ours(record.headers) if pair[0] != ATTEMPT),
                   (ATTEMPT, str(letter.attempts + 1).encode()))
        outgoing.append(Outgoing(topic_name, record.value, record.key, headers, letter.origin_partition))
        outgoing.append(Outgoing(record.topic, b"", record.key, ((REPLAYED, record.place.encode()),), record.partition))
    await writer.commit(outgoing, {}, f"replay.{topic_name}")


def _without_ours(headers: Headers) -> Headers:
    return tuple(pair for pair in headers if not pair[0].startswith(PREFIX))


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
