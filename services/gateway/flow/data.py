"""Events and labels on their way in, and what became of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lepton.bus.producer import Producer, outgoing
from lepton.clock import Clock
from lepton.contracts import names, topics
from lepton.contracts.envelope import Envelope
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.topics import Topic
from lepton.runtime.telemetry import Telemetry
from lepton.store.segments import Segments
from services.gateway.core import requests
from services.gateway.core.auth import Caller
from services.gateway.core.requests import Body, Form, InvalidBody, NewRecord
from services.gateway.flow.pipelines import Catalogue
from services.gateway.flow.streams import Streams

__all__ = ["Body", "Data", "Form", "InvalidBody", "Written"]

EVENT_TYPE = "lepton.event"
LABEL_TYPE = "lepton.label"
MAX_SHOWN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Written:
    """A record that is durable on the log: `place` is `topic/partition@offset`."""

    event_id: str
    place: str


class Data:
    """Nothing here touches the database on the way in: events are taken while it is away."""

    def __init__(self, catalogue: Catalogue, producer: Producer, streams: Streams, segments: Segments,
                 telemetry: Telemetry, clock: Clock) -> None:
        self._catalogue = catalogue
        self._producer = producer
        self._streams = streams
        self._segments = segments
        self._clock = clock
        self._taken = telemetry.counter(names.EVENTS_POSTED, "Events made durable for their senders")

    async def take_events(self, caller: Caller, name: str, body: Body) -> list[Written]:
        """Write every event of the body, or none; returned in their order once all are durable.

        Raises Missing, InvalidBody, Unavailable (some may have been written; sending the same again is harmless).
        """
        return await self._take(caller, name, Topic.EVENTS, EVENT_TYPE, body, requests.events)

    async def take_labels(self, caller: Caller, name: str, body: Body) -> list[Written]:
        """The same for labels, each keyed by the event it belongs to."""
        return await self._take(caller, name, Topic.LABELS, LABEL_TYPE, body, requests.labels)

    async def _take(self, caller: Caller, name: str, topic: Topic, event_type: str, body: Body,
                    read: Callable[[Pipeline, Body], list[NewRecord]]) -> list[Written]:
        state = await self._catalogue.state(name)
        records = read(self._catalogue.parsed(state), body)
        now = self._clock.now()
        written = await self._producer.send_all([
            outgoing(topic, record.value, key=record.key, pipeline=name, generation=state.generation, envelope=Envelope(
                event_id=record.event_id, occurred_at=record.occurred_at or now,
                source=record.source or f"gateway/{caller.key_id}", event_type=record.event_type or event_type,
                spec_version=state.version, content_type=record.content_type))
            for record in records])
        if topic is Topic.EVENTS:
            self._taken.add(len(records), {names.PIPELINE: name})
        return [Written(record.event_id, place.place) for record, place in zip(records, written, strict=True)]

    async def rows(self, name: str) -> dict[str, Any]:
        """Rows in the store: accepted events, and outcomes that became known."""
        state = await self._catalogue.state(name)
        accepted = await self._segments.heads("features", name, state.generation)
        outcomes = await self._segments.heads("outcomes", name, state.generation)
        return {
            "pipeline": name, "generation": state.generation,
            "accepted": sum(head.rows for head in accepted.values()),
            "outcomes": sum(head.rows for head in outcomes.values()),
            "partitions": [{"partition": partition, "rows": head.rows, "next_offset": head.next}
                           for partition, head in sorted(accepted.items())],
        }

    async def dead_letters(self, name: str, count: int) -> list[dict[str, Any]]:
        """The newest events and labels that were refused, newest first, with reason, field and the original text."""
        state = await self._catalogue.state(name)
        found = [letter for topic in (Topic.EVENTS, Topic.LABELS) if _has_dead_letters(topic)
                 for letter in await self._streams.dead_letters(topics.name(topic, name, state.generation), count)]
        found.sort(key=lambda letter: letter.record.timestamp_ms, reverse=True)
        return [{
            "place": letter.origin, "reason": letter.reason, "field": letter.field, "attempts": letter.attempts,
            "at": letter.at.isoformat() if letter.at else None, "service": letter.service,
            "replayed": letter.replayed, "event_id": Envelope.from_headers(_readable(letter.record.headers)).event_id,
            "text": (letter.record.value or b"")[:MAX_SHOWN_BYTES].decode("utf-8", "replace"),
        } for letter in found[:count]]


def _has_dead_letters(topic: Topic) -> bool:
    return topics.spec(topic).dead_letter is not None


def _readable(headers: tuple[tuple[str, bytes], ...]) -> list[tuple[str, bytes]]:
    """Only the event id: other headers of a refused record may be the very reason it was refused."""
    return [(name, value.decode("utf-8", "replace").encode()) for name, value in headers if name == "ce_id"]
