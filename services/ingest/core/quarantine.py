"""Which sources and fields of a pipeline are quarantined, and which of two decisions about one is the newer."""

from collections.abc import Mapping

# When something was decided: the broker's time in milliseconds, then the offset, as several may share a millisecond.
Moment = tuple[int, int]
Decision = tuple[bool, Moment]
FieldDecision = tuple[bool, Moment, str]
"""With the incident it was decided for; empty where a person did."""
MAX_SOURCES = 1000
"""And as many fields."""


class Newest:
    """Decisions by name. The newest counts, in whatever order they are heard, so every instance ends up alike."""

    def __init__(self) -> None:
        self._decisions: dict[str, FieldDecision] = {}
        self._active: Mapping[str, str] = {}

    @property
    def active(self) -> Mapping[str, str]:
        """What is quarantined, and for which incident."""
        return self._active

    @property
    def all(self) -> Mapping[str, FieldDecision]:
        """For keeping: lifted quarantines too, so that an older record of one cannot bring it back."""
        return self._decisions

    def decide(self, name: str, quarantined: bool, at: Moment, incident_id: str = "") -> bool:
        """Whether this changed what is quarantined."""
        known = self._decisions.get(name)
        if known is not None and known[1] >= at:
            return False
        self._decisions[name] = (quarantined, at, incident_id)
        if len(self._decisions) > MAX_SOURCES:
            self._forget()
        before = set(self._active)
        self._active = {one: incident for one, (active, _, incident) in self._decisions.items() if active}
        return before != set(self._active)

    def merge(self, decisions: Mapping[str, FieldDecision]) -> None:
        for name, decision in decisions.items():
            self.decide(name, *decision)

    def _forget(self) -> None:
        """Lifted quarantines go first, the oldest before others."""
        del self._decisions[min(self._decisions, key=lambda name: self._decisions[name][:2])]


class Quarantine:
    """Of one pipeline. Without more words, what is said here is of sources."""

    def __init__(self) -> None:
        self._sources = Newest()
        self.fields = Newest()
        """Those whose values are to be missing; a row needs some, and of them this changes nothing."""

    @property
    def sources(self) -> frozenset[str]:
        return frozenset(self._sources.active)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """See `Newest.all`."""
        return {source: (active, at) for source, (active, at, _) in self._sources.all.items()}

    def decide(self, source: str, quarantined: bool, at: Moment) -> bool:
        """Whether this changed what is quarantined."""
        return self._sources.decide(source, quarantined, at)

    def merge(self, decisions: Mapping[str, Decision], fields: Mapping[str, FieldDecision] | None = None) -> None:
        for source, (quarantined, at) in decisions.items():
            self.decide(source, quarantined, at)
        self.fields.merge(fields or {})
