"""Events and labels on their way in, and what became of them."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lepton.bus.producer import Producer, outgoing
from lepton.clock import Clock
from lepton.contracts import names
from lepton.contracts.arrow.stream import CONTENT_TYPE
from lepton.contracts.envelope import Envelope
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.topics import Topic
from lepton.runtime.telemetry import Telemetry
from lepton.store.segments import Segments
from services.gateway.core import arrow, requests
from services.gateway.core.auth import Caller
from services.gateway.core.requests import Body, Form, InvalidBody, NewRecord, Written
from services.gateway.flow.pipelines import Catalogue

__all__ = ["Body", "Data", "Form", "InvalidBody", "Stored", "Written"]

EVENT_TYPE = "lepton.event"
LABEL_TYPE = "lepton.label"
READ_AT_ONCE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """A record of several events that is durable on the log."""

    place: str
    rows: int


class Data:
    """Nothing here touches the database on the way in: events are taken while it is away."""

    def __init__(self, catalogue: Catalogue, producer: Producer, segments: Segments,
                 telemetry: Telemetry, clock: Clock) -> None:
        self._catalogue = catalogue
        self._producer = producer
        self._segments = segments
        self._clock = clock
        self._taken = telemetry.counter(names.EVENTS_POSTED, "Events made durable for their senders")

    async def take_events(self, caller: Caller, name: str, body: Body) -> list[Written]:
        """Write every event of the body, or none; returned in their order once all are durable.

        Raises Missing, InvalidBody, Unavailable (some may have been written; sending the same again is harmless).
        """
        return await self._take(caller, name, Topic.EVENTS, EVENT_TYPE, body, requests.events)

    async def take_stream(self, caller: Caller, name: str, data: bytes,
                          attributes: Mapping[str, str]) -> list[Stored]:
        """Write the rows of an Arrow stream to the partitions of their entities, all or none; `attributes` as of Body.

        Raises Missing, InvalidBody, Unavailable (some may have been written; sending the same again is harmless).
        """
        state = await self._catalogue.open_state(name)
        # Megabytes of columns: other requests are answered meanwhile.
        found = await asyncio.to_thread(arrow.pieces, self._catalogue.parsed(state), state.partitions, data)
        envelope = Envelope(source=attributes.get("source") or f"gateway/{caller.key_id}",
                            event_type=attributes.get("type") or EVENT_TYPE, occurred_at=self._clock.now(),
                            spec_version=state.version, content_type=CONTENT_TYPE)
        written = await self._producer.send_all([
            outgoing(Topic.EVENTS, piece.data, key=None, pipeline=name, generation=state.generation, envelope=envelope,
                     partition=piece.partition) for piece in found])
        self._taken.add(sum(piece.rows for piece in found), {names.PIPELINE: name})
        return [Stored(place.place, piece.rows) for piece, place in zip(found, written, strict=True)]

    async def take_labels(self, caller: Caller, name: str, body: Body) -> list[Written]:
        """The same for labels, each keyed by the event it belongs to."""
        return await self._take(caller, name, Topic.LABELS, LABEL_TYPE, body, requests.labels)

    async def _take(self, caller: Caller, name: str, topic: Topic, event_type: str, body: Body,
                    read: Callable[[Pipeline, Body], list[NewRecord]]) -> list[Written]:
        state = await self._catalogue.open_state(name)
        parsed = self._catalogue.parsed(state)
        # A thread costs more than a few events, and less than others wait for megabytes of them.
        records = read(parsed, body) if len(body.data) <= READ_AT_ONCE_BYTES else \
            await asyncio.to_thread(read, parsed, body)
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
