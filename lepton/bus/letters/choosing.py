"""Which dead letters are meant: what must hold of one, and whether it does."""

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from lepton.bus.letters.letter import Letter
from lepton.errors import Invalid

TOPICS = ("events", "labels", "features", "outcomes")
MAX_PATTERN = 500
_ID_PARTS = 3


@dataclass(frozen=True, slots=True)
class LetterId:
    """Where a letter lies: `events/0/12` is offset 12 of partition 0 of the dead letters of the events."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> "LetterId":
        """Raises Invalid."""
        parts = text.split("/")
        if len(parts) != _ID_PARTS or parts[0] not in TOPICS or not all(
                part.isascii() and part.isdigit() and len(part) < 19 for part in parts[1:]):
            raise Invalid(f"{text!r} names no letter", field="letter",
                          remedy=f"write topic/partition/offset, as in events/0/12; topics are {', '.join(TOPICS)}")
        return cls(parts[0], int(parts[1]), int(parts[2]))

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """All that is said must hold. `reason` is a pattern (RE2) found anywhere in it; `partition` and `offset` are those
    of the refused record; `since` is included, `until` is not; `letters` names some one by one."""

    topics: tuple[str, ...] = ("events", "labels")
    reason: str | None = None
    code: str | None = None
    field: str | None = None
    source: str | None = None
    event_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    partition: int | None = None
    offset: int | None = None
    letters: tuple[LetterId, ...] = ()

    def check(self) -> None:
        """Raises Invalid for a pattern that cannot be searched for, or a topic that has no letters."""
        for topic in self.topics:
            if topic not in TOPICS:
                raise Invalid(f"{topic!r} has no dead letters here", field="topic",
                              remedy=f"use one of {', '.join(TOPICS)}")
        if self.reason is not None:
            if len(self.reason) > MAX_PATTERN:
                raise Invalid(f"the pattern is longer than {MAX_PATTERN} characters", field="reason")
            _found(self.reason, "")

    def in_topic(self, topic: str) -> bool:
        """Whether letters of the topic can be meant."""
        return topic in self.topics and (not self.letters or any(one.topic == topic for one in self.letters))

    def matches(self, topic: str, partition: int, offset: int, letter: Letter) -> bool:
        """Whether the letter, which lies at `partition` and `offset` of the dead letters of `topic`, is meant."""
        if self.letters and LetterId(topic, partition, offset) not in self.letters:
            return False
        exact = ((self.code, letter.code), (self.field, letter.field), (self.source, letter.source),
                 (self.event_id, letter.event_id), (self.partition, letter.origin_partition))
        if any(wanted is not None and wanted != is_ for wanted, is_ in exact):
            return False
        if self.offset is not None and letter.origin.rpartition("@")[2].partition("#")[0] != str(self.offset):
            return False
        if (self.since or self.until) and not self._in_time(letter.at):
            return False
        return self.reason is None or _found(self.reason, letter.reason)

    def _in_time(self, at: datetime | None) -> bool:
        return at is not None and (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def _found(pattern: str, text: str) -> bool:
    """Linear in the text whatever the pattern, unlike `re`: patterns come from outside."""
    try:
        return bool(pc.match_substring_regex(pa.scalar(text), pattern).as_py())
    except pa.ArrowInvalid as error:
        raise Invalid(f"no pattern: {error}", field="reason") from error
