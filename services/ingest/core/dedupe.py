"""Which events of a partition were accepted lately, in memory and as the small records that bring it back.

The window is a ring of chunks. A batch rewrites only the newest chunk while that is small, so a batch of one event
costs a record of a few hundred ids and never the whole window; a slot of the ring is a key of the compacted topic.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.errors import Invalid
from services.ingest.core.keys.keys import Keys
from services.ingest.core.keys.state import StateRecord
from services.ingest.core.keys.table import newest
from services.ingest.core.reading.column import Mask, truth

# A chunk is closed once it holds this many entries; the ring's slots are sized by it.
CHUNK_MIN = 512
# Records stay well below the topic's limit with the longest ids.
CHUNK_MAX = 4096

Entry = TypeVar("Entry")


class Sliced(Protocol):
    """Entries in their order, as a list of them or as a column."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Self: ...


Entries = TypeVar("Entries", bound=Sliced)


@dataclass(frozen=True, slots=True)
class Form(Generic[Entries]):
    """How entries are held: what two stretches of them are together, and the bytes of one with its number."""

    join: Callable[[Entries, Entries], Entries]
    pack: Callable[[int, Entries], bytes]
    unpack: Callable[[bytes], tuple[int, Entries]]
    """Raises msgspec.MsgspecError or ValueError for bytes that are none of ours."""


def listed(entry_type: type[Entry]) -> Form[list[Entry]]:
    """Entries in a list."""
    encoder = msgspec.msgpack.Encoder()
    decoder = msgspec.msgpack.Decoder(tuple[int, list[entry_type]])  # type: ignore[valid-type]
    return Form(lambda first, then: [*first, *then], lambda number, entries: encoder.encode((number, entries)),
                decoder.decode)


_KEYS = Form(Keys.joined, lambda number, keys: keys.packed(number), Keys.unpacked)


@dataclass(frozen=True, slots=True)
class Chunk(Generic[Entries]):
    number: int
    entries: Entries


@dataclass(frozen=True, slots=True)
class Plan(Generic[Entries]):
    """What a batch adds. Written with the batch, applied to memory once that is committed."""

    added: Entries
    chunks: list[Chunk[Entries]]
    replaces_newest: bool
    records: list[StateRecord]


class Ring(Generic[Entries]):
    """The newest `window` entries (and at most one chunk more) in the order accepted."""

    def __init__(self, window: int, prefix: str, form: Form[Entries], chunk_max: int = CHUNK_MAX) -> None:
        """`chunk_max`: most entries of a record; fewer where entries are large."""
        self._prefix = prefix
        self._chunk_max = chunk_max
        self.resize(window)
        self._form = form
        self.chunks: deque[Chunk[Entries]] = deque()
        self.size = 0

    def resize(self, window: int) -> None:
        """From the next batch on; slots that are no longer used lose their meaning by their chunk numbers."""
        self.window = window
        self._slots = (window + self._chunk_max) // CHUNK_MIN + 2

    def plan(self, added: Entries) -> Plan[Entries]:
        """How to remember `added`; changes nothing yet."""
        if not len(added) or self.window == 0:
            return Plan(added[:0], [], False, [])
        newest = self.chunks[-1] if self.chunks else None
        goes_on = newest is not None and len(newest.entries) < CHUNK_MIN
        entries = self._form.join(newest.entries, added) if newest is not None and goes_on else added
        number = 0 if newest is None else newest.number + (0 if goes_on else 1)
        chunks = [Chunk(number + index, entries[start:start + self._chunk_max])
                  for index, start in enumerate(range(0, len(entries), self._chunk_max))]
        return Plan(added, chunks, goes_on, [self._record(chunk) for chunk in chunks])

    def apply(self, plan: Plan[Entries]) -> list[Chunk[Entries]]:
        """Remember what was planned; returns the chunks that fell out of the window."""
        if plan.replaces_newest:
            self.size -= len(self.chunks.pop().entries)
        self.chunks.extend(plan.chunks)
        self.size += sum(len(chunk.entries) for chunk in plan.chunks)
        return self._evict()

    def restore(self, values: Iterable[bytes]) -> None:
        """Read the ring's records back. Raises Invalid for one that cannot be read."""
        try:
            found = [Chunk(*self._form.unpack(value)) for value in values]
        except (msgspec.MsgspecError, ValueError) as error:
            raise Invalid(f"a chunk of the dedupe window cannot be read: {error}") from error
        found.sort(key=lambda chunk: chunk.number)
        # A slot left over from a larger window is older than the gap before the chunks in use.
        start = len(found) - 1
        while start > 0 and found[start - 1].number == found[start].number - 1:
            start -= 1
        self.chunks = deque(found[max(start, 0):])
        self.size = sum(len(chunk.entries) for chunk in self.chunks)
        self._evict()

    def _evict(self) -> list[Chunk[Entries]]:
        gone: list[Chunk[Entries]] = []
        while self.chunks and self.size - len(self.chunks[0].entries) >= self.window:
            gone.append(self.chunks.popleft())
            self.size -= len(gone[-1].entries)
        return gone

    def _record(self, chunk: Chunk[Entries]) -> StateRecord:
        key = f"{self._prefix}/{chunk.number % self._slots}"
        return key.encode(), self._form.pack(chunk.number, chunk.entries)


