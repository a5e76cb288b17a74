"""Finds the version each opinion is about, and counts an author's first word on an event, within bounded memory."""

from collections import OrderedDict
from dataclasses import dataclass, field

from services.watchdog.core.quality.join import MAX_WAITING, Joiner
from services.watchdog.core.summaries.counts import Opined

# Of one author so many wait for their predictions at most, the newest: who floods crowds out nobody else's.
MAX_OF_AUTHOR = 5_000
# Authors and versions given on at a tick: a bound for the journal. Others are given at the next ticks, none is lost.
MAX_GIVEN = 50


@dataclass(slots=True)
class Opinions:
    """Of one pipeline. Predictions are those that `joiner` remembers; versions it does not know cannot be claimed."""

    joiner: Joiner
    limit: int = MAX_WAITING
    waiting: OrderedDict[str, dict[str, bool]] = field(default_factory=OrderedDict)
    """By event without a prediction: its authors, and whether they reject."""
    _of_author: dict[str, OrderedDict[str, None]] = field(default_factory=dict)
    """The same by author: events, oldest first."""
    _counted: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)
    _said: dict[tuple[int, str], list[int]] = field(default_factory=dict)

    def opined(self, event_id: str, author: str, rejected: bool, version: int = 0) -> None:
        """The logged prediction tells the version; without one, the `version` that the author names."""
        if (event_id, author) in self._counted:
            return
        found = self.joiner.version_of(event_id) or (version if version in self.joiner.classes else 0)
        if found:
            self._count(event_id, author, rejected, found)
        elif author not in self.waiting.get(event_id, ()):
            self.waiting.setdefault(event_id, {})[author] = rejected
            self._of_author.setdefault(author, OrderedDict())[event_id] = None
            self._bound(author)

    def predicted(self, event_id: str, version: int) -> None:
        """To be told while `waiting` is not empty."""
        authors = self.waiting.pop(event_id, None)
        if authors is not None:
            self._leave(event_id, authors)
            for author, rejected in authors.items():
                self._count(event_id, author, rejected, version)

    def take(self) -> list[Opined]:
        """What was counted and not yet given, in the order it came."""
        given = list(self._said)[:MAX_GIVEN]
        return [Opined(self.joiner.pipeline, version, author, *self._said.pop((version, author)))
                for version, author in given]

    def _count(self, event_id: str, author: str, rejected: bool, version: int) -> None:
        self._counted[event_id, author] = None
        if len(self._counted) > self.limit:
            self._counted.popitem(last=False)
        self._said.setdefault((version, author), [0, 0])[rejected] += 1

    def _bound(self, author: str) -> None:
        """A prediction that was never logged is waited for until newer opinions take its place."""
        own = self._of_author[author]
        while len(own) > MAX_OF_AUTHOR:
            oldest, _ = own.popitem(last=False)
            del self.waiting[oldest][author]
            if not self.waiting[oldest]:
                del self.waiting[oldest]
        while len(self.waiting) > self.limit:
            self._leave(*self.waiting.popitem(last=False))

    def _leave(self, event_id: str, authors: dict[str, bool]) -> None:
        for author in authors:
            del self._of_author[author][event_id]
            if not self._of_author[author]:
                del self._of_author[author]
