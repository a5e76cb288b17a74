"""How dead letters are found: a topic is read from its beginning, and only what is wanted is held."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace

from lepton.bus.letters.letter import REPLAYED, Letter, mark_of, read_letter, shortened
from lepton.bus.records import Broker, Place, Reader, Record
from lepton.contracts import topics

POLL_RECORDS = 500
# Places of letters that one call looks at; a topic with more is worked through in several.
MAX_FOUND = 100_000

Wanted = Callable[[Letter], bool]
# When it was refused, and where it lies.
_Found = tuple[int, Place, int, str]


async def read_letters(broker: Broker, topic_name: str, *, newest: int | None = None) -> list[Letter]:
    """Dead letters of a topic in the order they were refused; of each partition the `newest` last offsets only."""
    async with _reading(broker, topic_name) as (reader, begins, ends):
        starts = begins if newest is None else {
            place: max(begin, ends[place] - newest) for place, begin in begins.items()}
        records = [record async for record in _records(reader, starts, ends)]
    marks = _marks(records)
    letters = [_marked(read_letter(record), marks) for record in records if mark_of(record) is None]
    return sorted(letters, key=lambda letter: letter.record.timestamp_ms)


async def find_letters(broker: Broker, topic_name: str, wanted: Wanted, *, limit: int, newest: bool,
                       settled: bool = False, keep_bytes: int | None = None) -> list[Letter]:
    """The same as a list, in the order they were refused; `keep_bytes`: with values cut to so many."""
    found = [shortened(letter, keep_bytes) async for letter in stream_letters(
        broker, topic_name, wanted, limit=limit, newest=newest, settled=settled)]
    return sorted(found, key=lambda letter: letter.record.timestamp_ms)


async def stream_letters(broker: Broker, topic_name: str, wanted: Wanted, *, limit: int, newest: bool,
                         settled: bool = False) -> AsyncGenerator[Letter, None]:
    """At most `limit` wanted letters of a topic: the last ones if `newest`, else the first, by offset.

    `settled`: also those that were replayed or discarded. The topic is read for places and marks alone first, and once
    more for places where there are more than can be held, so that letters take no memory of their own.
    """
    async with _reading(broker, topic_name) as (reader, begins, ends):
        places, marks = await _survey(reader, begins, ends, wanted, settled, newest)
        chosen = set(places[-limit:] if newest else places[:limit])
        if not chosen:
            return
        starts = {place: min((offset for where, offset in chosen if where == place), default=ends[place])
                  for place in begins}
        left = len(chosen)
        async for record in _records(reader, starts, ends):
            if (Place(record.topic, record.partition), record.offset) in chosen:
                yield _marked(read_letter(record), marks)
                left -= 1
                if not left:
                    return


async def letter_at(broker: Broker, topic_name: str, partition: int, offset: int) -> Letter | None:
    """The letter that lies there, with what became of it; None when there is none (any more)."""
    def there(letter: Letter) -> bool:
        return (letter.record.partition, letter.record.offset) == (partition, offset)

    found = await find_letters(broker, topic_name, there, limit=1, newest=True, settled=True)
    return found[0] if found else None


async def _survey(reader: Reader, begins: dict[Place, int], ends: dict[Place, int], wanted: Wanted,
                  settled: bool, newest: bool) -> tuple[list[tuple[Place, int]], dict[str, set[str]]]:
    """Where wanted letters lie, in the order they were refused (of too many the last or the first), and all marks."""
    marks: dict[str, set[str]] = {}
    found: list[_Found] = []
    async for record in _records(reader, begins, ends):
        mark = mark_of(record)
        if mark is not None:
            marks.setdefault(mark[0], set()).add(mark[1])
        elif len(found) <= MAX_FOUND and wanted(read_letter(record)):
            found.append(_found(record))
    done = frozenset().union(*marks.values()) if not settled else frozenset[str]()
    if len(found) > MAX_FOUND:
        # Only now is it known which of them wait: a mark comes long after its letter.
        found = []
        async for record in _records(reader, begins, ends):
            if record.place not in done and mark_of(record) is None and wanted(read_letter(record)):
                found.append(_found(record))
                if len(found) >= 2 * MAX_FOUND:
                    found = _outermost(found, newest)
        found = _outermost(found, newest)
    return [(place, offset) for _, place, offset, name in sorted(found) if name not in done], marks


def _found(record: Record) -> _Found:
    return record.timestamp_ms, Place(record.topic, record.partition), record.offset, record.place


def _outermost(found: list[_Found], newest: bool) -> list[_Found]:
    return sorted(found)[-MAX_FOUND:] if newest else sorted(found)[:MAX_FOUND]


@asynccontextmanager
async def _reading(broker: Broker, topic_name: str,
                   ) -> AsyncIterator[tuple[Reader, dict[Place, int], dict[Place, int]]]:
    reader = broker.reader([topics.dead_letter_name(topic_name)], group=None, client_id="dead-letters")
    await reader.start()
    try:
        places = sorted(reader.assignment())
        yield reader, dict(await reader.begin_offsets(places)), dict(await reader.end_offsets(places))
    finally:
        await reader.stop()


async def _records(reader: Reader, starts: dict[Place, int], ends: dict[Place, int]) -> AsyncIterator[Record]:
    for place, start in starts.items():
        await reader.seek(place, start)
    while any(reader.position(place) < ends[place] for place in starts):
        found = await reader.poll(max_records=POLL_RECORDS, timeout_s=0.5)
        for part in found.values():
            for record in part:
                yield record


def _marks(records: Collection[Record]) -> dict[str, set[str]]:
    marks: dict[str, set[str]] = {}
    for record in records:
        mark = mark_of(record)
        if mark is not None:
            marks.setdefault(mark[0], set()).add(mark[1])
    return marks


def _marked(letter: Letter, marks: dict[str, set[str]]) -> Letter:
    states = {name for name, places in marks.items() if letter.record.place in places}
    if not states:
        return letter
    return replace(letter, replayed=REPLAYED in states, discarded=bool(states - {REPLAYED}))
