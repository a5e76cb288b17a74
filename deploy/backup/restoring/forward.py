"""Going on from a backup with the raw events of a later one, up to a time or to given offsets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from deploy.backup.archive import records
from deploy.backup.archive.parts import Manifest, walk
from deploy.backup.archive.secret import Secret
from deploy.backup.archive.tally import Tally
from deploy.backup.plan import KeptTopic, Plan, Span, is_raw
from lepton.bus.records import Place, Record
from lepton.errors import Invalid, Refused

_TOPICS = "topics/"


@dataclass(frozen=True)
class Until:
    """Where to end: the broker's time of a record, in ms since the epoch, or the next offset of some partitions."""

    time_ms: int | None = None
    offsets: Mapping[Place, int] = field(default_factory=dict)

    def ends(self, record: Record) -> bool:
        """Whether this record, and all behind it in its partition, is past the end."""
        limit = self.offsets.get(Place(record.topic, record.partition))
        return (self.time_ms is not None and record.timestamp_ms > self.time_ms) or \
            (limit is not None and record.offset >= limit)


def until(text: Sequence[str]) -> Until:
    """From what a person writes: one RFC 3339 time, or TOPIC/PARTITION@OFFSET for each of some partitions.

    Raises Invalid.
    """
    offsets: dict[Place, int] = {}
    time_ms = None
    for one in text:
        place, found, offset = one.rpartition("@")
        topic, slash, partition = place.rpartition("/")
        if found and slash and partition.isdigit() and offset.isdigit():
            offsets[Place(topic, int(partition))] = int(offset)
            continue
        try:
            at = datetime.fromisoformat(one)
        except ValueError as error:
            raise Invalid(f"{one!r} is neither a time nor an offset", field="until",
                          remedy="write 2026-05-04T12:00:00Z, or lepton-events-phishing/0@1234") from error
        time_ms = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    return Until(time_ms, offsets)


class Forward:
    """The raw events of the backup that is brought back, and those of a `later` one that follow on."""

    def __init__(self, base: Path, later: Path, secret: Secret, manifest: Manifest, end: Until) -> None:
        self._paths = (base, later)
        self._secret = secret
        self._plan = Plan.from_json(manifest.plan)
        self._until = end
        self._later: dict[Place, Span] = {}
        self._ended: dict[Place, int] = {}
        self._tallies: dict[str, Tally] = {}

    def plan(self, base: Plan) -> Plan:
        """The base, with each partition of raw events ending where it is to end.

        Raises Refused when the two are not of one stack, in this order; when events between them are in neither; when
        the end is before what the base has taken in already.
        """
        if (self._plan.stack, self._plan.created > base.created) != (base.stack, True):
            raise Refused(f"events can only be gone on with from a later backup of the stack {base.stack}",
                          place=str(self._paths[1]))
        theirs = {topic.name: topic for topic in self._plan.topics if is_raw(topic.name)}
        mine = {topic.name: topic for topic in base.topics if topic.name in theirs}
        for name, topic in mine.items():
            self._later |= _following(topic, theirs[name])
        self._tallies = {topic.part: Tally() for topic in mine.values()}
        for name, found in self.records():
            for record in found:
                self._tallies[name].add(records.account(record, with_offset=True))
        plan = replace(base, topics=tuple(self._longer(topic) if topic.name in mine else topic
                                          for topic in base.topics))
        self._require_after(base, {place: span.end for topic in plan.topics if topic.name in mine
                                   for place, span in topic.places()})
        return plan

    def has(self, part: str) -> bool:
        return part in self._tallies

    def tallies(self) -> Mapping[str, Tally]:
        return self._tallies

    def records(self) -> Iterator[tuple[str, Sequence[Record]]]:
        """By part, what is to be laid: the base's until the later backup's begin, then those."""
        for number, path in enumerate(self._paths):
            for name, frame in walk(path, self._secret):
                if name in self._tallies and frame:
                    found = records.decode(name.removeprefix(_TOPICS), frame)
                    yield name, [record for record in found if self._wanted(record, of_base=number == 0)]

    def _wanted(self, record: Record, *, of_base: bool) -> bool:
        place = Place(record.topic, record.partition)
        if of_base and record.offset >= self._later[place].first:
            return False
        if place not in self._ended and self._until.ends(record):
            self._ended[place] = record.offset
        return place not in self._ended or record.offset < self._ended[place]

    def _longer(self, topic: KeptTopic) -> KeptTopic:
        spans = []
        for place, span in topic.places():
            later = self._later[place]
            spans.append(replace(span, first=min(span.first, later.first), end=self._ended.get(place, later.end)))
        return replace(topic, kept="records", spans=tuple(spans))

    @staticmethod
    def _require_after(base: Plan, ends: Mapping[Place, int]) -> None:
        for offsets in base.groups.values():
            for place, offset in offsets.items():
                if offset > ends.get(place, offset):
                    raise Refused(f"the end is at offset {ends[place]}, and {offset} are taken in by the backup",
                                  place=f"{place.topic}/{place.partition}", remedy="begin with an earlier backup")


def _following(base: KeptTopic, later: KeptTopic) -> dict[Place, Span]:
    found = {}
    for (place, mine), theirs in zip(base.places(), later.spans, strict=True):
        if theirs.first > mine.end:
            raise Refused(f"events of offsets {mine.end} to {theirs.first} are in neither backup",
                          place=f"{place.topic}/{place.partition}",
                          remedy="begin with a later backup, or go on with an earlier one")
        found[place] = theirs
    return found
