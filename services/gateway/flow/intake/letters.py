"""Dead letters of a pipeline: found, shown, sent back, laid aside."""

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lepton.bus.commands.audit import Audit
from lepton.bus.letters.choosing import LetterFilter, LetterId
from lepton.bus.letters.finding import find_letters, letter_at
from lepton.bus.letters.letter import Letter
from lepton.bus.letters.settling import KeyOf, discard, replay
from lepton.bus.records import Broker
from lepton.contracts import topics
from lepton.contracts.files.rows import ORIGIN
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Missing
from services.gateway.core import requests
from services.gateway.core.auth import Caller
from services.gateway.flow.pipelines import Catalogue

__all__ = ["LetterFilter", "LetterId", "Letters", "Settled"]

MAX_SHOWN_BYTES = 4096
MAX_SETTLED = 10_000
"""Letters dealt with by one call; a longer job is several calls."""
SAMPLE = 100
TOPICS: Mapping[str, Topic] = {"events": Topic.EVENTS, "labels": Topic.LABELS, "features": Topic.FEATURES,
                               "outcomes": Topic.OUTCOMES}


_Read = Callable[[Pipeline, requests.Body], Sequence[requests.NewRecord]]
_READERS: Mapping[str, _Read] = {"events": requests.events, "labels": requests.labels}


@dataclass(frozen=True, slots=True)
class Settled:
    """What a replay or discard did, or would do: how many, and the first of them. `more`: the limit was reached."""

    count: int
    letters: list[dict[str, Any]]
    more: bool


class Letters:
    """Every change is in the audit log before it takes effect."""

    def __init__(self, catalogue: Catalogue, broker: Broker, audit: Audit) -> None:
        self._catalogue = catalogue
        self._broker = broker
        self._audit = audit

    async def list(self, name: str, wanted: LetterFilter, limit: int, settled: bool = False) -> list[dict[str, Any]]:
        """The newest that are meant, newest first; `settled`: also those dealt with. Raises Missing, Invalid."""
        wanted.check()
        state = await self._catalogue.state(name)
        found: list[tuple[str, Letter]] = []
        for topic in _topics(wanted):
            chosen = _chosen(wanted, topic)
            found += [(topic, letter) for letter in await find_letters(
                self._broker, _name(state, topic), chosen, limit=limit, newest=True, settled=settled,
                keep_bytes=MAX_SHOWN_BYTES)]
        found.sort(key=lambda one: (one[1].record.timestamp_ms, one[1].record.offset), reverse=True)
        return [_shown(topic, letter) for topic, letter in found[:limit]]

    async def show(self, name: str, where: LetterId) -> dict[str, Any]:
        """Everything of one letter: its whole value as base64, and as text where it is text. Raises Missing."""
        state = await self._catalogue.state(name)
        letter = await letter_at(self._broker, _name(state, where.topic), where.partition, where.offset)
        if letter is None:
            raise Missing(f"there is no dead letter {where}", field="letter",
                          remedy="its retention may have ended; list them again")
        value = letter.record.value or b""
        shown = _shown(where.topic, letter)
        try:
            shown["text"] = value.decode()
        except UnicodeDecodeError:
            shown["text"] = None
        return {**shown, "bytes": len(value), "base64": base64.b64encode(value).decode(),
                "key": (letter.record.key or b"").decode("utf-8", "replace"),
                "headers": {header: told.decode("utf-8", "replace") for header, told in letter.record.headers}}

    async def replay(self, caller: Caller, name: str, wanted: LetterFilter, *, dry_run: bool, again: bool = False,
                     edits: Mapping[LetterId, bytes] | None = None, limit: int = MAX_SETTLED) -> Settled:
        """Send those that are meant back to where they came from, oldest first; one goes back once.

        `again`: also those that were dealt with before. `edits`: what goes back instead of the value of some.
        Raises Missing, Invalid, Refused (another replay is under way), Unavailable.
        """
        state = await self._ready(name, wanted)
        pipeline = self._catalogue.parsed(state)
        edited = {_place(state, where): value for where, value in (edits or {}).items()}
        if not dry_run:
            await self._audit.record(caller.key_id, "dead-letters.replay", name,
                                     _told(wanted, limit, again, len(edited)))

        async def send(topic: str, left: int) -> Sequence[Letter]:
            read = _READERS.get(topic)
            key_of = None if read is None else _keys(pipeline, read)
            return await replay(self._broker, _name(state, topic), _chosen(wanted, topic), dry_run=dry_run, limit=left,
                                again=again, edits=edited, key_of=key_of, keep_bytes=MAX_SHOWN_BYTES)
        return await _each(wanted, limit, send)

    async def discard(self, caller: Caller, name: str, wanted: LetterFilter, *, dry_run: bool,
                      limit: int = MAX_SETTLED) -> Settled:
        """Mark those that are meant as dealt with; they stay on the topic until its retention ends.

        Raises as replay does.
        """
        state = await self._ready(name, wanted)
        if not dry_run:
            await self._audit.record(caller.key_id, "dead-letters.discard", name, _told(wanted, limit, False, 0))

        async def lay_aside(topic: str, left: int) -> Sequence[Letter]:
            return await discard(self._broker, _name(state, topic), _chosen(wanted, topic), dry_run=dry_run,
                                 limit=left, keep_bytes=MAX_SHOWN_BYTES)
        return await _each(wanted, limit, lay_aside)

    async def _ready(self, name: str, wanted: LetterFilter) -> PipelineState:
        wanted.check()
        if not wanted.topics:
            raise Invalid("no topic is named", field="topic")
        return await self._catalogue.state(name)