class Seen:
    """Events accepted within the window: by id and entity (names hold no control characters, see quality), or by
    content.

    A key is looked up by its hash; only one whose hash is known is compared, so an answer is right whatever the hashes.
    """

    PREFIX, CONTENT = "seen", "content"

    def __init__(self, window: int, prefix: str = PREFIX) -> None:
        self.ring = Ring(window, prefix, _KEYS)
        self._newest = newest()
        # So many were ever added: the number of the next one. The ring holds the last ones of them.
        self._count = 0
        # Numbers of those whose hash was that of another in the window when they came.
        self._alike: dict[str, int] = {}

    def __len__(self) -> int:
        return self.ring.size

    def restore(self, values: Iterable[bytes]) -> None:
        self.ring.restore(values)
        self._newest, self._count, self._alike = newest(), 0, {}
        for chunk in self.ring.chunks:
            self._count += len(chunk.entries)
            self._add(chunk.entries, 0)

    def known(self, keys: Keys) -> Mask:
        """Which of these were accepted before."""
        found: Mask = np.zeros(len(keys), np.bool_)
        if self.ring.window == 0 or not self.ring.chunks:
            return found
        oldest = self._count - self.ring.size
        numbers = self._newest.find(keys.hashes, oldest)
        hits = np.flatnonzero(numbers >= 0)
        if len(hits):
            held = pa.chunked_array([chunk.entries.texts for chunk in self.ring.chunks]).take(
                pa.array(numbers[hits] - oldest))
            found[hits] = truth(pc.equal(held.combine_chunks(), keys.texts.take(pa.array(hits))))
        if self._alike:
            found |= np.fromiter((text in self._alike for text in keys.texts.to_pylist()), np.bool_, len(keys))
        return found

    def duplicates(self, keys: Keys | Sequence[str]) -> list[int]:
        """Indexes of those accepted before, or earlier in `keys`."""
        if self.ring.window == 0:
            return []
        keys = keys if isinstance(keys, Keys) else Keys.of(keys)
        found, firsts = self.known(keys), keys.firsts()
        if firsts is not None:
            found |= firsts < np.arange(len(keys))
        indexes: list[int] = np.flatnonzero(found).tolist()
        return indexes

    def plan(self, keys: Keys | Sequence[str]) -> Plan[Keys]:
        return self.ring.plan(keys if isinstance(keys, Keys) else Keys.of(keys))

    def apply(self, plan: Plan[Keys]) -> None:
        self.ring.apply(plan)
        self._count += len(plan.added)
        oldest = self._count - self.ring.size
        self._alike = {text: number for text, number in self._alike.items() if number >= oldest}
        self._add(plan.added[max(0, len(plan.added) - self.ring.size):], oldest)

    def _add(self, keys: Keys, oldest: int) -> None:
        """The last ones counted."""
        first = self._count - len(keys)
        alike = self._newest.add(keys.hashes, np.arange(first, self._count), oldest)
        if len(alike):
            self._alike |= zip(keys.texts.take(pa.array(alike)).to_pylist(), (first + alike).tolist(), strict=True)


Said = tuple[str, ...]
"""A label: event id, the label as text and, where the record states it, microseconds since the epoch it is of."""


class LastLabels:
    """The newest label of each event within the window: the same one again is a duplicate, another a correction.

    Said again of a later time it is none: a correction of a time between would count else.
    """

    PREFIX = "labels"

    def __init__(self, window: int) -> None:
        self.ring: Ring[list[Said]] = Ring(window, self.PREFIX, listed(Said))
        self._labels: dict[str, tuple[str, int, int]] = {}

    def restore(self, values: Iterable[bytes]) -> None:
        self.ring.restore(values)
        self._labels = {}
        for chunk in self.ring.chunks:
            self._learn(chunk)

    def duplicates(self, entries: Sequence[Said]) -> list[int]:
        """Indexes of those that say again what was said last."""
        if self.ring.window == 0:
            return []
        now: dict[str, tuple[str, int]] = {}
        found = []
        for index, (event_id, label, *stated) in enumerate(entries):
            last, last_us = now.get(event_id) or self._labels.get(event_id, ("", 0))[:2]
            at_us = int(stated[0]) if stated else 0
            if last == label and at_us <= last_us:
                found.append(index)
            else:
                now[event_id] = (label, at_us)
        return found

    def plan(self, entries: list[Said]) -> Plan[list[Said]]:
        return self.ring.plan(entries)

    def apply(self, plan: Plan[list[Said]]) -> None:
        gone = self.ring.apply(plan)
        for chunk in plan.chunks:
            self._learn(chunk)
        for chunk in gone:
            for event_id, *_ in chunk.entries:
                if self._labels.get(event_id, ("", 0, -1))[2] == chunk.number:
                    del self._labels[event_id]

    def _learn(self, chunk: Chunk[list[Said]]) -> None:
        for event_id, label, *stated in chunk.entries:
            self._labels[event_id] = (label, int(stated[0]) if stated else 0, chunk.number)


def keys_of(ids: pa.StringArray, entities: pa.StringArray) -> pa.StringArray:
    """What an event is known by. Ids and entities hold no control characters, so the line break keeps them apart."""
    return ids if ids is entities else pc.binary_join_element_wise(ids, entities, "\n")
