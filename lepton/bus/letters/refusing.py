"""Where refused records go, with what is known of them, and how many may go there."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from lepton.bus.letters.letter import AT, ATTEMPTS, FIELD, PLACE, REASON, SERVICE, without_ours
from lepton.bus.records import Headers, Outgoing, Record
from lepton.clock import Clock
from lepton.contracts import topics
from lepton.errors import Invalid, LeptonError

WINDOW_S = 60.0
MAX_REASON_BYTES = 4096

_log = logging.getLogger(__name__)


class LineStopped(LeptonError):
    """More records were refused within the window than the topic allows: everything turned bad, so nothing moves."""


class Refusal(NamedTuple):
    """A record that is refused, or one row of it.

    `row`: only that row of a record of several; `value` and `headers` are then of the row as if it had come alone.
    Not `counted`: a refusal that was asked for, such as of a quarantined source, and so is no sign of trouble.
    """

    record: Record
    reason: str
    field: str | None = None
    row: int | None = None
    value: bytes | None = None
    headers: Headers = ()
    counted: bool = True


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
        self._lifted: dict[str, float] = {}

    def accepts(self, topic_name: str) -> bool:
        """Whether the topic has a dead-letter topic at all."""
        return self._limit(topic_name) is not None

    def letter(self, record: Record, error: LeptonError, attempts: int = 1, *, row: int | None = None,
               at: str | None = None, counted: bool = True) -> Outgoing:
        """The record to write for one that was refused. Raises LineStopped past the topic's limit.

        `row`: only that row of a record of several was refused, and `record` holds it alone; the letter's place then
        ends in `#row`. `at`: the place of one that never was a record of ours. Not `counted`: see `Refusal`.
        """
        place = at or _place(record.place, row)
        if counted:
            self._count(record.topic, [(place, record)])
        head = (*without_ours(record.headers), *_said((REASON, error.message), (FIELD, error.field)))
        tail = self._tail(attempts)
        return Outgoing(topics.dead_letter_name(record.topic), _value(record), record.key,
                        (*head, *_said((PLACE, place)), *tail))

    def letters(self, refused: Sequence[Refusal]) -> list[Outgoing]:
        """The same of many at their first attempt, in their order: what is alike in them is put together once."""
        # Rows of a record come one after the other, and say the same of it.
        names: dict[int, str] = {}
        places = []
        for one in refused:
            name = names.get(id(one.record))
            if name is None:
                name = names[id(one.record)] = one.record.place
            places.append(_place(name, one.row))
        counted: dict[str, list[tuple[str, Record]]] = {}
        for place, one in zip(places, refused, strict=True):
            if one.counted:
                counted.setdefault(one.record.topic, []).append((place, one.record))
        for topic_name, found in counted.items():
            self._count(topic_name, found)
        tail = self._tail(1)
        heads: dict[tuple[Headers, str, str | None], Headers] = {}
        topic_of = cache(topics.dead_letter_name)
        letters = []
        for place, one in zip(places, refused, strict=True):
            record, row = one.record, one.row
            alike = (record.headers if row is None else one.headers, one.reason, one.field)
            head = heads.get(alike)
            if head is None:
                head = heads[alike] = (*without_ours(alike[0]), *_said((REASON, one.reason), (FIELD, one.field)))
            letters.append(Outgoing(topic_of(record.topic), _value(record) if row is None else one.value,
                                    record.key, (*head, (PLACE, place.encode()), *tail)))
        return letters

    def _tail(self, attempts: int) -> Headers:
        return _said((ATTEMPTS, str(attempts)), (AT, self._clock.now().isoformat()), (SERVICE, self._service))

    def lift(self, topic_name: str) -> None:
        """Somebody looked: for one window from now, refusals of the topic do not count."""
        self._refused.pop(topic_name, None)
        self._lifted[topic_name] = self._clock.monotonic() + self._window_s

    def _count(self, topic_name: str, refusals: Sequence[tuple[str, Record]]) -> None:
        """Of one topic, each with its place."""
        limit = self._limit(topic_name)
        if limit is None:
            raise Invalid(f"{topic_name} has no dead-letter topic", place=refusals[0][1].place)
        now = self._clock.monotonic()
        if now < self._lifted.get(topic_name, now):
            return
        refused = self._refused.setdefault(topic_name, OrderedDict())
        while refused and next(iter(refused.values())) <= now - self._window_s:
            refused.popitem(last=False)
        for place, record in refusals:
            refused.setdefault(place, now)
            if len(refused) > limit:
                raise LineStopped(
                    f"more than {limit} records of {topic_name} were refused within {self._window_s:.0f} s",
                    place=record.place, remedy=_remedy(topic_name, self._service))


def _place(name: str, row: int | None) -> str:
    """Of a row, or of the whole of a record that has this name."""
    return name if row is None else f"{name}#{row}"


def _value(record: Record) -> bytes | None:
    """A record of nothing at all can be read but, by most clients, not be written."""
    return b"" if record.value is None and record.key is None else record.value


def _said(*told: tuple[str, str | None]) -> Headers:
    return tuple((name, value.encode()[:MAX_REASON_BYTES]) for name, value in told if value)


def _remedy(topic_name: str, service: str) -> str:
    located = topics.locate(topic_name)
    # Only ingest carries out the command to resume.
    if located is None or located.pipeline is None or service != "ingest":
        return f"read {topics.dead_letter_name(topic_name)}, mend the cause, then restart"
    name = located.pipeline
    return f"see `lepton dead-letters list {name}`, mend the cause, then `lepton pipelines resume {name}`"
