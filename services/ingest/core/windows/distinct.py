"""How many different values a window holds: exactly up to a bound, estimated beyond, the same whatever was cut how.

Of the values in a pane the smallest 64-bit hashes are kept, `BOUND` + 1 of them at most. While there are no more than
`BOUND` they are all there and are counted. Beyond, the largest kept one tells how densely the hashes lie: the estimate
for k minimum values (Bar-Yossef et al. 2002; Beyer et al. 2007), whose standard error is about 1 / sqrt(BOUND), 6 %.
The smallest hashes of a union are those of the parts' smallest, so panes merge without further loss.
"""

import hashlib
from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.ingest.core.windows.runs import Array, Bools, Floats, Ints

BOUND = 256
_RANGE = float(2**64)
_Words = npt.NDArray[np.uint64]


def kept(data: bytes = b"") -> "array[int]":
    """Hashes of a pane, rising: eight bytes each, and quick to look through and to insert into, unlike numpy's."""
    words = array("Q")
    words.frombytes(data)
    return words



@dataclass(frozen=True, slots=True)
class Hashes:
    """One a row; those with `counts` false have no value."""

    words: _Words
    counts: Bools

    def take(self, which: Array) -> "Hashes":
        return Hashes(self.words[which], self.counts[which])


def hashes_of(column: pa.Array) -> Hashes:
    """The same for the same value, in every process and for ever. No number that is not finite is a value."""
    counts = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
    if pa.types.is_string(column.type):
        encoded = column.dictionary_encode()
        found = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
                 for text in encoded.dictionary.to_pylist()]
        places = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
        words = np.array(found or [0], np.uint64)
        return Hashes(words[places], counts)
    if pa.types.is_floating(column.type):
        numbers = np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
        # Adding zero makes one of the two zeros.
        return Hashes(_mixed((numbers + 0.0).view(np.uint64)), counts & np.isfinite(numbers))
    whole = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return Hashes(_mixed(np.asarray(whole, np.int64).view(np.uint64)), counts)


def _mixed(words: _Words) -> _Words:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def count(reach: int, cells: "tuple[Ints, Ints, Array]", cell_of: Ints, pane: Ints, hashes: Hashes) -> Floats:
    """How many values the window of each row holds, in the order of rows (lives one after another).

    `cells`: owner, pane and kept hashes (None: none yet), sorted; the hashes of cells that rows fell into are replaced.
    """
    owners, panes, sets = cells
    found = np.empty(len(pane))
    changed: dict[int, _Smallest] = {}
    first = 0
    spans: _Spans | None = None
    for row, (cell, at, word, counts) in enumerate(zip(
            cell_of.tolist(), pane.tolist(), hashes.words.tolist(), hashes.counts.tolist(), strict=True)):
        if reach > 1 and (spans is None or owners[cell] != spans.owner):
            first = int(np.searchsorted(owners, owners[cell]))
            until = int(np.searchsorted(owners, owners[cell], side="right"))
            spans = _Spans.of(int(owners[cell]), reach, panes[first:until].tolist(), sets[first:until])
        if cell not in changed:
            changed[cell] = spans.pane(at) if spans is not None else _Smallest.of(sets[cell])
        if spans is not None:
            found[row] = spans.count(at, word if counts else None)
        else:
            if counts:
                changed[cell].add(word)
            found[row] = changed[cell].count()
    for cell, smallest in changed.items():
        sets[cell] = smallest.words
    return found


@dataclass(slots=True)
class _Smallest:
    """The smallest hashes of one pane, rising."""

    words: "array[int]" = field(default_factory=kept)

    @classmethod
    def of(cls, words: "array[int] | None") -> "_Smallest":
        return cls(kept() if words is None else words[:])

    def __contains__(self, word: int) -> bool:
        place = bisect_left(self.words, word)
        return place < len(self.words) and self.words[place] == word

    def add(self, word: int) -> int | None:
        """The hash that has no place any more, if any: another one or `word` itself."""
        place = bisect_left(self.words, word)
        if place < len(self.words) and self.words[place] == word:
            return None
        if place > BOUND:
            return word
        self.words.insert(place, word)
        return self.words.pop() if len(self.words) > BOUND + 1 else None

    def count(self) -> float:
        return _count(self.words)


def _count(words: Sequence[int]) -> float:
    """`words`: all, rising, or at least the smallest `BOUND` + 1."""
    return float(len(words)) if len(words) <= BOUND else BOUND / ((words[BOUND] + 1) / _RANGE)


@dataclass(slots=True)
class _Spans:
    """The panes of one owner while its rows go by, and the union of those in the newest window."""

    owner: int
    reach: int
    panes: dict[int, _Smallest]
    newest: int
    last_pane: dict[int, int]
    """Of each hash in the newest window, the last pane that holds it."""
    words: list[int]
    """Those hashes, rising."""

    @classmethod
    def of(cls, owner: int, reach: int, panes: list[int], sets: Array) -> "_Spans":
        held = {pane: _Smallest.of(words) for pane, words in zip(panes, sets, strict=True) if words is not None}
        newest = max(held, default=min(panes))
        last = {word: pane for pane in sorted(held) if pane > newest - reach for word in held[pane].words}
        return cls(owner, reach, held, newest, last, sorted(last))

    def pane(self, pane: int) -> _Smallest:
        return self.panes.setdefault(pane, _Smallest())

    def count(self, pane: int, word: int | None) -> float:
        """Values in the window that ends with `pane`, into which `word` comes."""
        if pane > self.newest:
            self._advance(pane)
        if word is not None:
            gone = self.panes[pane].add(word)
            if gone != word and pane > self.newest - self.reach:
                self._note(word, pane)
            if gone is not None and self.last_pane.get(gone) == pane:
                self._forget(gone)
        if pane == self.newest:
            return _count(self.words)
        inside = [self.panes[one].words for one in range(pane - self.reach + 1, pane + 1) if one in self.panes]
        return _count(sorted(set[int]().union(*inside)))

    def _note(self, word: int, pane: int) -> None:
        if word not in self.last_pane:
            insort(self.words, word)
        self.last_pane[word] = max(pane, self.last_pane.get(word, pane))

    def _forget(self, word: int) -> None:
        """A pane holds the hash no more; an older one of the window may."""
        del self.last_pane[word]
        holding = [one for one, held in self.panes.items()
                   if self.newest - self.reach < one <= self.newest and word in held]
        if holding:
            self.last_pane[word] = max(holding)
        else:
            del self.words[bisect_left(self.words, word)]

    def _advance(self, pane: int) -> None:
        oldest = pane - self.reach
        for gone in [one for one in self.panes if self.newest - self.reach < one <= oldest]:
            for word in self.panes[gone].words:
                if self.last_pane.get(word) == gone:
                    del self.last_pane[word]
                    del self.words[bisect_left(self.words, word)]
        self.newest = pane