def _keys(pipeline: Pipeline, read: _Read) -> KeyOf:
    def key(letter: Letter, value: bytes | None) -> bytes | None:
        structured = letter.header("content-type").startswith("application/cloudevents+json")
        attributes = {"id": letter.event_id} if letter.event_id else {}
        try:
            (found,) = read(
                pipeline, requests.Body("cloudevent" if structured else "json", value or b"", attributes))
        except (Invalid, ValueError):
            # Neither, so it is refused again wherever it goes.
            return None
        return found.key.encode()
    return key


def _topics(wanted: LetterFilter) -> list[str]:
    return [topic for topic in TOPICS if wanted.in_topic(topic)]


def _name(state: PipelineState, topic: str) -> str:
    return topics.name(TOPICS[topic], state.name, state.generation)


def _place(state: PipelineState, where: LetterId) -> str:
    return f"{topics.dead_letter_name(_name(state, where.topic))}/{where.partition}@{where.offset}"


def _chosen(wanted: LetterFilter, topic: str) -> Any:
    def chosen(letter: Letter) -> bool:
        return wanted.matches(topic, letter.record.partition, letter.record.offset, letter)
    return chosen


async def _each(wanted: LetterFilter, limit: int,
                settle: Callable[[str, int], Awaitable[Sequence[Letter]]]) -> Settled:
    gone: list[tuple[str, Letter]] = []
    for topic in _topics(wanted):
        if len(gone) < limit:
            gone += [(topic, letter) for letter in await settle(topic, limit - len(gone))]
    return Settled(len(gone), [_shown(topic, letter) for topic, letter in gone[:SAMPLE]], len(gone) >= limit)


def _shown(topic: str, letter: Letter) -> dict[str, Any]:
    return {
        "letter": str(LetterId(topic, letter.record.partition, letter.record.offset)), "place": letter.origin,
        "reason": letter.reason, "code": letter.code, "field": letter.field, "attempts": letter.attempts,
        "at": letter.at.isoformat() if letter.at else None, "service": letter.service, "source": letter.source,
        "row": letter.header(ORIGIN) or None, "replayed": letter.replayed, "discarded": letter.discarded,
        "event_id": letter.event_id or None,
        "text": (letter.record.value or b"")[:MAX_SHOWN_BYTES].decode("utf-8", "replace"),
    }


def _told(wanted: LetterFilter, limit: int, again: bool, edits: int) -> str:
    """What was asked for, as the audit log keeps it: no values of events."""
    told = [f"{name}={value}" for name in ("topics", "reason", "code", "field", "source", "event_id", "since", "until",
                                           "partition", "offset")
            if (value := getattr(wanted, name)) is not None]
    told += [f"letters={','.join(map(str, wanted.letters[:20]))}"] if wanted.letters else []
    return "; ".join([*told, f"limit={limit}", *(["again"] if again else []), *([f"edits={edits}"] if edits else [])])
