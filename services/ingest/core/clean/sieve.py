"""Which rows of a batch are kept, where that depends on the rows kept before them: duplicates, and unlikely rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.ingest.core.dedupe import Seen

Unlike = Callable[[int], bool]
"""Whether the row is to be turned away for what the rows before it were like; the row is kept otherwise."""


@dataclass(slots=True)
class Sieve:
    """Goes through the candidates of one batch once, in order. `keys` and `contents` are by row.

    A row that is not kept leaves nothing behind, so whatever is turned away may come again corrected.
    """

    seen: Seen
    keys: Sequence[str]
    seen_contents: Seen
    contents: Mapping[int, str] | None
    """None where the content of rows does not matter."""
    kept: list[int] = field(default_factory=list)
    duplicates: int = 0
    repeated: list[int] = field(default_factory=list)
    """Rows whose content was kept under another id."""
    unlike: list[int] = field(default_factory=list)
    _now: set[str] = field(default_factory=set)
    _now_contents: set[str] = field(default_factory=set)

    def take(self, candidates: Sequence[int], most: int, unlike: Unlike | None, end: int) -> int:
        """Keep rows until there are `most` more; the row after the last one looked at then, `end` when all were.

        Called again with candidates from there on.
        """
        if self.contents is None and unlike is None:
            return self._take_at_once(candidates, most, end)
        for row in candidates:
            if self._keeps(row, unlike):
                most -= 1
                if most == 0:
                    return row + 1
        return end

    def _take_at_once(self, candidates: Sequence[int], most: int, end: int) -> int:
        """The same where only the keys matter: what is left to decide is where to stop."""
        keys = self.keys if len(candidates) == len(self.keys) else [self.keys[row] for row in candidates]
        again = set(self.seen.duplicates(keys))
        if self._now and not self._now.isdisjoint(keys):
            again |= {place for place, key in enumerate(keys) if key in self._now}
        fresh: Sequence[int] = [place for place in range(len(keys)) if place not in again] if again \
            else range(len(keys))
        looked_at = len(keys)
        if len(fresh) >= most:
            fresh = fresh[:most]
            looked_at, end = fresh[-1] + 1, candidates[fresh[-1]] + 1
        self.duplicates += looked_at - len(fresh)
        self.kept += [candidates[place] for place in fresh] if len(fresh) < len(candidates) else candidates
        if looked_at < len(keys) and self.seen.ring.window:
            self._now.update(keys[place] for place in fresh)
        return end

    def _keeps(self, row: int, unlike: Unlike | None) -> bool:
        key = self.keys[row]
        if key in self.seen or key in self._now:
            self.duplicates += 1
            return False
        content = self.contents[row] if self.contents is not None else None
        if content is not None and (content in self.seen_contents or content in self._now_contents):
            self.repeated.append(row)
            return False
        if unlike is not None and unlike(row):
            self.unlike.append(row)
            return False
        self.kept.append(row)
        if self.seen.ring.window:
            self._now.add(key)
        if content is not None:
            self._now_contents.add(content)
        return True
