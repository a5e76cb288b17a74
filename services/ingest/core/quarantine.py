"""Which sources of a pipeline are quarantined, and which of two decisions about one source is the newer."""

from collections.abc import Mapping

# When something was decided: the broker's time in milliseconds, then the offset, as several may share a millisecond.
Moment = tuple[int, int]
Decision = tuple[bool, Moment]
MAX_SOURCES = 1000


class Quarantine:
    """Decisions by source. The newest counts, in whatever order they are heard, so every instance ends up alike."""

    def __init__(self) -> None:
        self._decisions: dict[str, Decision] = {}
        self._sources: frozenset[str] = frozenset()

    @property
    def sources(self) -> frozenset[str]:
        return self._sources

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """For keeping: lifted quarantines too, so that an older record of one cannot bring it back."""
        return self._decisions

    def decide(self, source: str, quarantined: bool, at: Moment) -> bool:
        """Whether this changed what is quarantined."""
        known = self._decisions.get(source)
        if known is not None and known[1] >= at:
            return False
        self._decisions[source] = (quarantined, at)
        if len(self._decisions) > MAX_SOURCES:
            self._forget()
        before = self._sources
        self._sources = frozenset(name for name, (active, _) in self._decisions.items() if active)
        return before != self._sources

    def merge(self, decisions: Mapping[str, Decision]) -> None:
        for source, (quarantined, at) in decisions.items():
            self.decide(source, quarantined, at)

    def _forget(self) -> None:
        """Lifted quarantines go first, the oldest before others."""
        oldest = min(self._decisions, key=lambda source: (self._decisions[source][0], self._decisions[source][1]))
        del self._decisions[oldest]
