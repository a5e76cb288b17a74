"""Which rows of a batch are kept, where that depends on the rows kept before them: duplicates, and unlikely rows."""

from collections.abc import Callable

import numpy as np

from services.ingest.core.dedupe import Seen
from services.ingest.core.keys.keys import Keys
from services.ingest.core.keys.table import Places
from services.ingest.core.reading.column import Mask

Unlike = Callable[[int], bool]
"""Whether the row is to be turned away for what the rows before it were like; the row is kept otherwise."""


class Known:
    """Which rows of a batch say by their key, or by their content, what was kept before; `keys` are by row."""

    def __init__(self, seen: Seen, keys: Keys) -> None:
        self._counts = seen.ring.window > 0
        self._before = seen.known(keys)
        self._firsts = keys.firsts() if self._counts else None
        self._now: Mask = np.zeros(len(keys) if self._firsts is not None else 0, np.bool_)
        """By the first row of a key that comes several times: whether a row of that key was kept."""

    def __contains__(self, row: int) -> bool:
        return bool(self._before[row]) or (self._firsts is not None and bool(self._now[self._firsts[row]]))

    def again(self, rows: Places) -> Mask:
        """Which of these rows are, each if all before it in `rows` that are not are kept."""
        found = self._before[rows]
        if self._firsts is not None:
            mine = self._firsts[rows]
            found |= self._now[mine]
            fresh = np.flatnonzero(~found)
            _, first = np.unique(mine[fresh], return_index=True)
            later = np.ones(len(fresh), np.bool_)
            later[first] = False
            found[fresh[later]] = True
        return found

    def keep(self, rows: Places | int) -> None:
        if self._firsts is not None:
            self._now[self._firsts[rows]] = True


class Sieve:
    """Goes through the candidates of one batch once, in order.

    A row that is not kept leaves nothing behind, so whatever is turned away may come again corrected.
    """

    def __init__(self, keys: Known, contents: Known | None) -> None:
        """`contents`: None where the content of rows does not matter."""
        self._keys, self._contents = keys, contents
        self.duplicates = 0
        self.repeated: list[int] = []
        """Rows whose content was kept under another id."""
        self.unlike: list[int] = []
        self._kept: list[Places] = []

    @property
    def newest(self) -> Places:
        """Rows the last call of `take` kept."""
        return self._kept[-1] if self._kept else np.zeros(0, np.int64)

    @property
    def kept(self) -> Places:
        return np.concatenate(self._kept) if self._kept else np.zeros(0, np.int64)

    def take(self, candidates: Places, most: int, unlike: Unlike | None, end: int) -> int:
        """Keep rows until there are `most` more; the row after the last one looked at then, `end` when all were.

        Called again with candidates from there on.
        """
        if self._contents is None and unlike is None:
            return self._take_at_once(candidates, most, end)
        kept = []
        for row in candidates.tolist():
            if self._keeps(row, unlike):
                kept.append(row)
                if len(kept) == most:
                    end = row + 1
                    break
        self._kept.append(np.array(kept, np.int64))
        return end

    def _take_at_once(self, candidates: Places, most: int, end: int) -> int:
        """The same where only the keys matter: what is left to decide is where to stop."""
        again = self._keys.again(candidates)
        fresh = np.flatnonzero(~again)
        looked_at = len(candidates)
        if len(fresh) >= most:
            fresh = fresh[:most]
            looked_at, end = int(fresh[-1]) + 1, int(candidates[fresh[-1]]) + 1
        self.duplicates += looked_at - len(fresh)
        kept = candidates[fresh]
        self._keys.keep(kept)
        self._kept.append(kept)
        return end

    def _keeps(self, row: int, unlike: Unlike | None) -> bool:
        if row in self._keys:
            self.duplicates += 1
            return False
        if self._contents is not None and row in self._contents:
            self.repeated.append(row)
            return False
        if unlike is not None and unlike(row):
            self.unlike.append(row)
            return False
        self._keys.keep(row)
        if self._contents is not None:
            self._contents.keep(row)
        return True
