"""Which of the newest entries of a growing list has a given hash: open addressing, a column of hashes at a time."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lepton.native import built

if TYPE_CHECKING:
    from lepton.native import loops

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Places = np.ndarray[Any, np.dtype[np.int64]]

_NEVER = -1
_LEAST_SLOTS = 1024


class Newest(Protocol):
    """Numbers of entries by hash; an entry whose number is below the `oldest` of a call is as good as gone."""

    @property
    def slots(self) -> int:
        """How many entries there is room for, used or not."""

    def find(self, hashes: Hashes, oldest: int) -> Places:
        """For each hash the number of its living entry, -1 where there is none."""

    def add(self, hashes: Hashes, numbers: Places, oldest: int) -> Places:
        """Entries with these numbers, none below `oldest`; places of those left out, as a living one has their hash.

        Of several with one hash one is added, whichever.
        """


def newest() -> Newest:
    """None yet."""
    loops = built()
    return PythonNewest() if loops is None else NativeNewest(loops.Newest())


class NativeNewest:
    """The table of the native loops."""

    def __init__(self, table: "loops.Newest") -> None:
        self._table = table

    @property
    def slots(self) -> int:
        return self._table.size

    def find(self, hashes: Hashes, oldest: int) -> Places:
        return np.frombuffer(self._table.find(hashes.tobytes(), oldest), np.int64)

    def add(self, hashes: Hashes, numbers: Places, oldest: int) -> Places:
        return np.frombuffer(self._table.add(hashes.tobytes(), numbers.tobytes(), oldest), np.int64)


class PythonNewest:
    """A column of hashes at a time.

    A hash of a living entry is here once. What is gone keeps its slot until the table is made anew, which it is, with
    what lives, before more than half of the slots are used: so a look-up ends after two steps in the mean (Knuth 6.4,
    double hashing), and the table stops growing when the number of living entries does.
    """

    def __init__(self) -> None:
        self._numbers = np.full(_LEAST_SLOTS, _NEVER, np.int64)
        self._hashes = np.zeros(_LEAST_SLOTS, np.uint64)
        self._used = 0

    @property
    def slots(self) -> int:
        return len(self._numbers)

    def find(self, hashes: Hashes, oldest: int) -> Places:
        found = np.full(len(hashes), _NEVER, np.int64)
        rows: Any = slice(None)
        mine, (slots, steps) = hashes, self._way(hashes)
        while len(slots):
            numbers = self._numbers[slots]
            on = numbers != _NEVER
            hit = on & (numbers >= oldest)
            hit[hit] = self._hashes[slots[hit]] == mine[hit]
            if hit.any():
                found[np.flatnonzero(hit) if isinstance(rows, slice) else rows[hit]] = numbers[hit]
                on &= ~hit
            rows = np.flatnonzero(on) if isinstance(rows, slice) else rows[on]
            mine, steps = mine[on], steps[on]
            slots = (slots[on] + steps) & (len(self._numbers) - 1)
        return found

    def add(self, hashes: Hashes, numbers: Places, oldest: int) -> Places:
        self._make_room(len(hashes), oldest)
        out = []
        rows = np.arange(len(hashes))
        slots, steps = self._way(hashes)
        while len(rows):
            held = self._numbers[slots]
            free = held == _NEVER
            # Of several that want a slot the last gets it; the others look at it again.
            self._numbers[slots[free]] = numbers[rows[free]]
            won = free & (self._numbers[slots] == numbers[rows])
            self._hashes[slots[won]] = hashes[rows[won]]
            self._used += int(won.sum())
            alike = ~free & (held >= oldest) & (self._hashes[slots] == hashes[rows])
            out.append(rows[alike])
            steps_on = np.where(free, 0, steps)
            on = ~won & ~alike
            rows, slots, steps = rows[on], (slots[on] + steps_on[on]) & (len(self._numbers) - 1), steps[on]
        return np.sort(np.concatenate(out)) if out else rows

    def _way(self, hashes: Hashes) -> tuple[Places, Places]:
        """The first slot to look at, and how far it is to the next each time: odd, so that all slots are passed."""
        mask = np.uint64(len(self._numbers) - 1)
        return (hashes & mask).astype(np.int64), ((hashes >> np.uint64(40)).astype(np.int64) | 1)

    def _make_room(self, count: int, oldest: int) -> None:
        if 2 * (self._used + count) <= len(self._numbers):
            return
        living = np.flatnonzero(self._numbers >= max(oldest, 0))
        hashes, numbers = self._hashes[living], self._numbers[living]
        slots = len(self._numbers)
        while 2 * (len(living) + count) > slots:
            slots *= 2
        if slots > len(self._numbers):
            self._numbers, self._hashes = np.empty(slots, np.int64), np.empty(slots, np.uint64)
        self._numbers.fill(_NEVER)
        self._used = 0
        self.add(hashes, numbers, oldest)
