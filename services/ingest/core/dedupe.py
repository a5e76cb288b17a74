"""Which events of a partition were accepted lately, in memory and as the small records that bring it back.

The window is a ring of chunks. A batch rewrites only the newest chunk while that is small, so a batch of one event
costs a record of a few hundred ids and never the whole window; a slot of the ring is a key of the compacted topic.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from lepton.errors import Invalid

# A chunk is closed once it holds this many entries; the ring's slots are sized by it.
CHUNK_MIN = 512
# Records stay well below the topic's limit with the longest ids.
CHUNK_MAX = 4096

Entry = TypeVar("Entry")
StateRecord = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Chunk(Generic[Entry]):
    number: int
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Plan(Generic[Entry]):
    """What a batch adds. Written with the batch, applied to memory once that is committed."""

    added: list[Entry]
    chunks: list[Chunk[Entry]]
    replaces_newest: bool
    records: list[StateRecord]


class Ring(Generic[Entry]):
    """The newest `window` entries (and at most one chunk more) in the order accepted."""

    def __init__(self, window: int, prefix: str, entry_type: type[Entry], chunk_max: int = CHUNK_MAX) -> None:
        """`chunk_max`: most entries of a record; fewer where entries are large."""
        self._prefix = prefix
        self._chunk_max = chunk_max
        self.resize(window)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(tuple[int, list[entry_type]])  # type: ignore[valid-type]
        self.chunks: deque[Chunk[Entry]] = deque()
        self.size = 0

    def resize(self, window: int) -> None:
        """From the next batch on; slots that are no longer used lose their meaning by their chunk numbers."""
        self.window = window
        self._slots = (window + self._chunk_max) // CHUNK_MIN + 2

    def plan(self, added: list[Entry]) -> Plan[Entry]:
        """How to remember `added`; changes nothing yet."""
        if not added or self.window == 0:
            return Plan([], [], False, [])
        newest = self.chunks[-1] if self.chunks else None
        goes_on = newest is not None and len(newest.entries) < CHUNK_MIN
        entries = [*newest.entries, *added] if newest is not None and goes_on else added
        number = 0 if newest is None else newest.number + (0 if goes_on else 1)
        chunks = [Chunk(number + index, entries[start:start + self._chunk_max])
                  for index, start in enumerate(range(0, len(entries), self._chunk_max))]
        return Plan(added, chunks, goes_on, [self._record(chunk) for chunk in chunks])

    def apply(self, plan: Plan[Entry]) -> list[Chunk[Entry]]:
        """Remember what was planned; returns the chunks that fell out of the window."""
        if plan.replaces_newest:
            self.size -= len(self.chunks.pop().entries)
        self.chunks.extend(plan.chunks)
        self.size += sum(len(chunk.entries) for chunk in plan.chunks)
        return self._evict()

    def restore(self, values: Iterable[bytes]) -> None:
        """Read the ring's records back. Raises Invalid for one that cannot be read."""
        try:
            found = [Chunk(*self._decoder.decode(value)) for value in values]
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

    def _evict(self) -> list[Chunk[Entry]]:
        gone: list[Chunk[Entry]] = []
        while self.chunks and self.size - len(self.chunks[0].entries) >= self.window:
            gone.append(self.chunks.popleft())
            self.size -= len(gone[-1].entries)
        return gone

    def _record(self, chunk: Chunk[Entry]) -> StateRecord:
        key = f"{self._prefix}/{chunk.number % self._slots}"
        return key.encode(), self._encoder.encode((chunk.number, chunk.entries))


class Seen:
    """Events accepted within the window: by id and entity (names hold no control characters, see quality), or by
    content."""

    PREFIX, CONTENT = "seen", "content"

    def __init__(self, window: int, prefix: str = PREFIX) -> None:
        self.ring = Ring(window, prefix, str)
        self._keys: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return self.ring.window > 0 and key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def restore(self, values: Iterable[bytes]) -> None:
        self.ring.restore(values)
        self._keys = {key for chunk in self.ring.chunks for key in chunk.entries}

    def duplicates(self, keys: Sequence[str]) -> list[int]:
        """Indexes of those accepted before, or earlier in `keys`."""
        if self.ring.window == 0:
            return []
        distinct = set(keys)
        if len(distinct) == len(keys) and distinct.isdisjoint(self._keys):
            return []
        known, now, found = self._keys, set[str](), []
        for index, key in enumerate(keys):
            if key in known or key in now:
                found.append(index)
            now.add(key)
        return found

    def plan(self, keys: list[str]) -> Plan[str]:
        return self.ring.plan(keys)

    def apply(self, plan: Plan[str]) -> None:
        gone = self.ring.apply(plan)
        self._keys.update(plan.added)
        for chunk in gone:
            self._keys.difference_update(chunk.entries)


class LastLabels:
    """The newest label of each event within the window: the same one again is a duplicate, another a correction."""

    PREFIX = "labels"

    def __init__(self, window: int) -> None:
        self.ring: Ring[tuple[str, str]] = Ring(window, self.PREFIX, tuple[str, str])
        self._labels: dict[str, tuple[str, int]] = {}

    def restore(self, values: Iterable[bytes]) -> None:
        self.ring.restore(values)
        self._labels = {}
        for chunk in self.ring.chunks:
            self._learn(chunk)

    def duplicates(self, entries: Sequence[tuple[str, str]]) -> list[int]:
        """Indexes of (event id, label as text) that say again what was said last."""
        if self.ring.window == 0:
            return []
        now: dict[str, str] = {}
        found = []
        for index, (event_id, label) in enumerate(entries):
            last = now.get(event_id) or self._labels.get(event_id, ("", 0))[0]
            if last == label:
                found.append(index)
            now[event_id] = label
        return found

    def plan(self, entries: list[tuple[str, str]]) -> Plan[tuple[str, str]]:
        return self.ring.plan(entries)

    def apply(self, plan: Plan[tuple[str, str]]) -> None:
        gone = self.ring.apply(plan)
        for chunk in plan.chunks:
            self._learn(chunk)
        for chunk in gone:
            for event_id, _ in chunk.entries:
                if self._labels.get(event_id, ("", -1))[1] == chunk.number:
                    del self._labels[event_id]

    def _learn(self, chunk: Chunk[tuple[str, str]]) -> None:
        for event_id, label in chunk.entries:
            self._labels[event_id] = (label, chunk.number)


def keys_of(ids: list[str], entities: list[str]) -> list[str]:
    """What an event is known by. Ids and entities hold no control characters, so the line break keeps them apart."""
    if ids is entities:
        return ids
    return [f"{event_id}\n{entity}" for event_id, entity in zip(ids, entities, strict=True)]
