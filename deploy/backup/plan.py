"""What of each topic goes into a backup, and where each partition stood: the cut between topics and database."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from lepton.bus.records import Place
from lepton.contracts import topics
from lepton.contracts.topics import Topic

Kept = Literal["state", "records", "waiting", "offsets"]
"""state: a compacted topic, key by key; records: all that is there; waiting: what somebody has yet to take in; offsets:
only how far it went. All but the first come back at the offsets they had."""

RAW = (Topic.EVENTS, Topic.LABELS)
STORED = {"features": Topic.FEATURES, "outcomes": Topic.OUTCOMES}
"""Chain of the row store -> the topic its offsets are of."""

_WHOLE = (Topic.AUDIT,)
_WAITING = (*STORED.values(), Topic.TRAINING_COMMANDS, Topic.DATA_COMMANDS)


@dataclass(frozen=True, slots=True)
class Span:
    """One partition: records of `[first, end)` are kept, `begin` is the first the topic still had."""

    partition: int
    begin: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class KeptTopic:
    """A topic as it was, and what of it is in the backup."""

    name: str
    kept: Kept
    config: Mapping[str, str]
    spans: tuple[Span, ...]

    @property
    def part(self) -> str:
        return f"topics/{self.name}"

    def now(self, ends: Mapping[Place, int]) -> "KeptTopic":
        """The same topic brought back, where its offsets are new: all of it, up to `ends`."""
        return replace(self, spans=tuple(Span(span.partition, 0, 0, ends[Place(self.name, span.partition)])
                                         for span in self.spans))

    def places(self) -> Iterator[tuple[Place, Span]]:
        return ((Place(self.name, span.partition), span) for span in self.spans)


@dataclass(frozen=True, slots=True)
class Plan:
    """`groups`: committed offsets by consumer group; `created` is RFC 3339, in UTC."""

    stack: str
    created: str
    topics: tuple[KeptTopic, ...]
    groups: Mapping[str, Mapping[Place, int]]

    def to_json(self) -> dict[str, Any]:
        groups = {group: [[place.topic, place.partition, offset] for place, offset in sorted(offsets.items())]
                  for group, offsets in self.groups.items()}
        return {"stack": self.stack, "created": self.created, "topics": [asdict(topic) for topic in self.topics],
                "groups": groups}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Plan":
        kept = tuple(KeptTopic(one["name"], one["kept"], one["config"], tuple(Span(**span) for span in one["spans"]))
                     for one in told["topics"])
        groups = {group: {Place(topic, partition): offset for topic, partition, offset in offsets}
                  for group, offsets in told["groups"].items()}
        return cls(told["stack"], told["created"], kept, groups)


def kept(name: str, config: Mapping[str, str], *, all_events: bool) -> Kept:
    """What is kept of a topic of the platform."""
    found = topics.locate(name)
    if found is None or (found.topic is Topic.INSTANCES and not found.dead_letters):
        # Who was where is not true of another stack.
        return "offsets"
    if compacted(config):
        return "state"
    if found.dead_letters or found.topic in _WHOLE:
        return "records"
    if found.topic in RAW:
        return "records" if all_events else "waiting"
    return "waiting" if found.topic in _WAITING else "offsets"


def compacted(config: Mapping[str, str]) -> bool:
    return "compact" in config.get("cleanup.policy", "")


def is_raw(name: str) -> bool:
    """Whether it holds what producers sent, before anything was made of it."""
    found = topics.locate(name)
    return found is not None and found.topic in RAW and not found.dead_letters
